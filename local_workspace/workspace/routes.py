"""The Workspace API: notebooks, files and directories. DBC and R Markdown are refused, HTML is for export only."""

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from local_workspace.bodies import read, read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.parity import differs
from local_workspace.workspace.conversions import as_html, as_jupyter, as_source, cells_of, marked
from local_workspace.workspace.formats import classify
from local_workspace.workspace.store import EXTENSIONS, normal

MAX_CONTENT = 10 << 20
MAX_BODY = 2 * MAX_CONTENT
EXPORTS = ("SOURCE", "AUTO", "JUPYTER", "HTML", "RAW", "DBC", "R_MARKDOWN")


def router(ws: LocalWorkspace) -> APIRouter:
    """The Workspace API."""
    api = APIRouter(prefix="/api/2.0")
    objects = ws.objects

    @api.post("/workspace/import")
    async def import_(request: Request) -> dict[str, Any]:
        fields = await _import_fields(request)
        await run_in_threadpool(_store, fields)
        return {}

    @api.post("/workspace-files/import-file/{path:path}")
    async def import_file(path: str, request: Request, overwrite: bool = False) -> dict[str, Any]:
        _check_length(request)
        fields = {"path": f"/{path.lstrip('/')}", "content": await read(request, MAX_BODY), "format": "AUTO"}
        await run_in_threadpool(_store, fields | {"overwrite": overwrite})
        return {}

    def _store(fields: dict[str, Any]) -> None:
        content = fields["content"]
        if len(content) > MAX_CONTENT:
            raise BadRequest(
                f"content has {len(content)} bytes; the limit is {MAX_CONTENT}", error_code="MAX_NOTEBOOK_SIZE_EXCEEDED"
            )
        path, language = normal(fields.get("path")), fields.get("language") or None
        item = classify(path, content, str(fields.get("format") or "SOURCE"), language)
        overwrite = str(fields.get("overwrite", False)).lower() == "true"
        if item.object_type == "NOTEBOOK" and item.language and not item.jupyter:
            content = marked(content, item.language)
        objects.write(item.path, content, item.object_type, item.language, item.jupyter, overwrite)

    @api.get("/workspace/export")
    @differs("HTML shows the cells, not their last outputs")
    def export(path: str, format: str = "SOURCE", direct_download: bool = False) -> Any:
        row = objects.status(normal(path))
        if row["object_type"] == "DIRECTORY":
            raise NotImplementedHere("local_workspace does not export directories")
        content, extension = _exported(row, objects.read(row), format)
        if direct_download:
            return Response(content, media_type="application/octet-stream")
        return {"content": base64.b64encode(content).decode(), "file_type": extension}

    @api.get("/workspace/list")
    def list_(path: str, notebooks_modified_after: int = 0) -> dict[str, Any]:
        rows = objects.children(normal(path))
        shown = [
            row for row in rows if row["object_type"] != "NOTEBOOK" or row["modified_at"] > notebooks_modified_after
        ]
        return {"objects": [_info(row, path) for row in shown]}

    @api.get("/workspace/get-status")
    def get_status(path: str) -> dict[str, Any]:
        return _info(objects.status(normal(path)), path)

    @api.post("/workspace/mkdirs")
    def mkdirs(body: dict[str, Any]) -> dict[str, Any]:
        objects.make_directories(normal(body.get("path")))
        return {}

    @api.get("/repos")
    @differs("there are no Git folders: the list is always empty, and creating one is refused")
    def repos() -> dict[str, Any]:
        return {"repos": []}

    @api.post("/workspace/delete")
    def delete(body: dict[str, Any]) -> dict[str, Any]:
        objects.delete(normal(body.get("path")), recursive=body.get("recursive") is True)
        return {}

    return api


def _check_length(request: Request) -> None:
    if int(request.headers.get("content-length") or 0) > MAX_BODY:
        raise BadRequest(f"the body is larger than {MAX_BODY} bytes", error_code="MAX_NOTEBOOK_SIZE_EXCEEDED")


async def _import_fields(request: Request) -> dict[str, Any]:
    """The fields of an import, from JSON or a form; `content` as bytes. Raises BadRequest."""
    _check_length(request)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        try:
            form = await request.form()
        except HTTPException as error:
            raise BadRequest(f"the form cannot be read: {error.detail}") from None
        fields: dict[str, Any] = dict(form)
        content = fields.get("content", b"")
        fields["content"] = await content.read() if isinstance(content, UploadFile) else content.encode()
        await form.close()
        return fields
    fields = await read_object(request, MAX_BODY)
    try:
        return fields | {"content": base64.b64decode(fields.get("content") or "", validate=True)}
    except (ValueError, TypeError):
        raise BadRequest("content must be base64") from None


def _exported(row: dict[str, Any], content: bytes, wanted: str) -> tuple[bytes, str]:
    """An object in the format `wanted` and the extension of that. Raises NotImplementedHere, BadRequest."""
    if wanted not in EXPORTS:
        raise BadRequest(f"format must be one of {', '.join(EXPORTS)}; got {wanted!r:.50}")
    name = row["path"].rpartition("/")[2]
    if row["object_type"] == "FILE":
        if wanted not in ("SOURCE", "AUTO", "RAW"):
            raise BadRequest(f"{row['path']} is a file: it can be exported as SOURCE, AUTO or RAW, not as {wanted}")
        return content, name.rpartition(".")[2]
    if wanted in ("DBC", "R_MARKDOWN", "RAW"):
        raise NotImplementedHere(f"local_workspace does not export notebooks as {wanted}")
    language, jupyter = row["language"], bool(row["jupyter"])
    if wanted == "AUTO":
        wanted = "JUPYTER" if jupyter else "SOURCE"
    if wanted == "HTML":
        return as_html(name, cells_of(content, language, jupyter), language), "html"
    if wanted == "JUPYTER":
        return content if jupyter else as_jupyter(cells_of(content, language, False), language), "ipynb"
    source = as_source(cells_of(content, language, True), language) if jupyter else content
    return source, EXTENSIONS[language].removeprefix(".")


def _info(row: dict[str, Any], asked: str) -> dict[str, Any]:
    """ObjectInfo; its path begins with `/Workspace` if the path asked for did."""
    prefix = "/Workspace" if asked == "/Workspace" or asked.startswith("/Workspace/") else ""
    info = {
        "object_id": row["object_id"],
        "resource_id": str(row["object_id"]),
        "object_type": row["object_type"],
        "path": prefix + row["path"],
        "created_at": row["created_at"],
        "modified_at": row["modified_at"],
    }
    if row["object_type"] == "NOTEBOOK":
        info["language"] = row["language"]
    if row["object_type"] == "FILE":
        info["size"] = row["size"]
    return info

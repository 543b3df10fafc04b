"""The DBFS API. Mounts and paths in volumes are not reached through it."""

import base64
import binascii
import io
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.dbfs.store import MAX_BLOCK, too_large
from local_workspace.errors import BadRequest
from local_workspace.parity import differs

DEFAULT_READ = MAX_BLOCK // 2


def router(ws: LocalWorkspace) -> APIRouter:
    """The DBFS API."""
    api = APIRouter(prefix="/api/2.0/dbfs")
    dbfs = ws.dbfs

    @api.get("/get-status")
    def get_status(path: str) -> dict[str, Any]:
        return dbfs.status(path)

    @api.get("/list")
    def list_(path: str) -> dict[str, Any]:
        return {"files": dbfs.children(path)}

    @api.post("/mkdirs")
    def mkdirs(body: dict[str, Any]) -> dict[str, Any]:
        dbfs.make_directories(body.get("path"))
        return {}

    @api.post("/put")
    async def put(request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            await _put_form(request)
            return {}
        body = await read_object(request)
        content = _decoded(body, "contents")
        if len(content) > MAX_BLOCK:
            raise too_large("MAX_BLOCK_SIZE_EXCEEDED", "contents")
        await run_in_threadpool(dbfs.put, body.get("path"), io.BytesIO(content), _flag(body.get("overwrite")))
        return {}

    async def _put_form(request: Request) -> None:
        try:
            form = await request.form()
        except HTTPException as error:
            raise BadRequest(f"the form cannot be read: {error.detail}") from None
        async with request.form():
            content = form.get("contents")
            if not isinstance(content, UploadFile):
                raise BadRequest("contents must be a file of the form")
            await run_in_threadpool(dbfs.put, form.get("path"), content.file, _flag(form.get("overwrite")))

    @api.post("/create")
    @differs("the file is visible when its stream is closed, whole; until then the path shows what was there before")
    def create(body: dict[str, Any]) -> dict[str, Any]:
        return {"handle": dbfs.open(body.get("path"), _flag(body.get("overwrite")))}

    @api.post("/add-block")
    def add_block(body: dict[str, Any]) -> dict[str, Any]:
        dbfs.add(body.get("handle"), _decoded(body, "data"))
        return {}

    @api.post("/close")
    def close(body: dict[str, Any]) -> dict[str, Any]:
        dbfs.close(body.get("handle"))
        return {}

    @api.get("/read")
    def read(path: str, offset: int = 0, length: int = DEFAULT_READ) -> dict[str, Any]:
        content = dbfs.read(path, offset, length)
        return {"bytes_read": len(content), "data": base64.b64encode(content).decode()}

    @api.post("/move")
    def move(body: dict[str, Any]) -> dict[str, Any]:
        dbfs.move(body.get("source_path"), body.get("destination_path"))
        return {}

    @api.post("/delete")
    def delete(body: dict[str, Any]) -> dict[str, Any]:
        dbfs.delete(body.get("path"), _flag(body.get("recursive")))
        return {}

    return api


def _flag(value: Any) -> bool:
    """A boolean of JSON, or its text in a form. Raises BadRequest."""
    if value in (None, False, "false"):
        return False
    if value in (True, "true"):
        return True
    raise BadRequest(f"expected true or false; got {value!r:.50}")


def _decoded(body: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(body.get(name) or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest(f"{name} must be base64") from None

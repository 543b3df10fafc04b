"""The pages of Unity Catalog, of files, and of SQL."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response, StreamingResponse

from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError
from local_workspace.files.roots import Roots
from local_workspace.pages.session import Sessions

UC = "/api/2.1/unity-catalog"
PREVIEW = 50
HISTORY = ("version", "timestamp", "operation", "operationMetrics")


def quoted(full_name: str) -> str:
    """A full name as SQL takes it, whatever is in it."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in full_name.split("."))


def _only(columns: tuple[str, ...], answer: dict[str, Any]) -> dict[str, Any]:
    """Some columns of an answer."""
    places = [answer["columns"].index(column) for column in columns]
    return {"columns": columns, "rows": [[row[place] for place in places] for row in answer["rows"]]}


def add(api: APIRouter, sessions: Sessions, page: Callable[..., Response], ws: LocalWorkspace) -> None:
    """Put the pages into `api`."""

    @api.get("/ui/catalog")
    async def catalogs(request: Request) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.every(f"{UC}/catalogs", "catalogs")
        tree = {c["name"]: await viewer.every(f"{UC}/schemas", "schemas", catalog_name=c["name"]) for c in found}
        return page("catalogs.html", tree=tree)

    @api.get("/ui/catalog/{catalog}/{schema}")
    async def one_schema(request: Request, catalog: str, schema: str) -> Response:
        viewer = sessions.viewer(request)
        names = {"catalog_name": catalog, "schema_name": schema}
        await viewer.get(f"{UC}/schemas/{quote(f'{catalog}.{schema}', safe='')}")
        return page(
            "schema.html",
            name=f"{catalog}.{schema}",
            tables=await viewer.every(f"{UC}/tables", "tables", **names),
            volumes=await viewer.every(f"{UC}/volumes", "volumes", **names),
            models=await viewer.every(f"{UC}/models", "registered_models", **names),
        )

    @api.get("/ui/table/{full_name}")
    async def table(request: Request, full_name: str) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{UC}/tables/{quote(full_name, safe='')}")
        shown, error, history = None, "", None
        try:
            select = f"SELECT * FROM {quoted(full_name)} LIMIT {PREVIEW}"
            shown = await viewer.sql(select, PREVIEW)
            if found.get("data_source_format") == "DELTA":
                history = _only(HISTORY, await viewer.sql(f"DESCRIBE HISTORY {quoted(full_name)}", 20))
        except ApiError as failed:
            error = failed.message
        return page("table.html", table=found, preview=shown, history=history, error=error, limit=PREVIEW)

    @api.get("/ui/volume/{full_name}")
    async def volume(request: Request, full_name: str, path: str = "") -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{UC}/volumes/{quote(full_name, safe='')}")
        top = "/Volumes/" + "/".join(found[key] for key in ("catalog_name", "schema_name", "name"))
        here = top + "/" + path.strip("/") if path else top
        entries = await viewer.every(f"/api/2.0/fs/directories{quote(here)}", "contents")
        return page("volume.html", volume=found, top=top, here=here, entries=entries)

    @api.get("/ui/download")
    def download(request: Request, path: str) -> Response:
        sessions.viewer(request)
        files, inner = Roots(ws.files).find(path)
        file = files.open(inner)
        name = quote(inner.rpartition("/")[2])
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "Content-Length": str(file.size)}
        return StreamingResponse(file.blocks(0, file.size), headers=headers, media_type="application/octet-stream")

    @api.get("/ui/sql")
    async def editor(request: Request) -> Response:
        sessions.viewer(request)
        return page("sql.html", statement="", answer=None, error="")

    @api.post("/ui/sql")
    async def run(request: Request, statement: Annotated[str, Form()] = "") -> Response:
        viewer = sessions.viewer(request)
        answer, error = None, ""
        try:
            answer = await viewer.sql(statement, 1000)
        except ApiError as failed:
            error = failed.message
        return page("sql.html", statement=statement, answer=answer, error=error)

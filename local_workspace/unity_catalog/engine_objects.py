"""What the lake engine asks of the catalog past Sail's dialect: views, new names, tags, all of a catalog at once."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from local_workspace.context import LocalWorkspace
from local_workspace.unity_catalog.engine_routes import PREFIX
from local_workspace.unity_catalog.store import SecurableExists

Kind = Literal["catalog", "schema", "volume", "table", "function"]


class View(BaseModel):
    """A view: `fields` as in a table; `view` is what the engine needs to put its query into statements."""

    full_name: str
    fields: list[dict[str, Any]]
    view_definition: str
    view: dict[str, Any]
    comment: str | None = None
    properties: dict[str, str] = {}
    replace: bool = False


class NewName(BaseModel):
    name: str


class Tags(BaseModel):
    tags: dict[str, str]


def router(ws: LocalWorkspace) -> APIRouter:
    """The engine's calls."""
    api = APIRouter(prefix=PREFIX, include_in_schema=False)
    store = ws.catalog

    @api.post("/views")
    def create_view(body: View, request: Request) -> dict:
        user = request.state.principal.name
        facts = body.model_dump(exclude={"full_name", "replace"}) | {"table_type": "VIEW"}
        found = store.find("table", body.full_name)
        if found and body.replace:
            if found["table_type"] != "VIEW":
                raise SecurableExists(f"{body.full_name} is a table.", error_code="EXPECT_VIEW_NOT_TABLE")
            return store.update("table", body.full_name, user, **facts | {"comment": body.comment or ""})
        return store.create("table", body.full_name, user, **facts)

    @api.get("/records/{kind}/{full_name}")
    async def record(kind: Kind, full_name: str) -> dict:
        return store.get(kind, full_name)

    @api.get("/all/{kind}")
    def everything(kind: Kind, catalog: str = "") -> dict:
        return {"securables": store.below(kind, catalog)}

    @api.get("/grants")
    def grants() -> dict:
        return {"grants": store.all_grants()}

    @api.post("/rename/{kind}/{full_name}")
    def rename(kind: Literal["volume", "table"], full_name: str, body: NewName, request: Request) -> dict:
        return store.rename(kind, full_name, body.name, request.state.principal.name)

    @api.put("/tags/{kind}/{full_name}")
    def tag(kind: Kind, full_name: str, body: Tags, request: Request) -> dict:
        return store.update(kind, full_name, request.state.principal.name, tags=body.tags)

    return api

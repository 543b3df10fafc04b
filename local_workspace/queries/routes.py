"""The queries API: saved queries, which SQL tasks of jobs run by their id."""

from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, model_validator

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.paging import page
from local_workspace.parity import differs

PREFIX = "/api/2.0/sql/queries"
DEFAULT_NAME = "New query"


class SavedQuery(BaseModel):
    """A query as it is sent to create or update one."""

    model_config = ConfigDict(extra="allow")

    display_name: str | None = None
    description: str | None = None
    query_text: str | None = None
    warehouse_id: str | None = None
    catalog: str | None = None
    schema_name: str | None = None
    parent_path: str | None = None
    run_as_mode: Literal["OWNER", "VIEWER"] | None = None
    apply_auto_limit: bool | None = None
    parameters: list[dict[str, Any]] | None = None
    tags: list[str] | None = None
    owner_user_name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _schema_by_its_name(cls, given: Any) -> Any:
        # A field called `schema` would hide one of pydantic's own.
        if isinstance(given, dict) and "schema" in given:
            return {name: value for name, value in given.items() if name != "schema"} | {"schema_name": given["schema"]}
        return given

    @model_validator(mode="after")
    def _only_known_fields(self) -> "SavedQuery":
        if refused := sorted(name for name, value in (self.model_extra or {}).items() if value is not None):
            raise NotImplementedHere(f"local_workspace does not have the field {', '.join(refused)} of queries")
        return self

    def facts(self) -> dict[str, Any]:
        """The fields, `schema` by its name again; None where nothing was given."""
        facts = self.model_dump(exclude=set(self.model_extra or {}))
        return {("schema" if name == "schema_name" else name): value for name, value in facts.items()}


class Creation(BaseModel):
    query: SavedQuery = SavedQuery()
    auto_resolve_display_name: bool = False


class Update(Creation):
    update_mask: str


def router(ws: LocalWorkspace) -> APIRouter:
    """The queries API."""
    api = APIRouter()
    store = ws.queries

    def check(facts: dict[str, Any]) -> None:
        if warehouse_id := facts.get("warehouse_id"):
            ws.warehouses.get(warehouse_id)
        if facts.get("display_name") == "":
            raise BadRequest("display_name must not be empty.")

    @api.post(PREFIX)
    @differs("apply_auto_limit and run_as_mode are kept and shown; a job runs the text as it is, as its own user")
    def create(body: Creation, request: Request) -> dict:
        user = request.state.principal.name
        given = {name: value for name, value in body.query.facts().items() if value is not None}
        if "owner_user_name" in given:
            raise BadRequest("owner_user_name cannot be given to a new query: it is its creator.")
        check(given)
        defaults = {"display_name": DEFAULT_NAME, "query_text": "", "run_as_mode": "OWNER", "apply_auto_limit": False}
        folder = {"parent_path": f"/Workspace/Users/{user}"}
        return store.create(defaults | folder | given, user, rename=body.auto_resolve_display_name)

    @api.get(PREFIX)
    def list_queries(page_size: int = Query(20, ge=1, le=1000), page_token: str = "") -> dict:
        records, following = page(store.all(), page_size, page_token)
        shown = [{name: value for name, value in record.items() if name != "parent_path"} for record in records]
        return {"results": shown, **following}

    @api.get(f"{PREFIX}/{{query_id}}")
    def get(query_id: str) -> dict:
        return store.get(query_id)

    @api.patch(f"{PREFIX}/{{query_id}}")
    def update(query_id: str, body: Update, request: Request) -> dict:
        facts = body.query.facts()
        fields = (
            [name for name in facts if facts[name] is not None]
            if body.update_mask == "*"
            else body.update_mask.split(",")
        )
        if unknown := sorted(set(fields) - (facts.keys() - {"parent_path"})):
            raise BadRequest(f"update_mask names {', '.join(unknown)}, which cannot be updated.")
        changes = {name: facts[name] for name in fields}
        if changes.get("display_name", "-") is None:
            raise BadRequest("display_name is in update_mask, but the query has none.")
        check(changes)
        user = request.state.principal.name
        return store.update(query_id, changes, user, rename=body.auto_resolve_display_name)

    @api.delete(f"{PREFIX}/{{query_id}}")
    def trash(query_id: str) -> dict:
        store.trash(query_id)
        return {}

    return api

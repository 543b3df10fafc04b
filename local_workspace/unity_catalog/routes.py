"""Unity Catalog as the SDK speaks it: catalogs, schemas, volumes, tables and permissions.

Tables are created by SQL, as on Databricks. Permissions are stored and shown; nothing enforces them here.
External locations, connections and shares are answered 501.
"""

from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, model_validator

from local_workspace.context import LocalWorkspace
from local_workspace.errors import NotImplementedHere
from local_workspace.unity_catalog import engine_objects, engine_routes, functions, metastore
from local_workspace.unity_catalog.columns import column_info
from local_workspace.unity_catalog.store import DEPTH, checked_name

PREFIX = "/api/2.1/unity-catalog"


class Body(BaseModel):
    """A request body whose options are all known: any other is refused by its name."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _only_known_options(self) -> "Body":
        unknown = sorted(name for name, value in (self.model_extra or {}).items() if value is not None)
        if unknown:
            raise NotImplementedHere(f"local_workspace does not have the option {', '.join(unknown)} here")
        return self


class NewCatalog(Body):
    name: str
    comment: str | None = None
    properties: dict[str, str] | None = None


class NewSchema(NewCatalog):
    catalog_name: str


class NewVolume(Body):
    catalog_name: str
    schema_name: str
    name: str
    volume_type: Literal["MANAGED"] = "MANAGED"
    comment: str | None = None


class Change(Body):
    new_name: str | None = None
    comment: str | None = None
    owner: str | None = None
    properties: dict[str, str] | None = None


class PrivilegeChange(Body):
    principal: str
    add: list[str] = []
    remove: list[str] = []


class PermissionsChange(Body):
    changes: list[PrivilegeChange] = []
    omit_permissions_in_response: bool = False


def described(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """A stored securable as the API shows it."""
    names = record["full_name"].split(".")
    shown = {name: value for name, value in record.items() if name not in ("id", "view")}
    shown |= {"securable_type": kind.upper(), f"{kind}_id": record["id"]}
    if kind != "catalog":
        shown["catalog_name"] = names[0]
    if DEPTH[kind] == 3:
        shown["schema_name"] = names[1]
    if kind == "catalog":
        shown |= {"catalog_type": "MANAGED_CATALOG", "isolation_mode": "OPEN"}
    if kind == "schema":
        shown["catalog_type"] = "MANAGED_CATALOG"
    if kind == "table":
        shown["columns"] = [column_info(field, position) for position, field in enumerate(shown.pop("fields"))]
    return shown


def router(ws: LocalWorkspace) -> APIRouter:
    """The Unity Catalog API, and below `/engine/unity-catalog` the dialect that Sail reads."""
    api = APIRouter()
    store = ws.catalog

    def page(kind: str, parent: str, max_results: int, page_token: str) -> dict[str, Any]:
        found = store.children(kind, parent, after=page_token, limit=max_results + 1 if max_results else -1)
        shown = found[:max_results] if max_results else found
        answer: dict[str, Any] = {f"{kind}s": [described(kind, record) for record in shown]}
        if len(shown) < len(found):
            answer["next_page_token"] = shown[-1]["full_name"]
        return answer

    @api.post(f"{PREFIX}/catalogs")
    def create_catalog(body: NewCatalog, request: Request) -> dict:
        owner = request.state.principal.name
        record = store.create("catalog", body.name, owner, comment=body.comment, properties=body.properties)
        return described("catalog", record)

    @api.post(f"{PREFIX}/schemas")
    def create_schema(body: NewSchema, request: Request) -> dict:
        full_name = f"{body.catalog_name}.{checked_name('schema', body.name)}"
        owner = request.state.principal.name
        record = store.create("schema", full_name, owner, comment=body.comment, properties=body.properties)
        return described("schema", record)

    @api.post(f"{PREFIX}/volumes")
    def create_volume(body: NewVolume, request: Request) -> dict:
        full_name = f"{body.catalog_name}.{body.schema_name}.{checked_name('volume', body.name)}"
        record = store.create(
            "volume",
            full_name,
            request.state.principal.name,
            comment=body.comment,
            volume_type="MANAGED",
            storage_location=f"dbfs:/Volumes/{full_name.lower().replace('.', '/')}",
        )
        return described("volume", record)

    @api.get(f"{PREFIX}/catalogs")
    def list_catalogs(max_results: int = Query(0, ge=0), page_token: str = "") -> dict:
        return page("catalog", "", max_results, page_token)

    @api.get(f"{PREFIX}/schemas")
    def list_schemas(catalog_name: str, max_results: int = Query(0, ge=0), page_token: str = "") -> dict:
        return page("schema", catalog_name, max_results, page_token)

    @api.get(f"{PREFIX}/volumes")
    def list_volumes(
        catalog_name: str, schema_name: str, max_results: int = Query(0, ge=0), page_token: str = ""
    ) -> dict:
        return page("volume", f"{catalog_name}.{schema_name}", max_results, page_token)

    @api.get(f"{PREFIX}/tables")
    def list_tables(
        catalog_name: str,
        schema_name: str,
        max_results: int = Query(0, ge=0),
        page_token: str = "",
        omit_columns: bool = False,
        omit_properties: bool = False,
        omit_username: bool = False,
    ) -> dict:
        answer = page("table", f"{catalog_name}.{schema_name}", max_results, page_token)
        users = ("owner", "created_by", "updated_by")
        omitted = {"columns"} if omit_columns else set()
        omitted |= {"properties"} if omit_properties else set()
        omitted |= set(users) if omit_username else set()
        answer["tables"] = [{n: v for n, v in table.items() if n not in omitted} for table in answer["tables"]]
        return answer

    @api.get(f"{PREFIX}/tables/{{full_name}}/exists")
    def table_exists(full_name: str) -> dict:
        return {"table_exists": store.find("table", full_name) is not None}

    @api.get(f"{PREFIX}/permissions/{{kind}}/{{full_name}}")
    def get_permissions(kind: str, full_name: str) -> dict:
        granted = store.grants(known(kind), full_name)
        return {"privilege_assignments": [{"principal": p, "privileges": names} for p, names in granted.items()]}

    @api.patch(f"{PREFIX}/permissions/{{kind}}/{{full_name}}")
    def change_permissions(kind: str, full_name: str, body: PermissionsChange) -> dict:
        for change in body.changes:
            store.change_grants(known(kind), full_name, change.principal, change.add, change.remove)
        return {} if body.omit_permissions_in_response else get_permissions(kind, full_name)

    def add_get_update_delete(kind: str) -> None:
        path = f"{PREFIX}/{kind}s/{{full_name}}"

        @api.get(path)
        def get(full_name: str) -> dict:
            return described(kind, store.get(kind, full_name))

        @api.patch(path)
        def update(full_name: str, body: Change, request: Request) -> dict:
            by, changes = request.state.principal.name, body.model_dump(exclude={"new_name"})
            record = store.update(kind, full_name, by, **changes)
            if body.new_name and body.new_name.lower() != record["name"]:
                if kind != "volume":
                    raise NotImplementedHere(f"local_workspace does not rename a {kind} by the API (new_name)")
                record = store.rename(kind, full_name, body.new_name, by)
            return described(kind, record)

        @api.delete(path)
        def delete(full_name: str, force: bool = False) -> dict:
            store.delete(kind, full_name, force=force)
            return {}

    for kind in ("catalog", "schema", "volume", "table", "function"):
        add_get_update_delete(kind)
    api.include_router(functions.router(ws))
    api.include_router(engine_objects.router(ws))
    api.include_router(engine_routes.router(ws))
    api.include_router(metastore.router(ws))
    return api


def known(kind: str) -> str:
    """The kind of securable a request names. Raises NotImplementedHere."""
    if kind.lower() not in DEPTH:
        raise NotImplementedHere(f"local_workspace does not have Unity Catalog's securable type {kind!r}")
    return kind.lower()

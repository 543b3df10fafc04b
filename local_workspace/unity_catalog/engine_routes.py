"""Unity Catalog in the dialect Sail reads, below `/engine/unity-catalog`; the lake engine alone calls it.

It differs from the public API on purpose: Sail must take every table for an external one without a table id,
or it writes Delta logs (`catalogManaged`) that delta-rs cannot read. Names arrive percent-encoded.
"""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from local_workspace.context import LocalWorkspace
from local_workspace.errors import NotFound, NotImplementedHere
from local_workspace.unity_catalog.columns import field_from_sail, has_collection, sail_column

PREFIX = "/engine/unity-catalog"


class NewSchema(BaseModel):
    catalog_name: str
    name: str
    comment: str | None = None
    properties: dict[str, str] | None = None


class NewTable(BaseModel):
    """A table that Sail registers has `columns` and no Delta log yet; one of the lake's own has `fields` and a log."""

    catalog_name: str
    schema_name: str
    name: str
    table_type: Literal["MANAGED", "EXTERNAL"] = "MANAGED"
    data_source_format: str = "DELTA"
    columns: list[dict[str, Any]] = []
    fields: list[dict[str, Any]] | None = None
    storage_location: str
    comment: str | None = None
    properties: dict[str, str] | None = None


class Staging(BaseModel):
    catalog_name: str
    schema_name: str
    name: str


class TableChange(BaseModel):
    fields: list[dict[str, Any]] | None = None
    properties: dict[str, str] | None = None
    comment: str | None = None


def router(ws: LocalWorkspace) -> APIRouter:
    """What Sail and the lake engine ask of the catalog."""
    api = APIRouter(prefix=PREFIX, include_in_schema=False)
    store = ws.catalog

    def schema(record: dict[str, Any]) -> dict[str, Any]:
        return record | {"catalog_name": record["full_name"].split(".")[0], "schema_id": record["id"]}

    def table(record: dict[str, Any]) -> dict[str, Any]:
        catalog_name, schema_name, _ = record["full_name"].split(".")
        shown = {name: value for name, value in record.items() if name not in ("id", "fields")}
        return shown | {
            "catalog_name": catalog_name,
            "schema_name": schema_name,
            "table_type": "EXTERNAL",
            "columns": [sail_column(field, position) for position, field in enumerate(record["fields"])],
        }

    @api.get("/schemas")
    def list_schemas(catalog_name: str) -> dict:
        return {"schemas": [schema(record) for record in store.children("schema", catalog_name)]}

    @api.post("/schemas")
    def create_schema(body: NewSchema, request: Request) -> dict:
        owner = request.state.principal.name
        full_name = f"{body.catalog_name}.{body.name}"
        return schema(store.create("schema", full_name, owner, comment=body.comment, properties=body.properties))

    @api.get("/schemas/{full_name}")
    async def get_schema(full_name: str) -> dict:
        return schema(store.get("schema", full_name))

    @api.delete("/schemas/{full_name}")
    def delete_schema(full_name: str, force: bool = False) -> dict:
        store.delete("schema", full_name, force=force)
        return {}

    @api.get("/names")
    def names() -> dict:
        """The names of all views and functions, without their schemas."""
        schemas = [s["full_name"] for c in store.children("catalog") for s in store.children("schema", c["full_name"])]
        securables = [record for s in schemas for kind in ("table", "function") for record in store.children(kind, s)]
        return {"names": [record["name"] for record in securables if record.get("table_type", "VIEW") == "VIEW"]}

    @api.get("/volumes/{full_name}")
    def get_volume(full_name: str) -> dict:
        record = store.get("volume", full_name)
        return record | {"folder": str(store.volume_path(*record["full_name"].split(".")))}

    @api.get("/tables")
    def list_tables(catalog_name: str, schema_name: str) -> dict:
        found = store.children("table", f"{catalog_name}.{schema_name}")
        return {"tables": [table(record) for record in found if record["table_type"] != "VIEW"]}

    @api.get("/tables/{full_name}")
    async def get_table(full_name: str) -> dict:
        record = store.get("table", full_name)
        if record["table_type"] == "VIEW":
            # Sail has no views: the lake engine puts their queries into statements.
            raise NotFound(f"{full_name} is a view.", error_code="TABLE_DOES_NOT_EXIST")
        return table(record)

    @api.post("/staging-tables")
    def stage(body: Staging) -> dict:
        full_name = f"{body.catalog_name}.{body.schema_name}.{body.name}"
        location = f"file://{store.new_table_path(full_name)}"
        return body.model_dump() | {"id": location.rsplit("-", 1)[1], "staging_location": location}

    @api.post("/tables")
    async def create_table(body: NewTable, request: Request) -> dict:
        if body.data_source_format != "DELTA":
            raise NotImplementedHere(f"tables are Delta here, not {body.data_source_format}: add USING DELTA")
        full_name = f"{body.catalog_name}.{body.schema_name}.{body.name}"
        location = body.storage_location if "://" in body.storage_location else f"file://{body.storage_location}"
        fields = body.fields
        if fields is None:
            made = [field_from_sail(column) for column in body.columns]
            if any(has_collection(field["type"]) for field in made):
                # Sail takes the log made for it to have another schema, and fails when the table is there already.
                raise NotImplementedHere(
                    "CREATE TABLE over Spark Connect has no ARRAY, MAP and VARIANT: use the statement API"
                )
            new = {
                "location": location,
                "fields": made,
                "comment": body.comment,
                "properties": body.properties,
            }
            fields = (await ws.lake.call("POST", "/tables", json=new)).json()["fields"]
        record = store.create(
            "table",
            full_name,
            request.state.principal.name,
            table_type=body.table_type,
            data_source_format="DELTA",
            fields=fields,
            storage_location=location,
            comment=body.comment,
            properties=body.properties or {},
        )
        return table(record) | {"table_id": record["id"]}

    @api.patch("/tables/{full_name}")
    def update_table(full_name: str, body: TableChange, request: Request) -> dict:
        return table(store.update("table", full_name, request.state.principal.name, **body.model_dump()))

    @api.delete("/tables/{full_name}")
    def delete_table(full_name: str) -> dict:
        store.delete("table", full_name)
        return {}

    return api

"""SQL: one warehouse that is always running, and the statement execution API."""

import json
import re
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound, NotImplementedHere

STATEMENTS = "/api/2.0/sql/statements"
WAREHOUSES = "/api/2.0/sql/warehouses"
WAREHOUSE_ID = "10ca1000000000a1"
TIMEOUT = re.compile(r"(\d{1,2})s")


class Parameter(BaseModel):
    name: str
    value: str | None = None
    type: str | None = None


class NewStatement(BaseModel):
    """The body of `POST /api/2.0/sql/statements`."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    statement: str = Field(max_length=16 * 2**20)
    warehouse_id: str
    catalog: str | None = None
    schema_name: str | None = Field(None, alias="schema")
    parameters: list[Parameter] = []
    row_limit: int | None = Field(None, gt=0)
    byte_limit: int | None = Field(None, gt=0)
    wait_timeout: str = "10s"
    on_wait_timeout: Literal["CONTINUE", "CANCEL"] = "CONTINUE"
    format: Literal["JSON_ARRAY", "ARROW_STREAM", "CSV"] = "JSON_ARRAY"
    disposition: Literal["INLINE", "EXTERNAL_LINKS"] = "INLINE"

    @model_validator(mode="after")
    def _only_what_is_here(self) -> "NewStatement":
        refused = sorted(name for name, value in (self.model_extra or {}).items() if value is not None)
        if self.format != "JSON_ARRAY":
            refused.append(f"format={self.format}")
        if self.disposition != "INLINE":
            refused.append(f"disposition={self.disposition}")
        if refused:
            raise NotImplementedHere(f"local_workspace does not have {', '.join(refused)} in statement execution")
        return self

    def seconds(self) -> int:
        """How long to wait for the result. Raises BadRequest."""
        matched = TIMEOUT.fullmatch(self.wait_timeout)
        if not matched or (seconds := int(matched[1])) not in (0, *range(5, 51)):
            raise BadRequest(f"wait_timeout must be 0s or from 5s to 50s, not {self.wait_timeout!r}.")
        if seconds == 0 and self.on_wait_timeout == "CANCEL":
            raise BadRequest("on_wait_timeout cannot be CANCEL when wait_timeout is 0s.")
        return seconds


def router(ws: LocalWorkspace) -> APIRouter:
    """The SQL API."""
    api = APIRouter()
    store, statements = ws.statement_store, ws.statements

    def known_warehouse(warehouse_id: str) -> None:
        if warehouse_id != WAREHOUSE_ID:
            raise NotFound(f"SQL warehouse {warehouse_id} does not exist; here there is only {WAREHOUSE_ID}.")

    def warehouse() -> dict[str, Any]:
        host, port = ws.host.removeprefix("http://").split(":")
        path = f"/sql/1.0/warehouses/{WAREHOUSE_ID}"
        return {
            "id": WAREHOUSE_ID,
            "name": "Local Warehouse",
            "state": "RUNNING",
            "cluster_size": "2X-Small",
            "min_num_clusters": 1,
            "max_num_clusters": 1,
            "num_clusters": 1,
            "auto_stop_mins": 0,
            "warehouse_type": "PRO",
            "enable_serverless_compute": False,
            "creator_name": ws.auth.OWNER,
            "odbc_params": {"hostname": host, "port": int(port), "protocol": "http", "path": path},
            "jdbc_url": f"jdbc:spark://{host}:{port}/default;transportMode=http;httpPath={path}",
            "health": {"status": "HEALTHY"},
        }

    @api.get(WAREHOUSES)
    async def list_warehouses() -> dict:
        return {"warehouses": [warehouse()]}

    @api.get(f"{WAREHOUSES}/{{warehouse_id}}")
    async def get_warehouse(warehouse_id: str) -> dict:
        known_warehouse(warehouse_id)
        return warehouse()

    @api.post(f"{WAREHOUSES}/{{warehouse_id}}/start")
    async def start_warehouse(warehouse_id: str) -> dict:
        known_warehouse(warehouse_id)
        return {}

    def answer(statement_id: str) -> Response:
        """A statement as the API shows it, with its first chunk when it has succeeded."""
        record = store.get(statement_id)
        shown: dict[str, Any] = {"statement_id": statement_id, "status": {"state": record["state"]}}
        if record["error"]:
            shown["status"]["error"] = record["error"]
        if not (manifest := record["manifest"]):
            return Response(json.dumps(shown), media_type="application/json")
        shown["manifest"] = manifest
        body = json.dumps(shown)[:-1].encode() + b',"result":' + chunk(statement_id, manifest, 0) + b"}"
        return Response(body, media_type="application/json")

    def chunk(statement_id: str, manifest: dict[str, Any], index: int) -> bytes:
        if index >= len(manifest["chunks"]):
            raise BadRequest(f"chunk_index {index} is out of range: there are {len(manifest['chunks'])} chunks.")
        shown = dict(manifest["chunks"][index])
        if index + 1 < len(manifest["chunks"]):
            following = manifest["chunks"][index + 1]
            link = f"{STATEMENTS}/{statement_id}/result/chunks/{index + 1}?row_offset={following['row_offset']}"
            shown |= {"next_chunk_index": index + 1, "next_chunk_internal_link": link}
        rows = (store.folder(statement_id) / f"{index}.json").read_bytes()
        return json.dumps(shown)[:-1].encode() + b',"data_array":' + rows + b"}"

    @api.post(STATEMENTS)
    async def execute(body: NewStatement, request: Request) -> Response:
        known_warehouse(body.warehouse_id)
        seconds = body.seconds()
        statement_id = statements.submit(
            {
                "sql": body.statement,
                "catalog": (body.catalog or "main").lower(),
                "schema_name": (body.schema_name or "default").lower(),
                "user": request.state.principal.name,
                "parameters": [parameter.model_dump() for parameter in body.parameters],
                "row_limit": body.row_limit,
                "byte_limit": body.byte_limit,
            }
        )
        if not await statements.wait(statement_id, seconds) and body.on_wait_timeout == "CANCEL":
            await statements.cancel(statement_id)
        return answer(statement_id)

    @api.get(f"{STATEMENTS}/{{statement_id}}")
    async def get(statement_id: str) -> Response:
        return answer(statement_id)

    @api.get(f"{STATEMENTS}/{{statement_id}}/result/chunks/{{chunk_index}}")
    def get_chunk(statement_id: str, chunk_index: int) -> Response:
        record = store.get(statement_id)
        if not record["manifest"]:
            raise BadRequest(f"The statement {statement_id} is {record['state']} and has no result to fetch.")
        return Response(chunk(statement_id, record["manifest"], chunk_index), media_type="application/json")

    @api.post(f"{STATEMENTS}/{{statement_id}}/cancel")
    async def cancel(statement_id: str) -> dict:
        await statements.cancel(statement_id)
        return {}

    return api

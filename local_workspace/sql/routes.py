"""SQL: the statement execution API and the query history."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound, NotImplementedHere
from local_workspace.parity import differs, refuses
from local_workspace.sql import history
from local_workspace.sql.links import PREFIX as SIGNED
from local_workspace.sql.links import Links

STATEMENTS = "/api/2.0/sql/statements"
TIMEOUT = re.compile(r"(\d{1,2})s")
MAX_TAGS = 20
MEDIA = {
    "JSON_ARRAY": ("json", "application/json"),
    "ARROW_STREAM": ("arrow", "application/vnd.apache.arrow.stream"),
    "CSV": ("csv", "text/csv; charset=utf-8"),
}
"""The suffix of a chunk's file and its content type, by format."""


class Parameter(BaseModel):
    name: str
    value: str | None = None
    type: str | None = None


class Tag(BaseModel):
    key: str = Field(min_length=1)
    value: str | None = None


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
    query_tags: list[Tag] = []

    @model_validator(mode="after")
    def _possible(self) -> "NewStatement":
        if refused := sorted(name for name, value in (self.model_extra or {}).items() if value is not None):
            raise NotImplementedHere(f"local_workspace does not have {', '.join(refused)} in statement execution")
        if self.disposition == "INLINE" and self.format != "JSON_ARRAY":
            raise BadRequest(f"The format {self.format} needs the disposition EXTERNAL_LINKS; INLINE is JSON_ARRAY.")
        return self

    def seconds(self) -> int:
        """How long to wait for the result. Raises BadRequest."""
        matched = TIMEOUT.fullmatch(self.wait_timeout)
        if not matched or (seconds := int(matched[1])) not in (0, *range(5, 51)):
            raise BadRequest(f"wait_timeout must be 0s or from 5s to 50s, not {self.wait_timeout!r}.")
        if seconds == 0 and self.on_wait_timeout == "CANCEL":
            raise BadRequest("on_wait_timeout cannot be CANCEL when wait_timeout is 0s.")
        return seconds

    def tags(self) -> list[dict[str, Any]]:
        """The tags by their keys, the last of a key."""
        tags = {tag.key: tag.model_dump(exclude_none=True) for tag in self.query_tags[:MAX_TAGS]}
        return list(tags.values())


def router(ws: LocalWorkspace) -> APIRouter:
    """The statement execution API and the query history."""
    api = APIRouter()
    store, statements = ws.statement_store, ws.statements
    links = Links(ws.host, ws.token)

    def answer(statement_id: str) -> Response:
        """A statement as the API shows it, with its first chunk when it has succeeded."""
        record = store.get(statement_id)
        shown: dict[str, Any] = {"statement_id": statement_id, "status": {"state": record["state"]}}
        if record["error"]:
            shown["status"]["error"] = record["error"]
        if not record["manifest"]:
            return Response(json.dumps(shown), media_type="application/json")
        shown["manifest"] = record["manifest"]
        body = json.dumps(shown)[:-1].encode() + b',"result":' + chunk(record, 0) + b"}"
        return Response(body, media_type="application/json")

    def chunk_file(record: dict[str, Any], index: int) -> Path:
        suffix, _media_type = MEDIA[record["manifest"]["format"]]
        return store.folder(record["id"]) / f"{index}.{suffix}"

    def chunk(record: dict[str, Any], index: int) -> bytes:
        """A chunk's rows, or a link to them."""
        chunks = record["manifest"]["chunks"]
        if not 0 <= index < len(chunks):
            raise BadRequest(f"chunk_index {index} is out of range: there are {len(chunks)} chunks.")
        shown = dict(chunks[index])
        if index + 1 < len(chunks):
            offset = chunks[index + 1]["row_offset"]
            link = f"{STATEMENTS}/{record['id']}/result/chunks/{index + 1}?row_offset={offset}"
            shown |= {"next_chunk_index": index + 1, "next_chunk_internal_link": link}
        if record["disposition"] == "EXTERNAL_LINKS":
            link, expiration = links.make(record["id"], index)
            return json.dumps({"external_links": [shown | {"external_link": link, "expiration": expiration}]}).encode()
        rows = chunk_file(record, index).read_bytes()
        return json.dumps(shown)[:-1].encode() + b',"data_array":' + rows + b"}"

    @api.post(STATEMENTS)
    async def execute(body: NewStatement, request: Request) -> Response:
        ws.warehouses.set_state(body.warehouse_id, "RUNNING")  # a statement starts the warehouse it is sent to
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
                "format": body.format,
                "disposition": body.disposition,
                "warehouse_id": body.warehouse_id,
                "query_tags": body.tags(),
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
        return Response(chunk(record, chunk_index), media_type="application/json")

    @api.post(f"{STATEMENTS}/{{statement_id}}/cancel")
    async def cancel(statement_id: str) -> dict:
        await statements.cancel(statement_id)
        return {}

    @api.get(f"{SIGNED}/{{statement_id}}/{{chunk_index}}")
    @differs("the link leads to this workspace, not to cloud storage")
    def download(statement_id: str, chunk_index: int, expires: int, signature: str) -> FileResponse:
        links.check(statement_id, chunk_index, expires, signature)
        record = store.get(statement_id)
        if not record["manifest"]:
            raise NotFound(f"The result of the statement {statement_id} is kept no longer.")
        return FileResponse(chunk_file(record, chunk_index), media_type=MEDIA[record["manifest"]["format"]][1])

    @api.post("/sql/1.0/warehouses/{warehouse_id}")
    @refuses("the Thrift protocol of databricks-sql-connector, JDBC and ODBC")
    def thrift(warehouse_id: str) -> dict:
        ws.warehouses.get(warehouse_id)
        raise NotImplementedHere(
            "local_workspace does not speak Thrift, as databricks-sql-connector, JDBC and ODBC do: "
            "use statement execution or Spark Connect"
        )

    api.include_router(history.router(ws))
    return api

"""The lake engine's process: Sail and delta-rs behind a few internal endpoints for the workspace.

`POST /statements` runs one statement and writes its result chunks into a given folder,
`POST /statements/{id}/cancel` interrupts it,
`POST /tables` writes the first version of a Delta table that Sail registers,
`POST /append/{table}` appends rows (Arrow IPC stream, or a JSON array of objects) in one durable commit,
`POST /records/{table}` does that with records as Zerobus clients send them,
`POST /otlp/{traces|logs|metrics}/{table}` does that with an OpenTelemetry export request.
It announces `spark_port`, where Spark Connect (`local_workspace.sql.connect`) listens.
"""

import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from local_workspace import child
from local_workspace.sql.connect import front
from local_workspace.sql.connect.service import Connect
from local_workspace.sql.connect.tokens import Tokens
from local_workspace.sql.lake.appends import append_json, append_table
from local_workspace.sql.lake.catalog import Catalog
from local_workspace.sql.lake.chunks import Wanted, write_chunks
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.exports import export
from local_workspace.sql.lake.records import append_records
from local_workspace.sql.lake.sail import Sail
from local_workspace.sql.lake.statements import Statement, run
from local_workspace.sql.lake.tables import Tables

log = logging.getLogger(__name__)


class StatementRequest(BaseModel):
    id: str
    sql: str
    catalog: str
    schema_name: str
    user: str
    parameters: list[dict[str, Any]]
    folder: Path
    row_limit: int | None
    byte_limit: int | None
    format: str = "JSON_ARRAY"
    disposition: str = "INLINE"

    def wanted(self) -> Wanted:
        """The form and size of the result."""
        return Wanted(self.format, self.disposition == "INLINE", self.row_limit, self.byte_limit)


class TableRequest(BaseModel):
    location: str
    fields: list[dict[str, Any]]
    comment: str | None = None
    properties: dict[str, str] | None = None
    partition_by: list[str] = []


def create_app(lake: Lake) -> FastAPI:
    """The engine's endpoints."""
    app = FastAPI(openapi_url=None)
    running: dict[str, Statement] = {}

    @app.exception_handler(SqlError)
    async def _failed(_request: Request, error: SqlError) -> JSONResponse:
        return JSONResponse({"error_code": error.condition, "message": str(error), "sqlstate": error.sqlstate}, 400)

    @app.post("/statements")
    def statements(body: StatementRequest) -> dict:
        # The folder tells the workspace, should this process die, that the statement was begun.
        body.folder.mkdir(parents=True)
        statement = Statement(body.sql, body.catalog, body.schema_name, body.user, body.parameters)
        running[body.id] = statement
        try:
            return write_chunks(run(lake, statement), body.folder, body.wanted())
        except SqlError:
            raise
        except Exception as error:
            # The process's boundary: what nobody foresaw fails one statement, with its trace in the log.
            log.exception("statement %s", body.id)
            raise SqlError("INTERNAL_ERROR", f"{type(error).__name__}: {error}", "XX000") from error
        finally:
            del running[body.id]

    @app.post("/statements/{statement_id}/cancel")
    def cancel(statement_id: str) -> dict:
        if statement := running.get(statement_id):
            statement.cancel()
        return {}

    @app.post("/tables")
    def tables(body: TableRequest) -> dict:
        if not lake.tables.exists(body.location):
            options = body.model_dump(exclude={"location", "fields"})
            lake.tables.create(body.location, body.fields, **options)
        return {"fields": lake.tables.fields(body.location)}

    @app.post("/append/{table}")
    async def append(table: str, request: Request) -> dict:
        content = await request.body()
        if request.headers.get("content-type") == "application/vnd.apache.arrow.stream":
            rows = pa.ipc.open_stream(content).read_all()
            return {"version": await run_in_threadpool(append_table, lake, table, rows)}
        return {"version": await run_in_threadpool(append_json, lake, table, content)}

    @app.post("/records/{table}")
    async def records(table: str, request: Request) -> dict:
        return {"version": await run_in_threadpool(append_records, lake, table, await request.body())}

    @app.post("/otlp/{signal}/{table}")
    async def otlp(signal: str, table: str, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        encoding = request.headers.get("content-encoding", "identity")
        return await run_in_threadpool(export, lake, signal, table, await request.body(), kind, encoding)

    return app


def main() -> None:
    """Serve until the workspace goes away."""
    host, token = os.environ["LOCAL_WORKSPACE_HOST"], os.environ["LOCAL_WORKSPACE_TOKEN"]
    catalog = Catalog(host, token)
    sail = Sail(host, token, [record["name"] for record in catalog.call("GET", "catalogs")["catalogs"]])
    lake = Lake(sail, catalog, Tables(), set(catalog.engine("GET", "names")["names"]))
    child.serve(create_app(lake), spark_port=front.start(Connect(lake, sail), Tokens(host), sail.port))


if __name__ == "__main__":
    main()

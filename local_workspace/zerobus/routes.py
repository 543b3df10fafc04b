"""Zerobus: records and OpenTelemetry into Delta tables, over HTTP here and over gRPC in `engine`.

`POST /v1/traces`, `/v1/logs` and `/v1/metrics` take OTLP export requests (protobuf or JSON, gzip or not) and the
header `x-databricks-zerobus-table-name: catalog.schema.table`. The table must exist; 200 is answered after the
Delta commit. Delivery is at least once: de-duplicate by `record_id`, which is the same when a request is repeated.
The collector services of OTLP over gRPC take the same requests at the Zerobus address, in the same way.

Columns (VARIANT columns may be STRING instead: they then hold JSON; a table may lack none that a record fills):
all: record_id STRING, time TIMESTAMP, date DATE, service_name STRING, resource STRUCT<attributes: VARIANT,
    dropped_attributes_count: INT>, resource_schema_url STRING, instrumentation_scope STRUCT<name: STRING,
    version: STRING, attributes: VARIANT, dropped_attributes_count: INT>
spans: trace_id, span_id, trace_state, parent_span_id STRING, flags INT, name, kind STRING,
    start_time_unix_nano, end_time_unix_nano BIGINT, attributes VARIANT, dropped_attributes_count INT,
    events ARRAY<STRUCT<time_unix_nano: BIGINT, name: STRING, attributes: VARIANT, dropped_attributes_count: INT>>,
    dropped_events_count INT, links ARRAY<STRUCT<trace_id: STRING, span_id: STRING, trace_state: STRING,
    attributes: VARIANT, dropped_attributes_count: INT, flags: INT>>, dropped_links_count INT,
    status STRUCT<message: STRING, code: STRING>, span_schema_url STRING
logs: event_name, trace_id, span_id STRING, time_unix_nano, observed_time_unix_nano BIGINT, severity_number,
    severity_text STRING, body VARIANT, attributes VARIANT, dropped_attributes_count INT, flags INT,
    log_schema_url STRING
metrics: start_time_unix_nano, time_unix_nano BIGINT, name, description, unit, metric_type STRING, one STRUCT each of
    gauge, sum, histogram, exponential_histogram, summary, and metadata VARIANT, metric_schema_url STRING
"""

import httpx
from fastapi import APIRouter, Request, Response

from local_workspace.bodies import read
from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError, BadRequest, NotFound, Unavailable
from local_workspace.unity_catalog.store import parts

TABLE_HEADER = "x-databricks-zerobus-table-name"
FORWARDED = ("content-type", "content-encoding")
MAX_BYTES = 64 * 2**20
MAX_APPEND_BYTES = 2 * MAX_BYTES
"""One message of the gRPC engine and what waited before it."""


def router(ws: LocalWorkspace) -> APIRouter:
    """The OTLP endpoints; the lake engine does the work, for the parent loads neither protobuf nor Arrow."""
    api = APIRouter()

    async def export(signal: str, request: Request) -> Response:
        table = request.headers.get(TABLE_HEADER)
        if not table:
            raise BadRequest(f"The header {TABLE_HEADER} is missing: it names the table as catalog.schema.table.")
        name = ".".join(parts("table", table))
        content = await read(request, MAX_BYTES)
        headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
        client = await ws.lake.client()
        try:
            answer = await client.post(f"/otlp/{signal}/{name}", content=content, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(
                "the lake engine did not answer; the records may not be there: send them again"
            ) from error
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    @api.post("/v1/traces")
    async def traces(request: Request) -> Response:
        return await export("traces", request)

    @api.post("/v1/logs")
    async def logs(request: Request) -> Response:
        return await export("logs", request)

    @api.post("/v1/metrics")
    async def metrics(request: Request) -> Response:
        return await export("metrics", request)

    @api.post("/engine/zerobus/{table}", include_in_schema=False)
    async def append(table: str, request: Request) -> dict:
        content = await read(request, MAX_APPEND_BYTES)
        try:
            answer = await ws.lake.call("POST", f"/records/{table}", content=content)
        except ApiError as error:
            if error.error_code == "TABLE_OR_VIEW_NOT_FOUND":
                error.status = NotFound.status
            raise
        return answer.json()

    return api

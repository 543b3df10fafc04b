"""OTLP over HTTP into Delta, with the genuine exporters."""

import concurrent.futures
import gzip
import io
import json

import pyarrow as pa
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode

from local_workspace.engine import Engine
from local_workspace.errors import ApiError
from local_workspace.tests.test_sql import rows

RESOURCE = Resource({"service.name": "shop", "tags": ["a", "b"]})
COMMON = """record_id STRING, time TIMESTAMP, date DATE, service_name STRING,
    resource STRUCT<attributes: VARIANT, dropped_attributes_count: INT>, resource_schema_url STRING,
    instrumentation_scope STRUCT<name: STRING, version: STRING, attributes: VARIANT, dropped_attributes_count: INT>"""
SPANS = f"""{COMMON}, span_schema_url STRING, trace_id STRING, span_id STRING, trace_state STRING,
    parent_span_id STRING, flags INT, name STRING, kind STRING, start_time_unix_nano LONG, end_time_unix_nano LONG,
    attributes VARIANT, dropped_attributes_count INT, dropped_events_count INT, dropped_links_count INT,
    events ARRAY<STRUCT<time_unix_nano: LONG, name: STRING, attributes: VARIANT, dropped_attributes_count: INT>>,
    links ARRAY<STRUCT<trace_id: STRING, span_id: STRING, trace_state: STRING, attributes: VARIANT,
    dropped_attributes_count: INT, flags: INT>>, status STRUCT<message: STRING, code: STRING>"""
LOGS = f"""{COMMON}, log_schema_url STRING, event_name STRING, trace_id STRING, span_id STRING, time_unix_nano LONG,
    observed_time_unix_nano LONG, severity_number STRING, severity_text STRING, body VARIANT, attributes VARIANT,
    dropped_attributes_count INT, flags INT"""
EXEMPLARS = """exemplars: ARRAY<STRUCT<time_unix_nano: LONG, value: DOUBLE, span_id: STRING, trace_id: STRING,
    filtered_attributes: STRING>>"""
METRICS = f"""{COMMON}, metric_schema_url STRING, start_time_unix_nano LONG, time_unix_nano LONG, name STRING,
    description STRING, unit STRING, metric_type STRING, metadata STRING,
    gauge STRUCT<value: DOUBLE, {EXEMPLARS}, attributes: STRING, flags: INT>,
    sum STRUCT<value: DOUBLE, {EXEMPLARS}, attributes: STRING, flags: INT, aggregation_temporality: STRING,
    is_monotonic: BOOLEAN>,
    histogram STRUCT<count: LONG, sum: DOUBLE, bucket_counts: ARRAY<LONG>, explicit_bounds: ARRAY<DOUBLE>, {EXEMPLARS},
    attributes: STRING, flags: INT, min: DOUBLE, max: DOUBLE, aggregation_temporality: STRING>"""


@pytest.fixture(scope="module", autouse=True)
def tables(workspace) -> None:
    for name, columns in {"spans": SPANS, "logs": LOGS, "metrics": METRICS}.items():
        rows(workspace, f"CREATE TABLE main.default.otel_{name} ({columns}) USING DELTA CLUSTER BY (time)")


def headers(workspace, table: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {workspace.token}",
        "x-databricks-zerobus-table-name": f"main.default.{table}",
    }


def made_spans(count: int) -> list[ReadableSpan]:
    """Finished spans as an exporter gets them."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests", "1.2")
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER) as root:
        for index in range(count - 1):
            links = [Link(root.get_span_context(), {"why": "test"})]
            with tracer.start_as_current_span(f"step {index}", links=links) as span:
                span.set_attributes({"n": index, "price": 1.5, "ok": True, "text": "☃ 'q'"})
                span.add_event("tick", {"at": index})
        root.set_status(StatusCode.ERROR, "broken")
    provider.shutdown()
    return list(kept.get_finished_spans())


def exporter(workspace, table: str = "otel_spans", **options) -> OTLPSpanExporter:
    return OTLPSpanExporter(f"{workspace.host}/v1/traces", headers=headers(workspace, table), **options)


def test_spans_arrive_with_all_they_carry(workspace):
    spans = made_spans(3)
    export = exporter(workspace, compression=Compression.Gzip)
    assert export.export(spans) is SpanExportResult.SUCCESS
    trace_id = format(spans[0].context.trace_id, "032x")
    found = rows(
        workspace,
        """SELECT name, kind, status.code, status.message, service_name, variant_get(attributes, '$.n', 'int'),
        variant_get(attributes, '$.text', 'string'), get(events, 0).name, get(links, 0).trace_id = trace_id,
        variant_get(resource.attributes, '$.tags[1]', 'string'), instrumentation_scope.version,
        parent_span_id = '', date = CAST(time AS DATE)
        FROM main.default.otel_spans WHERE trace_id = :trace ORDER BY name""",
        {"trace": (trace_id, None)},
    )
    step = ["SPAN_KIND_INTERNAL", "STATUS_CODE_UNSET", "", "shop"]
    assert found == [
        ["root", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR", "broken", "shop", *[None] * 4, "b", "1.2", "true", "true"],
        *[[f"step {i}", *step, str(i), "☃ 'q'", "tick", "true", "b", "1.2", "false", "true"] for i in range(2)],
    ]


def test_a_request_sent_twice_has_the_same_record_ids(workspace):
    spans = made_spans(4)
    for _ in range(2):
        assert exporter(workspace).export(spans) is SpanExportResult.SUCCESS
    count = "SELECT count(*), count(DISTINCT record_id) FROM main.default.otel_spans WHERE trace_id = :trace"
    trace_id = format(spans[0].context.trace_id, "032x")
    assert rows(workspace, count, {"trace": (trace_id, None)}) == [["8", "4"]]


def test_logs_arrive(workspace):
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    export = OTLPLogExporter(f"{workspace.host}/v1/logs", headers=headers(workspace, "otel_logs"))
    provider.add_log_record_processor(SimpleLogRecordProcessor(export))
    provider.get_logger("tests").emit(
        timestamp=1_700_000_000_000_000_000, severity_text="WARN", body={"what": "late"}, attributes={"k": [1, 2]}
    )
    provider.shutdown()
    assert rows(
        workspace, "SELECT time, severity_text, body, attributes, service_name FROM main.default.otel_logs"
    ) == [["2023-11-14T22:13:20.000Z", "WARN", '{"what":"late"}', '{"k":[1,2]}', "shop"]]


def test_metrics_arrive_in_the_column_of_their_kind(workspace):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("tests")
    meter.create_counter("calls", unit="1").add(3, {"route": "/x"})
    meter.create_gauge("load").set(0.5)
    meter.create_histogram("latency", unit="ms").record(7)
    export = OTLPMetricExporter(f"{workspace.host}/v1/metrics", headers=headers(workspace, "otel_metrics"))
    export.export(reader.get_metrics_data())
    provider.shutdown()
    assert rows(
        workspace,
        """SELECT name, metric_type, unit, sum.value, sum.is_monotonic, sum.attributes, gauge.value, histogram.count,
        histogram.max FROM main.default.otel_metrics ORDER BY name""",
    ) == [
        ["calls", "sum", "1", "3.0", "true", '{"route":"/x"}', None, None, None],
        ["latency", "histogram", "ms", None, None, None, None, "1", "7.0"],
        ["load", "gauge", "", None, None, None, "0.5", None, None],
    ]


def span_json(**changes) -> dict:
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "from json",
        "kind": 2,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": "1544712661000000000",
    } | changes
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def test_json_has_its_ids_in_hex(workspace):
    answer = workspace.http.post("/v1/traces", json=span_json(), headers=headers(workspace, "otel_spans"))
    assert (answer.status_code, answer.json()) == (200, {})
    found = rows(workspace, "SELECT trace_id, span_id, kind FROM main.default.otel_spans WHERE name = 'from json'")
    assert found == [["5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "SPAN_KIND_SERVER"]]


def test_an_enum_value_of_a_newer_client_is_kept_as_its_number(workspace):
    newer = span_json(kind=99, name="newer")
    assert workspace.http.post("/v1/traces", json=newer, headers=headers(workspace, "otel_spans")).status_code == 200
    assert rows(workspace, "SELECT kind FROM main.default.otel_spans WHERE name = 'newer'") == [["99"]]


@pytest.mark.parametrize(
    ("content", "kind", "encoding"),
    [
        (b"\xff\xff", "application/x-protobuf", "identity"),
        (b"{", "application/json", "identity"),
        (b"[]", "application/json", "identity"),
        (b'{"resourceSpans": 7}', "application/json", "identity"),
        (json.dumps(span_json(traceId="xyz")).encode(), "application/json", "identity"),
        (json.dumps(span_json(startTimeUnixNano=str(2**64 - 1))).encode(), "application/json", "identity"),
        (b"", "text/plain", "identity"),
        (b"not gzip", "application/x-protobuf", "gzip"),
        (gzip.compress(b"{}", mtime=0)[:-6], "application/json", "gzip"),
        (gzip.compress(bytes(70 * 2**20), 1, mtime=0), "application/x-protobuf", "gzip"),
        (b"", "application/x-protobuf", "br"),
    ],
)
def test_a_malformed_body_is_a_400(workspace, content, kind, encoding):
    given = headers(workspace, "otel_spans") | {"content-type": kind, "content-encoding": encoding}
    answer = workspace.http.post("/v1/traces", content=content, headers=given)
    assert answer.status_code == 400
    message = answer.json()["message"] if kind == "application/json" else Status.FromString(answer.content).message
    assert message.startswith("[")


def test_a_wrong_table_is_named(workspace):
    def post(table: str) -> tuple[int, str]:
        given = {"x-databricks-zerobus-table-name": table}
        answer = workspace.http.post("/v1/traces", json=span_json(), headers=given)
        return answer.status_code, answer.json()["message"]

    assert post("main.default.nope")[0] == 404
    assert "`main`.`default`.`nope`" in post("main.default.nope")[1]
    assert post("main.default.otel_logs") == (
        400,
        "[UNRESOLVED_COLUMN] main.default.otel_logs has no column `span_schema_url`. SQLSTATE: 42703",
    )
    assert post("just_a_table")[0] == 400
    assert workspace.http.post("/v1/traces", json=span_json()).status_code == 400
    wrong = {"Authorization": "Bearer wrong"}
    assert workspace.http.post("/v1/traces", json=span_json(), headers=wrong).status_code == 401


def test_small_requests_at_once_share_commits(workspace):
    spans = made_spans(40)
    export = exporter(workspace)
    before = len(rows(workspace, "DESCRIBE HISTORY main.default.otel_spans"))
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda span: export.export([span]), spans))
    assert set(results) == {SpanExportResult.SUCCESS}
    trace_id = format(spans[0].context.trace_id, "032x")
    count = "SELECT count(*) FROM main.default.otel_spans WHERE trace_id = :trace"
    assert rows(workspace, count, {"trace": (trace_id, None)}) == [["40"]]
    assert len(rows(workspace, "DESCRIBE HISTORY main.default.otel_spans")) - before < 40


async def test_the_engine_appends_rows_for_other_services(workspace, tmp_path):
    rows(workspace, "CREATE OR REPLACE TABLE main.default.appended (id BIGINT, tags ARRAY<STRING>, v VARIANT)")
    environment = {"LOCAL_WORKSPACE_HOST": workspace.host, "LOCAL_WORKSPACE_TOKEN": workspace.token}
    lake = Engine("lake", "local_workspace.sql.lake", tmp_path / "lake.log", environment=lambda: environment)
    try:
        path = "/append/main.default.appended"
        await lake.call("POST", path, json=[{"id": 1, "tags": ["a"], "v": {"x": [1]}}, {"id": 2}])
        buffer = io.BytesIO()
        table = pa.table({"id": [3]})
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
        arrow = {"content-type": "application/vnd.apache.arrow.stream"}
        await lake.call("POST", path, content=buffer.getvalue(), headers=arrow)
        with pytest.raises(ApiError, match="`nope`"):
            await lake.call("POST", path, json=[{"nope": 1}])
        with pytest.raises(ApiError, match="`id`"):
            await lake.call("POST", path, json=[{"id": "one"}])
    finally:
        await lake.stop()
    found = rows(workspace, "SELECT * FROM main.default.appended ORDER BY id")
    assert found == [["1", '["a"]', '{"x":[1]}'], ["2", None, None], ["3", None, None]]

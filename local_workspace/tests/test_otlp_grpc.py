"""OTLP over gRPC: the genuine exporters on the Zerobus address."""

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from local_workspace.tests.conftest import Running
from local_workspace.tests.test_sql import rows
from local_workspace.tests.test_zerobus import LOGS, METRICS, RESOURCE, SPANS, made_spans
from local_workspace.tests.test_zerobus_grpc import engine

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture(scope="module", autouse=True)
def tables(workspace: Running) -> None:
    for name, columns in {"spans": SPANS, "logs": LOGS, "metrics": METRICS}.items():
        rows(workspace, f"CREATE OR REPLACE TABLE main.default.grpc_{name} ({columns}) USING DELTA CLUSTER BY (time)")


def target(workspace: Running, table: str, token: str | None = None) -> dict:
    """Where an exporter finds the workspace."""
    headers = {
        "authorization": f"Bearer {token or workspace.token}",
        "x-databricks-zerobus-table-name": f"main.default.{table}",
    }
    return {"endpoint": workspace.address["zerobus"], "insecure": True, "headers": headers, "timeout": 20}


def spans_of(workspace: Running, spans: list) -> list[list]:
    trace_id = format(spans[0].context.trace_id, "032x")
    select = "SELECT count(*), count(DISTINCT record_id) FROM main.default.grpc_spans WHERE trace_id = :trace"
    return rows(workspace, select, {"trace": (trace_id, None)})


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_spans_arrive(workspace, compression):
    spans = made_spans(20)
    exporter = OTLPSpanExporter(**target(workspace, "grpc_spans"), compression=compression)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert spans_of(workspace, spans) == [["20", "20"]]


def test_logs_arrive(workspace):
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    exporter = OTLPLogExporter(**target(workspace, "grpc_logs"))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("tests").emit(timestamp=1_700_000_000_000_000_000, severity_text="WARN", body={"what": "late"})
    provider.shutdown()
    found = rows(workspace, "SELECT time, severity_text, body, service_name FROM main.default.grpc_logs")
    assert found == [["2023-11-14T22:13:20.000Z", "WARN", '{"what":"late"}', "shop"]]


def test_metrics_arrive(workspace):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    provider.get_meter("tests").create_counter("calls").add(3, {"route": "/x"})
    exporter = OTLPMetricExporter(**target(workspace, "grpc_metrics"))
    assert exporter.export(reader.get_metrics_data()) is MetricExportResult.SUCCESS
    exporter.shutdown()
    provider.shutdown()
    found = rows(workspace, "SELECT name, sum.value, sum.attributes FROM main.default.grpc_metrics")
    assert found == [["calls", "3.0", '{"route":"/x"}']]


def test_an_exporter_outlives_a_killed_engine(workspace):
    first, second = made_spans(3), made_spans(3)
    exporter = OTLPSpanExporter(**target(workspace, "grpc_spans"))
    assert exporter.export(first) is SpanExportResult.SUCCESS
    engine(workspace).kill()
    assert exporter.export(second) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert [found for (_, found) in spans_of(workspace, first) + spans_of(workspace, second)] == ["3", "3"]


def test_what_is_refused_and_why(workspace):
    headers = target(workspace, "grpc_spans")["headers"]
    spans = encode_spans(made_spans(2)).SerializeToString()
    with grpc.insecure_channel(workspace.address["zerobus"].removeprefix("http://")) as channel:

        def refused(content: bytes = spans, method: str = METHOD, **changes: str) -> tuple[grpc.StatusCode, str]:
            metadata = [item for item in (headers | changes).items() if item[1]]
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(content, metadata=metadata, timeout=20)
            return caught.value.code(), caught.value.details()

        def with_table(name: str) -> tuple[grpc.StatusCode, str]:
            return refused(**{"x-databricks-zerobus-table-name": name})

        code, message = with_table("main.default.nope")
        assert code is grpc.StatusCode.NOT_FOUND
        assert "`main`.`default`.`nope`" in message
        code, message = with_table("main.default.grpc_logs")
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "has no column `span_schema_url`" in message
        assert with_table("")[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert with_table("../../x")[0] is grpc.StatusCode.INVALID_ARGUMENT
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        assert refused(authorization="Bearer wrong") == (unauthenticated, "Invalid access token.")
        assert refused(authorization="")[0] is unauthenticated
        assert refused(b"\xff\xff")[0] is grpc.StatusCode.INVALID_ARGUMENT
        other = METHOD.replace("Export", "Import")
        assert refused(method=other) == (grpc.StatusCode.UNIMPLEMENTED, f"The local workspace does not have {other}.")
        assert refused(bytes(65 * 2**20))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

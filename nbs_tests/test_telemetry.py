"""Telemetry: every span is accounted for, whatever the exporter, the queue or the other side does."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lib.catalog import Catalog
from lib.config import TelemetryConfig
from lib.core import InvalidInput, new_id
from lib.settings import load_settings
from lib.telemetry import SpanSink, Telemetry, current_trace_id, span
from lib.workspace import Workspace

TABLE = {"spans": "c.s.otel_spans"}


@dataclass
class Basket:
    """A sink in memory that can fail or stand still."""

    spans: list[ReadableSpan] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    fails: Callable[[int], bool] = lambda batch: False
    gate: threading.Event | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> int:
        self.batches.append(len(spans))
        if self.gate:
            self.gate.wait(30)
        if self.fails(len(self.batches)):
            raise ConnectionError("no")
        self.spans += spans
        return len(spans)

    def shutdown(self) -> None:
        if self.gate:
            self.gate.set()


@pytest.fixture
def start() -> Iterator[Callable[..., Telemetry]]:
    """Start telemetry into a sink; whatever was started is stopped."""
    started = []

    def start(
        sink: SpanSink | None = None, endpoint: str | None = None, headers=dict, tables=TABLE, **config
    ) -> Telemetry:
        telemetry = Telemetry(TelemetryConfig(**config), endpoint, headers, tables, "tests", sink)
        telemetry.start()
        started.append(telemetry)
        return telemetry

    yield start
    for telemetry in started:
        telemetry.stop(1)


def balanced(counts: dict[str, int]) -> bool:
    """Nothing is lost from the books."""
    return counts["emitted"] == counts["delivered"] + counts["pending"] + counts["dead_lettered"]


def test_importing_it_is_light():
    program = (
        "import sys, lib.telemetry\n"
        "heavy = ('requests', 'databricks.sdk', 'openai', 'pandas', 'opentelemetry.exporter.otlp.proto.http')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_an_exporter_spans_cost_nothing_and_go_nowhere(start: Callable[..., Telemetry]):
    telemetry = start()
    with span("alone"):
        pass
    assert telemetry.flush()
    assert set(telemetry.counts().values()) == {0}


def test_a_tree_keeps_its_shape_kinds_and_errors(start: Callable[..., Telemetry]):
    basket = Basket()
    telemetry = start(basket)
    with pytest.raises(InvalidInput), span("outer", kind=SpanKind.SERVER, a=1, nothing=None):
        trace_id = current_trace_id()
        with span("inner"):
            raise InvalidInput("wrong")
    assert telemetry.flush()
    inner, outer = basket.spans
    assert (outer.kind, dict(outer.attributes)) == (SpanKind.SERVER, {"a": 1, "error.type": "invalid_input"})
    assert inner.parent.span_id == outer.context.span_id
    assert format(inner.context.trace_id, "032x") == trace_id
    assert {one.status.status_code for one in basket.spans} == {StatusCode.ERROR}
    assert current_trace_id() == ""


def test_books_balance_at_every_moment_under_load_and_failures(start: Callable[..., Telemetry]):
    basket = Basket(fails=lambda batch: batch % 3 == 0)
    telemetry = start(basket, batch_size=50, queue_size=200, flush_seconds=0.01)

    def work(_: int) -> bool:
        for _ in range(500):
            with span("work"):
                pass
            if not balanced(telemetry.counts()):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    telemetry.stop()
    counts = telemetry.counts()
    assert counts["emitted"] == 4000
    assert counts["pending"] == 0
    assert counts["delivered"] == len(basket.spans)
    assert balanced(counts)
    assert max(basket.batches) <= 50


def test_a_standing_exporter_does_not_hold_up_the_agents(start: Callable[..., Telemetry]):
    basket = Basket(gate=threading.Event())
    telemetry = start(basket, batch_size=10, queue_size=100)
    for _ in range(1000):
        with span("work"):
            pass
    counts = telemetry.counts()
    assert balanced(counts)
    assert counts["delivered"] == 0
    assert counts["pending"] <= 110
    assert not telemetry.flush(0.05)
    basket.gate.set()
    telemetry.stop()
    assert telemetry.counts()["delivered"] == counts["pending"]


def test_stop_gives_up_in_time_and_says_what_was_left(start: Callable[..., Telemetry]):
    basket = Basket(gate=threading.Event())
    telemetry = start(basket, batch_size=10)
    for _ in range(25):
        with span("work"):
            pass
    telemetry.stop(0.05)
    counts = telemetry.counts()
    assert balanced(counts)
    assert counts["dead_lettered"] >= 5
    telemetry.stop()


def test_a_failed_flush_says_so_and_the_next_one_succeeds(start: Callable[..., Telemetry]):
    basket = Basket(fails=lambda batch: batch == 1)
    telemetry = start(basket)
    for expected in (False, True):
        with span("work"):
            pass
        assert telemetry.flush() is expected
    assert telemetry.counts() == {"emitted": 2, "delivered": 1, "pending": 0, "dead_lettered": 1}


def test_a_full_batch_goes_without_a_flush(start: Callable[..., Telemetry]):
    gate = threading.Event()

    class Signalling(Basket):
        def export(self, spans: Sequence[ReadableSpan]) -> int:
            gate.set()
            return super().export(spans)

    start(Signalling(), batch_size=5, flush_seconds=3600)
    for _ in range(5):
        with span("work"):
            pass
    assert gate.wait(30)


def test_one_telemetry_follows_another_in_a_process(start: Callable[..., Telemetry]):
    first, second = Basket(), Basket()
    earlier = start(first)
    with span("first"):
        pass
    earlier.stop()
    later = start(second)
    with span("second"):
        pass
    assert later.flush()
    assert [[one.name for one in basket.spans] for basket in (first, second)] == [["first"], ["second"]]


@pytest.mark.parametrize(("flag", "kept"), [("01", ["fine", "wrong"]), ("00", ["wrong"])])
def test_the_caller_decides_on_sampling_but_errors_stay(start: Callable[..., Telemetry], flag: str, kept: list[str]):
    from opentelemetry import context

    basket = Basket()
    telemetry = start(basket, sampling_rate=0.5)
    parent = TraceContextTextMapPropagator().extract({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-{flag}"})
    token = context.attach(parent)
    with span("fine"):
        assert current_trace_id() == "ab" * 16
    with pytest.raises(ZeroDivisionError), span("wrong"):
        raise ZeroDivisionError
    context.detach(token)
    assert telemetry.flush()
    assert [one.name for one in basket.spans] == kept


@dataclass
class Collector:
    """An OTLP endpoint that answers as it is told and remembers what it was asked."""

    status: int = 200
    rejected: int = 0
    requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.requests.append((self.path, headers, body))
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = collector.rejected
            data = answer.SerializeToString()
            self.send_response(collector.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def emit(telemetry: Telemetry, spans: int) -> bool:
    """End some spans and flush."""
    for _ in range(spans):
        with span("work"):
            pass
    return telemetry.flush()


def test_each_request_names_the_table_and_signs_anew(start: Callable[..., Telemetry], collector: Collector):
    tokens = iter(("one", "two"))
    telemetry = start(endpoint=f"{collector.address}/", headers=lambda: {"Authorization": f"Bearer {next(tokens)}"})
    assert emit(telemetry, 3)
    assert emit(telemetry, 2)
    assert [path for path, _, _ in collector.requests] == ["/v1/traces"] * 2
    assert [headers["authorization"] for _, headers, _ in collector.requests] == ["Bearer one", "Bearer two"]
    assert {headers["x-databricks-zerobus-table-name"] for _, headers, _ in collector.requests} == {TABLE["spans"]}
    assert {headers["content-type"] for _, headers, _ in collector.requests} == {"application/x-protobuf"}
    sizes = [len(body.resource_spans[0].scope_spans[0].spans) for _, _, body in collector.requests]
    assert sizes == [3, 2]


def test_rejected_spans_are_not_called_delivered(start: Callable[..., Telemetry], collector: Collector):
    collector.rejected = 2
    telemetry = start(endpoint=collector.address)
    assert not emit(telemetry, 5)
    assert telemetry.counts() == {"emitted": 5, "delivered": 3, "pending": 0, "dead_lettered": 2}


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_refusal_is_dead_lettered(start: Callable[..., Telemetry], collector: Collector, status: int):
    collector.status = status
    telemetry = start(endpoint=collector.address)
    assert not emit(telemetry, 4)
    assert telemetry.counts() == {"emitted": 4, "delivered": 0, "pending": 0, "dead_lettered": 4}


def test_a_token_that_cannot_be_had_is_no_agents_problem(start: Callable[..., Telemetry], collector: Collector):
    def no_token() -> dict[str, str]:
        raise RuntimeError("the identity provider is down")

    telemetry = start(endpoint=collector.address, headers=no_token)
    assert not emit(telemetry, 4)
    assert telemetry.counts()["dead_lettered"] == 4
    assert collector.requests == []


def test_a_dead_endpoint_is_dead_lettered(start: Callable[..., Telemetry]):
    telemetry = start(endpoint="http://127.0.0.1:9", timeout_seconds=0.2)
    assert not emit(telemetry, 4)
    assert telemetry.counts() == {"emitted": 4, "delivered": 0, "pending": 0, "dead_lettered": 4}


def test_spans_land_in_delta_once_each(start: Callable[..., Telemetry], environment: dict[str, str]):
    settings = replace(load_settings(environment), schema=f"telemetry_{new_id()[:8]}")
    ground = Workspace(settings)
    Catalog(ground, settings).setup()
    table = settings.table("otel_spans")
    telemetry = start(endpoint=settings.zerobus_endpoint, headers=ground.auth_headers, tables={"spans": table})
    for number in range(2500):
        with span("step", **{"lesson.number": number, "lesson.text": "O'Hara ✓"}):
            trace_id = current_trace_id()
    with pytest.raises(InvalidInput), span("failing"):
        raise InvalidInput("wrong")
    assert telemetry.flush(30)
    assert telemetry.counts() == {"emitted": 2501, "delivered": 2501, "pending": 0, "dead_lettered": 0}
    (landed,) = ground.sql(f"SELECT count(*) AS n, count(DISTINCT span_id) AS distinct_spans FROM {table}")
    assert landed == {"n": 2501, "distinct_spans": 2501}
    (last,) = ground.sql(
        f"""SELECT name, service_name, kind, status.code AS status, parent_span_id,
                   variant_get(attributes, '$["lesson.number"]', 'int') AS number,
                   variant_get(attributes, '$["lesson.text"]', 'string') AS text
            FROM {table} WHERE trace_id = :trace_id""",
        trace_id=trace_id,
    )
    assert (last["name"], last["kind"]) == ("step", "SPAN_KIND_INTERNAL")
    assert last["service_name"]
    assert (last["number"], last["text"]) == (2499, "O'Hara ✓")
    assert not last["parent_span_id"]
    (failed,) = ground.sql(f"SELECT status.code AS code, size(events) AS events FROM {table} WHERE name = 'failing'")
    assert failed == {"code": "STATUS_CODE_ERROR", "events": 1}
    ground.execute(f"DROP SCHEMA {settings.catalog}.{settings.schema} CASCADE")

"""The API over a real socket: every refusal in its one shape, traces continued, size limited, readiness told."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import BaseModel

from lib.agents import Agent, AgentResult, EchoAgent
from lib.api import AppState, create_api
from lib.config import AgentConfig
from lib.core import DeadlineExceeded, InvalidOutput, NotFound, PermissionDenied, RateLimited, Unavailable
from lib.router import AgentRegistry, AgentRouter

CONFIG = AgentConfig(class_="tests:Agent")
LIMIT = 1_000_000


class Payment(BaseModel):
    payment_id: str
    amount: float


class PaymentAgent(Agent):
    input_schema = Payment

    async def process(self, data):
        return AgentResult({"payment_id": data.payment_id}, confidence=0.5, model="rules")


ERRORS = {
    "late": DeadlineExceeded("agent failing did not answer within 50 ms"),
    "down": Unavailable("the model is down"),
    "throttled": RateLimited("slow down", retry_after=7),
    "nonsense": InvalidOutput("the model answered no JSON"),
    "forbidden": PermissionDenied("secret table name"),
    "missing": NotFound("secret table name"),
    "bug": ZeroDivisionError("secret value"),
}


class Failing(Agent):
    """Raises what its data names."""

    async def process(self, data):
        raise ERRORS[data["with"]]


def router() -> AgentRouter:
    registry = AgentRegistry()
    for name, agent in {"echo": EchoAgent, "payment": PaymentAgent, "failing": Failing}.items():
        registry.register(agent(name, CONFIG))
    return AgentRouter(registry)


@pytest.fixture(scope="module")
def state() -> AppState:
    return AppState(router=router(), missing={}, max_body_bytes=LIMIT)


@pytest.fixture(scope="module")
def url(state: AppState) -> Iterator[str]:
    """A uvicorn in a thread, as in production but for the process."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_api(state), log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a refusal, once its shape has been checked."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"type", "message"} <= body["error"].keys() <= {"type", "message", "field", "known"}
    return body["error"]


@pytest.mark.parametrize("path", ["/execute", "/api/execute"])
@pytest.mark.parametrize("names", [("agent_name", "data"), ("agent", "input_data")])
async def test_execute(http: httpx.AsyncClient, path: str, names: tuple[str, str]):
    answer = await http.post(path, json=dict(zip(names, ("payment", {"payment_id": "p1", "amount": "3"}), strict=True)))
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"agent_name", "request_id", "result", "confidence", "metadata"}
    assert (body["agent_name"], body["result"], body["confidence"]) == ("payment", {"payment_id": "p1"}, 0.5)
    assert body["metadata"]["model"] == "rules"
    assert body["metadata"]["latency_ms"] > 0


@pytest.mark.parametrize(
    "body", [{"data": {}}, {"agent_name": "nobody"}, {"agent_name": None}, {"agent_name": ["echo"]}]
)
async def test_missing_and_wrong_agents_are_answered_with_the_known_ones(http: httpx.AsyncClient, body: dict):
    error = refused(await http.post("/execute", json=body), 404)
    assert error["type"] == "not_found"
    assert error["known"] == ["echo", "failing", "payment"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b'{"agent_name": "echo"', "body"),
        (b"\xff\xfe", "body"),
        (b'{"agent_name": "echo", "data": {"x": NaN}}', "body"),
        (b"[" * 100_000, "body"),
        (b'["echo"]', "body"),
        (b'{"agent_name": "echo", "data": [1]}', "data"),
        (b'{"agent_name": "echo", "data": null}', "data"),
        (b'{"agent_name": "echo", "data": {}, "request_id": 5}', "request_id"),
        (b'{"agent_name": "echo", "dta": {}}', "dta"),
        (b'{"agent_name": "payment", "data": {"amount": 1}}', "data.payment_id"),
        (b'{"agent_name": "payment", "data": {"payment_id": "p", "amount": "much"}}', "data.amount"),
        (b'{"agent_name": "payment"}', "data.payment_id"),
    ],
)
async def test_wrong_input_is_refused_by_field(http: httpx.AsyncClient, body: bytes, field: str):
    error = refused(await http.post("/execute", content=body), 422)
    assert (error["type"], error["field"]) == ("invalid_input", field)
    assert field in error["message"] or field == "body"


@pytest.mark.parametrize(
    ("what", "status", "kind"),
    [
        ("late", 504, "deadline_exceeded"),
        ("down", 503, "unavailable"),
        ("throttled", 503, "rate_limited"),
        ("nonsense", 502, "invalid_output"),
        ("forbidden", 500, "internal"),
        ("missing", 500, "internal"),
        ("bug", 500, "internal"),
    ],
)
async def test_failures_have_their_status_and_keep_our_secrets(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, what: str, status: int, kind: str
):
    answer = await http.post("/execute", json={"agent_name": "failing", "data": {"with": what}})
    assert refused(answer, status)["type"] == kind
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == ("7" if what == "throttled" else None)
    assert (answer.json()["request_id"] in caplog.text) == (status == 500)


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(http: httpx.AsyncClient):
    frame = len('{"agent_name": "echo", "data": {"t": ""}}')
    fits = '{"agent_name": "echo", "data": {"t": "%s"}}' % ("x" * (LIMIT - frame))
    assert (await http.post("/execute", content=fits)).status_code == 200
    assert refused(await http.post("/execute", content=fits + " "), 413)["type"] == "too_large"


async def test_a_chunked_body_is_refused_too(http: httpx.AsyncClient):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    answer = await http.post("/execute", content=chunks())
    assert "content-length" not in answer.request.headers
    assert refused(answer, 413)["field"] == "body"


async def test_an_endless_body_is_refused_before_it_ends(url: str):
    """The answer is there although the body never ends, after little more than the limit was sent."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(b"POST /execute HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(LIMIT // 100_000 + 1):
        writer.write(b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_declared_size_is_enough_to_be_refused(url: str):
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(b"POST /execute HTTP/1.1\r\nHost: app\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_callers_trace_and_request_id_are_continued(http: httpx.AsyncClient):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "X-Request-Id": "order-4711"}
    answer = await http.post("/execute", json={"agent_name": "echo"}, headers=headers)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-4711"
    assert answer.json()["metadata"]["trace_id"] == trace_id


@pytest.mark.parametrize("name", ["x" * 129, "a b", "<script>"])
async def test_an_improper_request_id_is_replaced(http: httpx.AsyncClient, name: str):
    answer = await http.get("/health", headers={"X-Request-Id": name})
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/execute", 405)])
async def test_unknown_paths_and_methods_have_the_same_shape(
    http: httpx.AsyncClient, method: str, path: str, status: int
):
    assert path in refused(await http.request(method, path), status)["message"]


async def test_agents_are_listed_with_what_they_expect(http: httpx.AsyncClient):
    agents = {agent["name"]: agent for agent in (await http.get("/agents")).json()["agents"]}
    assert agents.keys() == {"echo", "failing", "payment"}
    assert agents["payment"]["input_schema"]["required"] == ["payment_id", "amount"]


async def test_metrics_count_calls_and_outcomes(state: AppState):
    transport = httpx.ASGITransport(create_api(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        for body in ({"agent_name": "echo"}, {"agent_name": "failing", "data": {"with": "down"}}, {"agent_name": "?"}):
            await http.post("/execute", json=body)
        await http.get("/nowhere/at/all")
        shown = (await http.get("/metrics")).text
    assert 'sota_agent_seconds_count{agent="echo",outcome="ok"} 1.0' in shown
    assert 'sota_agent_seconds_count{agent="failing",outcome="error"} 1.0' in shown
    assert 'sota_request_seconds_count{route="/execute",status="404"} 1.0' in shown
    assert "nowhere" not in shown


async def test_before_it_is_ready_it_lives_and_says_what_is_missing():
    state = AppState(missing={"prompts": "the volume does not answer"})
    transport = httpx.ASGITransport(create_api(state))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        assert (await http.get("/health")).json()["ready"] is False
        ready = await http.get("/ready")
        assert (ready.status_code, ready.json()["missing"]) == (503, {"prompts": "the volume does not answer"})
        execute = await http.post("/execute", json={"agent_name": "echo"})
        assert "prompts (the volume does not answer)" in refused(execute, 503)["message"]
        state.router, state.missing = router(), {}
        assert (await http.get("/ready")).status_code == 200
        assert json.loads((await http.post("/execute", json={"agent_name": "echo"})).content)["result"] == {}


async def test_a_refresh_is_shared_but_never_one_that_began_before_it_was_asked_for():
    here, go_on, fetched = threading.Event(), threading.Event(), []

    def fetch() -> dict[str, Any]:
        fetched.append(len(fetched))
        here.set()
        go_on.wait(10)
        return {"versions": len(fetched)}

    ready = AppState(router=router(), missing={}, refresh={"prompts": fetch})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(ready)), base_url="http://app") as http:
        first = asyncio.create_task(http.post("/admin/refresh"))
        await asyncio.to_thread(here.wait, 10)
        later = [asyncio.create_task(http.post("/admin/refresh")) for _ in range(10)]
        assert (await http.post("/execute", json={"agent_name": "echo"})).status_code == 200, "requests go on meanwhile"
        later.pop().cancel()
        go_on.set()
        assert (await first).json() == {"prompts": {"versions": 1}}
        assert [(await one).json() for one in later] == [{"prompts": {"versions": 2}}] * 9
    assert len(fetched) == 2


async def test_a_refresh_that_fails_says_why_and_the_next_one_is_tried():
    failures: list[Exception] = [Unavailable("neither registry nor mirror"), ZeroDivisionError("secret value")]

    def fetch() -> dict[str, Any]:
        if failures:
            raise failures.pop(0)
        return {"versions": 3}

    ready = AppState(router=router(), missing={}, refresh={"prompts": fetch})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(ready)), base_url="http://app") as http:
        assert "neither registry" in refused(await http.post("/admin/refresh"), 503)["message"]
        assert "secret" not in refused(await http.post("/admin/refresh"), 500)["message"]
        assert (await http.post("/admin/refresh")).json() == {"prompts": {"versions": 3}}
        assert (await http.get("/admin/refresh")).status_code == 405
        documented = (await http.get("/openapi.json")).json()["paths"]["/admin/refresh"]["post"]["responses"]
        assert {"200", "503"} <= documented.keys()


async def test_a_refresh_does_not_wait_for_ever_and_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.api._REFRESH_SECONDS", 0.02)
    go_on, done = threading.Event(), threading.Event()

    def fetch() -> dict[str, Any]:
        go_on.wait(10)
        done.set()
        return {}

    ready = AppState(router=router(), missing={}, refresh={"prompts": fetch})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(ready)), base_url="http://app") as http:
        assert "goes on" in refused(await http.post("/admin/refresh"), 503)["message"]
    go_on.set()
    assert await asyncio.to_thread(done.wait, 10)


async def test_a_refresh_waits_for_the_start():
    starting = AppState(missing={"prompts": "starting"})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(starting)), base_url="http://app") as http:
        answer = await http.post("/admin/refresh")
        assert "prompts (starting)" in refused(answer, 503)["message"] and answer.headers["retry-after"] == "1"

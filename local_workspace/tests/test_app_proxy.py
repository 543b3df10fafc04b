"""An app's stable address: who may call it, what it is told, and that everything streams both ways."""

import hashlib
import os
import socket
import textwrap

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local_workspace.tests.small_app import deploy, eventually

APP = textwrap.dedent("""
    import asyncio, hashlib, os
    import uvicorn
    from fastapi import FastAPI, Request, Response, WebSocket
    from fastapi.responses import StreamingResponse

    app = FastAPI()
    go_on = asyncio.Event()
    left = []

    @app.api_route("/headers", methods=["GET", "HEAD", "OPTIONS", "POST"])
    async def headers(request: Request):
        return request.headers.items()

    @app.post("/digest")
    async def digest(request: Request):
        sha = hashlib.sha256()
        async for chunk in request.stream():
            sha.update(chunk)
        return sha.hexdigest()

    @app.post("/echo")
    async def echo(request: Request):
        body = await request.body()
        return StreamingResponse(body[n : n + 99_999] for n in range(0, len(body), 99_999))

    @app.post("/refuse")
    async def refuse():
        return Response("too large", 413)

    @app.get("/events")
    async def events():
        async def stream():
            try:
                yield "data: one\\n\\n"
                await go_on.wait()
                yield "data: two\\n\\n"
            except asyncio.CancelledError:
                left.append(1)
                raise
        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/go-on")
    async def set_go_on():
        go_on.set()

    @app.get("/left")
    async def count():
        return len(left)

    @app.get("/nothing", status_code=204)
    async def nothing():
        pass

    @app.get("/half")
    async def half():
        async def stream():
            yield b"x" * 1000
            os._exit(1)
        return StreamingResponse(stream())

    @app.websocket("/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        await socket.send_json(dict(socket.headers))
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["DATABRICKS_APP_PORT"]), log_level="warning")
""")


@pytest.fixture(scope="module")
def url(workspace) -> str:
    """The address of the app."""
    return deploy(workspace.client, "proxied", app_py=APP).url


def test_a_call_without_a_token_is_the_signed_in_users(workspace, url):
    seen = dict(httpx.get(f"{url}/headers").json())
    assert seen["x-forwarded-email"] == seen["x-forwarded-user"] == "developer@local.workspace"
    assert seen["x-forwarded-preferred-username"] == "Local Developer"
    assert seen["x-forwarded-host"] == seen["host"] == url.removeprefix("http://")
    assert seen["x-real-ip"] == "127.0.0.1"
    assert seen["x-request-id"]


def test_a_token_is_checked_and_kept_from_the_app(workspace, url):
    token = {"Authorization": f"Bearer {workspace.token}"}
    assert "authorization" not in dict(httpx.get(f"{url}/headers", headers=token).json())
    for wrong in ("Bearer dapi-wrong", "Basic eDp5", "Bearer", workspace.token):
        answer = httpx.get(f"{url}/headers", headers={"Authorization": wrong})
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")
        assert httpx.get(f"{url}/logz", headers={"Authorization": wrong}).status_code == 401


def test_a_service_principal_may_call(workspace, url):
    app = workspace.client.apps.get("proxied")
    token = {"Authorization": f"Bearer {workspace.token}", "Host": "elsewhere", "Origin": "http://elsewhere"}
    assert dict(httpx.get(f"{url}/headers", headers=token).json())["x-forwarded-host"] == "elsewhere"
    assert app.service_principal_client_id not in httpx.get(f"{url}/headers").text


def test_no_client_says_who_it_is_by_header(url):
    forged = {"X-Forwarded-Email": "a@b", "X-Forwarded-Access-Token": "t", "X-Real-Ip": "1.2.3.4", "X-Request-Id": "1"}
    seen = httpx.get(f"{url}/headers", headers=forged | {"X-Mine": "kept"}).json()
    assert dict(seen)["x-mine"] == "kept"
    assert "x-forwarded-access-token" not in dict(seen)
    assert [v for k, v in seen if k == "x-forwarded-email"] == ["developer@local.workspace"]
    assert [v for k, v in seen if k == "x-real-ip"] == ["127.0.0.1"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_site_cannot_use_the_users_session(url, headers):
    for method in ("GET", "POST", "OPTIONS"):
        answer = httpx.request(method, f"{url}/headers", headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")


def test_the_apps_own_pages_may_call_it(url):
    assert httpx.post(f"{url}/headers", headers={"Origin": url}).status_code == 200


def test_events_come_as_they_are_sent(url):
    with httpx.stream("GET", f"{url}/events", timeout=10) as answer:
        lines = answer.iter_lines()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(lines) == "data: one"
        httpx.get(f"{url}/go-on")
        assert [line for line in lines if line] == ["data: two"]


def test_the_app_notices_when_the_client_leaves(workspace):
    url = deploy(workspace.client, "leaving", app_py=APP).url
    with httpx.stream("GET", f"{url}/events", timeout=10) as answer:
        assert next(answer.iter_lines()) == "data: one"
    eventually(lambda: httpx.get(f"{url}/left").json() == 1)


def test_logs_are_not_streamed(url):
    assert httpx.get(f"{url}/logz").status_code == 200
    assert httpx.get(f"{url}/logz/stream").status_code == 501


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_pass_both_ways(url, chunked):
    body = os.urandom(1 << 20) * 20
    content = (body[n : n + 100_000] for n in range(0, len(body), 100_000)) if chunked else body
    assert httpx.post(f"{url}/digest", content=content).json() == hashlib.sha256(body).hexdigest()
    content = (body[n : n + 100_000] for n in range(0, len(body), 100_000)) if chunked else body
    assert httpx.post(f"{url}/echo", content=content).content == body


def test_an_answer_before_the_request_is_read_arrives(url):
    with httpx.Client() as http:
        for _ in range(5):
            answer = http.post(f"{url}/refuse", content=b"x" * (10 << 20))
            assert (answer.status_code, answer.text) == (413, "too large")
        assert http.get(f"{url}/nothing").status_code == 204


def test_answers_without_a_body(url):
    with httpx.Client() as http:
        for _ in range(2):
            assert http.get(f"{url}/nothing").status_code == 204
            head = http.head(f"{url}/headers")
            assert (head.status_code, head.content) == (200, b"")
            assert http.head(f"{url}/logz").status_code == 200
            assert http.head(f"{url}/headers", headers={"Origin": "http://x"}).status_code == 403


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(workspace):
    url = deploy(workspace.client, "halving", app_py=APP).url
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/half")


def test_a_websocket_passes(workspace, url):
    address = url.replace("http://", "ws://") + "/ws"
    with connect(address, additional_headers={"Authorization": f"Bearer {workspace.token}"}) as ws:
        assert '"x-forwarded-email":"developer@local.workspace"' in ws.recv()
        for text in ("hello", "x" * 300_000):
            ws.send(text)
            assert ws.recv() == text.upper()
    for headers in ({"Authorization": "Bearer wrong"}, {"Origin": "http://evil.example"}):
        with pytest.raises(InvalidStatus):
            connect(address, additional_headers=headers)


def _raw(url: str, request: bytes) -> bytes:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.replace(b"HOST", f"{host}:{port}".encode()))
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: other\r\n\r\n",
        b"POST /headers HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /headers HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"GET http://other/ HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
        b"GET /" + b"x" * 100_000,
    ],
)
def test_what_is_not_http_is_refused(url, request_):
    assert _raw(url, request_).startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))


def test_requests_in_a_row_are_answered_in_their_order(url):
    one = b"GET /nothing HTTP/1.1\r\nHost: HOST\r\n\r\n"
    last = b"GET /left HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
    answer = _raw(url, one + one + last)
    assert answer.count(b"HTTP/1.1 204") == 2
    assert answer.count(b"HTTP/1.1 200") == 1

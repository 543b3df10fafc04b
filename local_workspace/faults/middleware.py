"""Faults at the workspace's outer edge: before the token check, as a gateway or a network would have them."""

import asyncio
from typing import Any

from local_workspace.errors import ApiError
from local_workspace.faults.connections import Connections
from local_workspace.faults.rules import ActiveRule, Faults

ADMIN_PATH = "/local/faults"
ERROR_CODES = {
    429: "REQUEST_LIMIT_EXCEEDED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class InjectFaults:
    """ASGI middleware: strikes the requests that the rules name; the rules' own address is spared."""

    def __init__(self, app: Any, faults: Faults, connections: Connections):
        self.app = app
        self._faults = faults
        self._connections = connections

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._faults.rules and scope["type"] == "http" and not scope["path"].startswith(ADMIN_PATH):
            for active in self._faults.striking(scope["method"], scope["path"]):
                if active.rule.latency_ms is None:
                    await self._fail(active, scope, receive, send)
                    return
                await asyncio.sleep(active.delay())
        await self.app(scope, receive, send)

    async def _fail(self, active: ActiveRule, scope: Any, receive: Any, send: Any) -> None:
        rule = active.rule
        if rule.status is not None:
            await _error(active, rule.status).response()(scope, receive, send)
        elif rule.drop == "response":
            await self.app(scope, receive, CutAnswer(self._connections, scope["client"], send, rule.after_bytes or 0))
        elif rule.after_bytes:
            await self.app(scope, CutBody(self._connections, scope["client"], receive, rule.after_bytes), send)
        else:
            self._connections.cut(scope["client"])
            while (await receive())["type"] != "http.disconnect":
                pass


def _error(active: ActiveRule, status: int) -> ApiError:
    rule = active.rule
    code = rule.error_code or ERROR_CODES.get(status, "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST")
    headers = {} if rule.retry_after is None else {"Retry-After": str(rule.retry_after)}
    error = ApiError(f"Injected by the fault rule {active.id}.", error_code=code, headers=headers)
    error.status = status
    return error


class CutBody:
    """ASGI's `receive`, of a connection that is lost after so many bytes of the request."""

    def __init__(self, connections: Connections, client: tuple[str, int], receive: Any, left: int):
        self._connections = connections
        self._client = client
        self._receive = receive
        self._left = left

    async def __call__(self) -> Any:
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        if len(body) < self._left and message.get("more_body"):
            self._left -= len(body)
            return message
        self._connections.cut(self._client)
        return {"type": "http.disconnect"}


class CutAnswer:
    """ASGI's `send`, of a connection that is lost after so many bytes of the answer's body."""

    def __init__(self, connections: Connections, client: tuple[str, int], send: Any, left: int):
        self._connections = connections
        self._client = client
        self._send = send
        self._left = left
        self._lost = False

    async def __call__(self, message: Any) -> None:
        if self._lost:
            return
        body = message.get("body", b"")
        if message["type"] == "http.response.start":
            if self._left:
                await self._send(message)
            else:
                self._cut(flush=False)
        elif len(body) < self._left and message.get("more_body"):
            self._left -= len(body)
            await self._send(message)
        else:
            await self._send({"type": "http.response.body", "body": body[: self._left], "more_body": True})
            self._cut(flush=True)

    def _cut(self, *, flush: bool) -> None:
        self._lost = True
        self._connections.cut(self._client, flush=flush)

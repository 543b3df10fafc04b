"""An app's stable address: a streaming reverse proxy in front of its processes, for HTTP/1.1 and WebSocket.

`GET /logz` answers the end of the app's log as plain text, behind the same access check. On Databricks the same path
shows a page; its WebSocket `/logz/stream` is not here.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import h11

from local_workspace.apps.access import HOP_BY_HOP, admit, forwarded
from local_workspace.apps.upstream import Peer, Upstream
from local_workspace.auth import Auth
from local_workspace.errors import ApiError, BadRequest, NotImplementedHere

LINGER_SECONDS = 5.0
SAFE_METHODS = (b"GET", b"HEAD", b"OPTIONS")

Answer = h11.Response | h11.InformationalResponse


class BadGateway(ApiError):
    """The app broke off without an answer."""

    status, error_code = 502, "BAD_GATEWAY"


class AppProxy:
    """Serves one app's port. `pick` chooses a process and raises Unavailable; `log` gives the end of the log."""

    def __init__(self, port: int, auth: Auth, pick: Callable[[], Upstream], log: Callable[[], str]):
        self.port = port
        self._auth = auth
        self._pick = pick
        self._log = log
        self._server: asyncio.Server | None = None
        self._open: set[Peer] = set()

    async def start(self, listener: socket.socket) -> None:
        """Serve from now on."""
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def stop(self) -> None:
        """Stop listening and drop the connections."""
        if self._server:
            self._server.close()
        for client in self._open:
            client.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Peer(h11.SERVER, reader, writer)
        self._open.add(client)
        try:
            while await self._exchange(client) and client.next_cycle():
                pass
        except h11.RemoteProtocolError as error:
            with contextlib.suppress(h11.ProtocolError, ConnectionError):
                await _refuse(client, BadRequest(f"This is not HTTP/1.1: {error}"))
        except ConnectionError:
            pass  # the client is gone
        finally:
            self._open.discard(client)
            client.close()

    async def _exchange(self, client: Peer) -> bool:
        """One request and its answer; False when the connection is done."""
        request = await client.next_event()
        if not isinstance(request, h11.Request):
            return False
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        try:
            caller = admit(headers, self.port, self._auth)
            if not request.target.startswith(b"/"):
                raise BadRequest("The request target must be a path.")
            path = request.target.partition(b"?")[0]
            if path.startswith(b"/logz/"):
                raise NotImplementedHere("local_workspace does not stream logs; GET /logz answers their end.")
            if path == b"/logz":
                log = await asyncio.to_thread(self._log)
                return await _respond(client, 200, "text/plain; charset=utf-8", log.encode(), request.method)
            upstream = self._pick()
        except ApiError as error:
            return await _refuse(client, error, request.method)
        with upstream.request():
            if client.http.they_are_waiting_for_100_continue:
                await client.send(h11.InformationalResponse(status_code=100, headers=[]))
            peer = client.writer.get_extra_info("peername")[0]
            passed_on = forwarded(headers, caller, self.port, peer)
            asked = h11.Request(method=request.method, target=request.target, headers=passed_on)
            return await _relay(client, upstream, asked)


async def _relay(client: Peer, upstream: Upstream, request: h11.Request) -> bool:
    """Carry a request to the app and the answer back; False when the client's connection is done."""
    try:
        server, rest, answer = await _ask(client, upstream, request)
    except BadGateway as error:
        return await _refuse(client, error, request.method)
    try:
        if isinstance(answer, h11.InformationalResponse):
            await _end(rest)
            await _tunnel(client, server, answer)
            return False
        await _pass_back(client, server, answer)
        if _sends(client):  # closing now would make the client lose the answer
            await asyncio.wait([rest], timeout=LINGER_SECONDS)
    except (h11.RemoteProtocolError, ConnectionError):
        client.abort()  # half an answer must not look like a whole one
        server.abort()
        return False
    finally:
        await _end(rest)
    upstream.release(server)
    return True


async def _ask(client: Peer, upstream: Upstream, request: h11.Request) -> "tuple[Peer, asyncio.Task[None], Answer]":
    """Send a request; the connection, the task that sends the rest of it, and the answer's head. Raises BadGateway."""
    arrived = _arrived(client)
    fresh = False
    while True:
        server, rest = None, None
        try:
            server = await upstream.connect(fresh)
            await server.send(request, *arrived)
            rest = asyncio.create_task(_send_rest(client, server))
            return server, rest, await _head_of_answer(server)
        except (OSError, h11.RemoteProtocolError) as error:
            if rest:
                await _end(rest)
            if server:
                server.abort()
            # The app may have closed an idle connection just now: what changes nothing can be asked again.
            stale = server is not None and server.reused and not fresh and not client.reader.at_eof()
            if not stale or request.method not in SAFE_METHODS or _sends(client):
                raise BadGateway(f"The app did not answer: {error or type(error).__name__}") from error
            fresh = True


def _sends(client: Peer) -> bool:
    """Whether the client is still sending its request."""
    return client.http.their_state is h11.SEND_BODY


def _arrived(client: Peer) -> list[h11.Event]:
    """What of the request's body is here already, to be sent in one write with its head."""
    events: list[h11.Event] = []
    while _sends(client) and isinstance(event := client.http.next_event(), h11.Event):
        events.append(event)
    return events


async def _send_rest(client: Peer, server: Peer) -> None:
    """Send the rest of the request; then, if the client goes away, break off the app's side."""
    try:
        while _sends(client):
            event = await client.next_event()
            # An app may answer and stop reading before it has all; the client's rest is dropped then.
            with contextlib.suppress(ConnectionError, h11.LocalProtocolError):
                await server.send(event)
        if not client.http.trailing_data[0] and not await client.receive():
            server.abort()
    except (h11.RemoteProtocolError, ConnectionError):
        server.abort()


async def _head_of_answer(server: Peer) -> Answer:
    """The answer's status and headers, or the switch to another protocol. Raises ConnectionError."""
    while True:
        event = await server.next_event()
        if isinstance(event, h11.Response) or (
            isinstance(event, h11.InformationalResponse) and event.status_code == 101
        ):
            return event
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("it closed the connection")


async def _pass_back(client: Peer, server: Peer, answer: h11.Response) -> None:
    """Send the answer on as it comes: whatever is here in one write, nothing held back."""
    headers = [(name, value) for name, value in answer.headers if name not in HOP_BY_HOP]
    head = h11.Response(status_code=answer.status_code, headers=headers, reason=answer.reason)
    out = [client.http.send(head) or b""]
    while True:
        event = server.http.next_event()
        if event is h11.NEED_DATA:
            await client.write(b"".join(out))
            out.clear()
            await server.receive()
        elif isinstance(event, h11.Data):
            out.append(client.http.send(h11.Data(data=event.data)) or b"")
        elif isinstance(event, h11.EndOfMessage):
            out.append(client.http.send(h11.EndOfMessage(headers=event.headers)) or b"")
            await client.write(b"".join(out))
            return
        else:
            raise ConnectionResetError("it closed the connection")


async def _tunnel(client: Peer, server: Peer, answer: h11.InformationalResponse) -> None:
    """After a switch of protocols (WebSocket): carry bytes both ways until one side ends."""

    async def carry(source: Peer, target: Peer) -> None:
        await target.write(source.http.trailing_data[0])
        with contextlib.suppress(ConnectionError):
            while data := await source.reader.read(65536):
                await target.write(data)

    await client.send(h11.InformationalResponse(status_code=101, headers=answer.headers, reason=answer.reason))
    ways = [asyncio.create_task(carry(client, server)), asyncio.create_task(carry(server, client))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            await _end(way)
        server.close()


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait until it has let go of its connection."""
    task.cancel()
    await asyncio.wait([task])


async def _refuse(client: Peer, error: ApiError, method: bytes = b"GET") -> bool:
    """Answer an error in the shape of the REST API."""
    response = error.response()
    return await _respond(client, response.status_code, "application/json", bytes(response.body), method)


async def _respond(client: Peer, status: int, content_type: str, body: bytes, method: bytes) -> bool:
    """An answer of the proxy's own; True, the connection may go on. What the client still sends is dropped."""
    headers = [("content-type", content_type), ("content-length", str(len(body)))]
    events: list[h11.Event] = [h11.Response(status_code=status, headers=headers)]
    if method != b"HEAD":
        events.append(h11.Data(data=body))
    await client.send(*events, h11.EndOfMessage())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while _sends(client):
                await client.next_event()
    return True

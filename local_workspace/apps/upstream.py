"""HTTP/1.1 over asyncio streams with h11, and pooled connections to one process of an app."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import h11

READ_BYTES = 65536
# Servers close idle connections after a few seconds (uvicorn: 5); one used within this time is still open.
IDLE_SECONDS = 2.0
MAX_IDLE = 32


class Peer:
    """One connection, on either side of the proxy."""

    def __init__(
        self, role: type[h11.CLIENT] | type[h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self.http = h11.Connection(role, max_incomplete_event_size=READ_BYTES)
        self.reader = reader
        self.writer = writer
        self.reused = False
        self.idle_since = 0.0

    async def next_event(self) -> Any:
        """The next h11 event. Raises h11.RemoteProtocolError, ConnectionError."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            await self.receive()
        return event

    async def receive(self) -> bool:
        """Take in what has come, or wait for it; False at the end of the stream."""
        data = await self.reader.read(READ_BYTES)
        self.http.receive_data(data)
        return bool(data)

    async def send(self, *events: h11.Event) -> None:
        """Send events in one write, and wait while the other side is slow."""
        await self.write(b"".join(self.http.send(event) or b"" for event in events))

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait while the other side is slow."""
        if data:
            self.writer.write(data)
            await self.writer.drain()

    def next_cycle(self) -> bool:
        """Make ready for another request; False if this connection cannot have one."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close at once, what was written is still sent."""
        self.writer.close()

    def abort(self) -> None:
        """Break the connection, so that whoever waits on it notices."""
        self.writer.transport.abort()


class Upstream:
    """The connections to one process of an app."""

    def __init__(self, port: int):
        self.port = port
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._idle: list[Peer] = []
        self._closed = False

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """While a request is under way."""
        self._in_flight += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    async def connect(self, fresh: bool = False) -> Peer:
        """An idle connection, or a new one. Raises OSError."""
        while self._idle and not fresh:
            peer = self._idle.pop()
            if time.monotonic() - peer.idle_since < IDLE_SECONDS and not peer.reader.at_eof():
                peer.reused = True
                return peer
            peer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Peer(h11.CLIENT, reader, writer)

    def release(self, peer: Peer) -> None:
        """Give a connection back after use; it is kept if it can be used again."""
        try:
            reusable = not self._closed and len(self._idle) < MAX_IDLE and peer.next_cycle()
        except h11.ProtocolError:
            reusable = False
        if not reusable:
            peer.close()
            return
        peer.idle_since = time.monotonic()
        self._idle.append(peer)

    async def accepts(self) -> bool:
        """Whether the process listens."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def drain(self, seconds: float) -> None:
        """Wait until no request is under way, at most so long, and drop the idle connections."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), seconds)
        while self._idle:
            self._idle.pop().close()

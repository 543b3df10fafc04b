"""A TCP port of this machine that stays the same while what is behind it comes and goes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from local_workspace.child import listen
from local_workspace.errors import ApiError

CHUNK = 1 << 16
log = logging.getLogger(__name__)

Target = Callable[[asyncio.StreamReader], Awaitable[tuple[int, bytes]]]
"""Gives the port a new connection belongs to, and the bytes it has read from the connection to know it."""


def kept_listener(kept: Path) -> socket.socket:
    """A listening socket on the port that the file remembers if it is free, else on a new one, remembered there."""
    wanted = int(kept.read_text()) if kept.exists() else 0
    try:
        listener = listen(wanted)
    except OSError:
        listener = listen(0)
    kept.write_text(str(listener.getsockname()[1]))
    return listener


class Forwarder:
    """Carries each connection to the port that `target` names, at the pace of the slower end."""

    def __init__(self, kept: Path, target: Target):
        self._listener = kept_listener(kept)
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    def close(self) -> None:
        """Take no more connections."""
        if self._server:
            self._server.close()

    async def stop(self) -> None:
        """Close the port and every connection."""
        self.close()
        self.cut()

    def cut(self) -> int:
        """Cut every connection, and give how many there were."""
        for writer in self._writers:
            writer.transport.abort()
        return len(self._writers)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            port, head = await self._target(reader)
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(behind_writer):
                behind_writer.write(head)
                await asyncio.gather(_pipe(reader, behind_writer), _pipe(behind_reader, writer))
        except (ApiError, OSError) as error:
            log.warning("port %s: %s", self.port, error)
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end; one direction may end before the other, a lost connection ends both."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()

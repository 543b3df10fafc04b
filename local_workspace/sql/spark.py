"""The Spark Connect address: a port that stays the same while the engine behind it comes and goes.

The parent only pipes bytes; who calls and what they may do is decided by `local_workspace.sql.connect` in the engine.
"""

import asyncio
import contextlib
import logging
import socket

from local_workspace.child import listen
from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.errors import ApiError

CHUNK = 1 << 16
log = logging.getLogger(__name__)


class SparkProxy:
    """Pipes connections to the engine's Spark Connect server, which the first one starts."""

    def __init__(self, config: Config, token: str, lake: Engine):
        self._token = token
        self._lake = lake
        self._listener = _listen(config)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def remote(self) -> str:
        """The address for `SparkSession.builder.remote`.

        The token is a parameter of its own: clients want TLS for `token=`, but on a host that is called localhost.
        """
        port = self._listener.getsockname()[1]
        return f"sc://127.0.0.1:{port}/;authorization=Bearer%20{self._token}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._lake.client()
            engine_reader, engine_writer = await asyncio.open_connection("127.0.0.1", self._lake.facts["spark_port"])
            await asyncio.gather(_pipe(reader, engine_writer), _pipe(engine_reader, writer))
        except (ApiError, OSError) as error:
            log.warning("Spark Connect: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def _listen(config: Config) -> socket.socket:
    """The listening socket, on the port this root had last if it is free."""
    kept = config.folder() / "spark_port"
    wanted = int(kept.read_text()) if kept.exists() else 0
    try:
        listener = listen(wanted)
    except OSError:
        listener = listen(0)
    kept.write_text(str(listener.getsockname()[1]))
    return listener

"""The Spark Connect address: a port that stays the same while the engine behind it comes and goes.

The parent only pipes bytes; who calls and what they may do is decided by `local_workspace.sql.connect` in the engine.
"""

import asyncio

from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.forwarding import Forwarder


class SparkProxy(Forwarder):
    """Pipes connections to the engine's Spark Connect server, which the first one starts."""

    def __init__(self, config: Config, token: str, lake: Engine):
        super().__init__(config.folder() / "spark_port", self._engine_port)
        self._token = token
        self._lake = lake

    @property
    def remote(self) -> str:
        """The address for `SparkSession.builder.remote`.

        The token is a parameter of its own: clients want TLS for `token=`, but on a host that is called localhost.
        """
        return f"sc://127.0.0.1:{self.port}/;authorization=Bearer%20{self._token}"

    async def _engine_port(self, _reader: asyncio.StreamReader) -> tuple[int, bytes]:
        await self._lake.client()
        return self._lake.facts["spark_port"], b""

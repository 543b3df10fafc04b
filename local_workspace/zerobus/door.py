"""Zerobus' one address: HTTP/1 goes to the workspace, gRPC to an engine that the first such connection starts."""

import asyncio
from pathlib import Path

from local_workspace.engine import Engine
from local_workspace.errors import Unavailable
from local_workspace.forwarding import Forwarder

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SILENT_SECONDS = 60


class Door(Forwarder):
    """Tells the two protocols apart by the first bytes of a connection (RFC 9113, 3.4)."""

    def __init__(self, kept: Path, engine: Engine, http_port: int):
        super().__init__(kept, self._port_behind)
        self.engine = engine
        self._http_port = http_port

    @property
    def url(self) -> str:
        """The address for OTLP exporters and the Zerobus SDK."""
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Close the port, and stop the engine when its streams have their acknowledgements."""
        self.close()
        await self.engine.stop()
        await super().stop()

    async def _port_behind(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = b""
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                while len(head) < len(HTTP2_PREFACE) and HTTP2_PREFACE.startswith(head):
                    if not (more := await reader.read(len(HTTP2_PREFACE) - len(head))):
                        break
                    head += more
        except TimeoutError:
            raise Unavailable(f"a connection sent nothing for {SILENT_SECONDS} s") from None
        if head != HTTP2_PREFACE:
            return self._http_port, head
        await self.engine.client()
        return self.engine.facts["port"], head

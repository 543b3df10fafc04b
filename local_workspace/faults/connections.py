"""The server's open connections by the client's address, so that one can be cut: ASGI itself has no way to."""

import asyncio

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Connections:
    """Knows the connections of a uvicorn server that was given its `protocol`."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """The class for `uvicorn.Config(http=…)`."""
        transports = self._transports

        class Known(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: asyncio.Transport) -> None:
                self._address = transport.get_extra_info("peername")
                transports[self._address] = transport
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self._address, None)
                super().connection_lost(exc)

        return Known

    def cut(self, client: tuple[str, int], *, flush: bool = False) -> None:
        """Cut a client's connection, with `flush` when all that was written is out."""
        transport = self._transports[client]
        if flush:
            transport.close()
        else:
            transport.abort()

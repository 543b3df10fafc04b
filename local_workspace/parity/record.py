"""Which operations are called: a log of method, path and status, when it is asked for."""

from pathlib import Path

CALLS = "LOCAL_WORKSPACE_CALLS"
"""The environment variable that names the log; none is written without it."""


class RecordCalls:
    """ASGI middleware: one line per answered request, appended in one write so that processes may share the file."""

    def __init__(self, app, log: Path):
        self.app = app
        self._log = log.open("ab", buffering=0)

    async def __call__(self, scope, receive, send) -> None:
        async def recorded(message) -> None:
            if message["type"] == "http.response.start":
                self._log.write(f"{scope['method']} {scope['path']} {message['status']}\n".encode())
            await send(message)

        await self.app(scope, receive, recorded if scope["type"] == "http" else send)

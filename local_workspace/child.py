"""The child's side of an engine: serve an app on loopback for the parent alone, and die with it."""

import json
import os
import signal
import socket
import sys
import threading
from typing import Any

import uvicorn

KEY_HEADER = "x-api-key"  # the one that llama.cpp's server knows too
KEY_VARIABLE = "LOCAL_WORKSPACE_ENGINE_KEY"


def exit_with_parent() -> None:
    """Exit as soon as the parent is gone: it holds the other end of our standard input.

    A child with a session of its own takes along what it has started.
    """

    def watch() -> None:
        # Not by sys.stdin: its lock, held while it waits, is fatal to an interpreter that ends by itself.
        while os.read(0, 4096):
            pass
        if os.getsid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="exit-with-parent").start()


def announce(port: int, **facts: Any) -> None:
    """Tell the parent on standard output that the engine listens on `port`."""
    sys.stdout.write(json.dumps({"port": port, **facts}) + "\n")
    sys.stdout.flush()


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises OSError when the port is in use."""
    listener = socket.create_server(("127.0.0.1", port))
    # asyncio sets it only on sockets of the explicit protocol TCP; without it each small answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class RequireKey:
    """ASGI middleware: only the parent, which made the key, may call."""

    def __init__(self, app: Any, key: str):
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (KEY_HEADER.encode(), self.key) not in scope["headers"]:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)


def serve(app: Any, **facts: Any) -> None:
    """Run an ASGI app as an engine: free port on loopback, key required, gone with the parent."""
    exit_with_parent()
    listener = listen(0)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce(listener.getsockname()[1], **facts)

    guarded = RequireKey(app, os.environ[KEY_VARIABLE])
    Server(uvicorn.Config(guarded, log_level="warning", access_log=False)).run(sockets=[listener])

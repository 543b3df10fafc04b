"""One process of an app: started in a session of its own, watched, ended with grace."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from local_workspace.apps.upstream import Upstream
from local_workspace.processes import sessions

GRACE_SECONDS = 15.0
POLL_SECONDS = 0.05
TAIL_BYTES = 2000


class StartFailedError(Exception):
    """An app's process did not come up; the message says why, with the end of its log."""


def free_port() -> int:
    """A port of loopback nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def tail(log: Path, size: int = TAIL_BYTES) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - size, 0))
            return stream.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


class AppProcess:
    """A running process, the port it was told to serve and the way to it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path, on_end: Callable[[int], None]):
        self.process = process
        self.log = log
        self.upstream = Upstream(port)
        self.started = time.time()
        self._on_end = on_end
        self._swept = False

    @classmethod
    async def start(
        cls,
        argv: list[str],
        port: int,
        folder: Path,
        environment: dict[str, str],
        log: Path,
        on_end: Callable[[int], None],
    ) -> "AppProcess":
        """Start `argv` in `folder`; its output goes to `log`. `on_end` gets the id once the session is over."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await sessions.start(argv, folder, environment, output)
        return cls(process, port, log, on_end)

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process.returncode is None

    async def wait_until_up(self, health_path: str | None, seconds: float) -> None:
        """Wait until it listens, or answers `health_path` without an error. Raises StartFailedError."""
        try:
            async with asyncio.timeout(seconds):
                await self._until_up(health_path)
        except TimeoutError:
            waited_for = f"answer {health_path} without an error" if health_path else "listen on its port"
            raise StartFailedError(f"the app did not {waited_for} within {seconds:g} s. {self._last_words()}") from None

    async def stop(self, drain: float = 0.0) -> None:
        """Let running requests end for up to `drain` seconds, then SIGTERM, then after the grace SIGKILL.

        It may be called again while it runs, to drain no longer.
        """
        await self.upstream.drain(drain)
        if self.running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), GRACE_SECONDS)
        if not self._swept:
            self._swept = True
            self._signal(signal.SIGKILL)
            self._on_end(self.process.pid)
        await self.process.wait()

    async def _until_up(self, health_path: str | None) -> None:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while True:
                if not self.running:
                    raise StartFailedError(
                        f"the app ended with exit code {self.process.returncode}. {self._last_words()}"
                    )
                if health_path is None:
                    if await self.upstream.accepts():
                        return
                else:
                    with contextlib.suppress(httpx.TransportError):
                        answer = await client.get(f"http://127.0.0.1:{self.upstream.port}{health_path}")
                        if not answer.is_error:
                            return
                await asyncio.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        return f"End of its log: {tail(self.log) or '(empty)'}"

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole session, so that no worker of the app stays behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

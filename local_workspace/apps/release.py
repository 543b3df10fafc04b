"""The running processes of one deployment: started together, restarted when they crash, stopped together."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from local_workspace.apps.process import AppProcess, StartFailedError
from local_workspace.apps.upstream import Upstream

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 30.0
HEALTHY_SECONDS = 60.0


class Release:
    """`launch` starts one process and returns once it is up, or raises StartFailedError."""

    def __init__(self, deployment_id: str, launch: Callable[[], Coroutine[Any, Any, AppProcess]], count: int):
        self.deployment_id = deployment_id
        self.last_crash = ""
        """Why a process ended last, while it is down."""
        self._launch = launch
        self._count = count
        self._running: list[AppProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._turn = 0

    @property
    def running(self) -> int:
        """How many processes are up."""
        return len(self._running)

    async def start(self) -> None:
        """Start all processes. Raises StartFailedError, with none left running."""
        starting = [asyncio.create_task(self._launch()) for _ in range(self._count)]
        try:
            self._running = list(await asyncio.gather(*starting))
        except BaseException:
            for task in starting:
                task.cancel()
            for started in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(started, AppProcess):
                    await started.stop()
            raise
        self._keepers = [asyncio.create_task(self._keep(process)) for process in self._running]

    def pick(self) -> Upstream | None:
        """The next process in turn, or None when none is up."""
        if not self._running:
            return None
        self._turn += 1
        return self._running[self._turn % len(self._running)].upstream

    async def stop(self, drain: float = 0.0) -> None:
        """Stop all processes at the same time, after letting requests end for up to `drain` seconds.

        It may be called again while it runs, to drain no longer.
        """
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(process.stop(drain) for process in self._running))

    async def _keep(self, process: AppProcess) -> None:
        """Start another process each time this one has ended."""
        backoff = FIRST_BACKOFF
        while True:
            code = await process.process.wait()
            self._running.remove(process)
            self.last_crash = f"the app ended with exit code {code}"
            await process.stop()  # what it may have left in its session
            if time.time() - process.started > HEALTHY_SECONDS:
                backoff = FIRST_BACKOFF
            while True:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)
                try:
                    process = await self._launch()
                    break
                except (StartFailedError, OSError) as error:
                    self.last_crash = str(error)
            self._running.append(process)

"""What happens at set times: one task that sleeps until the next cron time of many."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from local_workspace.jobs.cron import Cron

log = logging.getLogger(__name__)
LONGEST_SLEEP = 60.0
"""So that a changed clock or a machine that slept is noticed."""


class Alarm:
    """Calls `fire(key)` at each time of the schedules that `due()` names; what it missed while down is left out."""

    def __init__(self, name: str, due: Callable[[], dict[str, Cron]], fire: Callable[[str], Awaitable[object]]):
        self._name = name
        self._due = due
        self._fire = fire
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._firing: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"alarm-{self._name}")

    def changed(self) -> None:
        """Look at the schedules again."""
        self._changed.set()

    async def stop(self) -> None:
        """End, and give up what is being fired."""
        tasks = [task for task in (self._task, *self._firing) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        since = datetime.now(UTC)
        while True:
            self._changed.clear()
            times = {key: time for key, cron in self._due().items() if (time := cron.after(since))}
            first = min(times.values(), default=None)
            pause = (first - datetime.now(UTC)).total_seconds() if first else LONGEST_SLEEP
            if pause > 0:
                try:
                    await asyncio.wait_for(self._changed.wait(), min(pause, LONGEST_SLEEP))
                except TimeoutError:
                    pass
                else:
                    since = datetime.now(UTC)
                    continue
            now = datetime.now(UTC)
            for key, time in times.items():
                if time <= now:
                    self._ring(key)
            since = now

    def _ring(self, key: str) -> None:
        async def fire() -> object:
            return await self._fire(key)

        task = asyncio.get_running_loop().create_task(fire(), name=f"{self._name}-{key}")
        self._firing.add(task)
        task.add_done_callback(self._rung)

    def _rung(self, task: asyncio.Task[object]) -> None:
        self._firing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s failed", task.get_name(), exc_info=error)

"""What happens at its own times: one task that sleeps until the next moment of many."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
LONGEST_SLEEP = 30.0
"""So that a changed clock, or a machine that slept, is noticed."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Due:
    """When something is due."""

    rule: str
    """While it stays the same, the moment that was found stays too."""
    after: Callable[[datetime], datetime | None]
    """The first moment after another, in UTC; None when there is none."""


@dataclass(frozen=True)
class _Waiting:
    rule: str
    at: datetime


class Alarm(Generic[Key]):
    """Calls `fire(key)` at the moments that `due()` tells for each key, never twice at once for the same.

    A moment that passes while a key is being fired, or while the workspace is down, is left out.
    """

    def __init__(self, name: str, due: Callable[[], dict[Key, Due]], fire: Callable[[Key], Awaitable[object]]):
        self._name = name
        self._due = due
        self._fire = fire
        self._waiting: dict[Key, _Waiting] = {}
        self._firing: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"alarm-{self._name}")

    def changed(self) -> None:
        """Something has been added, changed or removed."""
        self._changed.set()

    async def stop(self) -> None:
        """End, and give up what is being fired."""
        tasks = [task for task in (self._task, *self._firing.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._plan()
            now = datetime.now(UTC)
            for key in [key for key, waiting in self._waiting.items() if waiting.at <= now]:
                del self._waiting[key]
                self._firing[key] = asyncio.get_running_loop().create_task(self._ring(key))
            first = min((waiting.at for waiting in self._waiting.values()), default=None)
            pause = (first - datetime.now(UTC)).total_seconds() if first else LONGEST_SLEEP
            try:
                await asyncio.wait_for(self._changed.wait(), min(max(pause, 0.0), LONGEST_SLEEP))
            except TimeoutError:
                continue

    def _plan(self) -> None:
        """Keep the moments whose rule is as it was; find those of the others."""
        now, planned = datetime.now(UTC), {}
        for key, due in self._due().items():
            known = self._waiting.get(key)
            if key in self._firing:
                continue
            if known and known.rule == due.rule:
                planned[key] = known
            elif at := due.after(now):
                planned[key] = _Waiting(due.rule, at)
        self._waiting = planned

    async def _ring(self, key: Key) -> None:
        try:
            await self._fire(key)
        except Exception:
            # The boundary of what others have asked for: one that fails leaves its trace and rings again next time.
            log.exception("%s %s failed", self._name, key)
        finally:
            del self._firing[key]
            self._changed.set()

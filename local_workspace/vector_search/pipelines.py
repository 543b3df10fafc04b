"""Keeping delta-sync indexes at their tables' versions: on request, or by themselves within a second or two."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_workspace.engine import Engine
from local_workspace.errors import ApiError, BadRequest, Unavailable
from local_workspace.unity_catalog.store import CatalogStore
from local_workspace.vector_search.store import VectorStore
from local_workspace.vector_search.syncs import DONE, FAILED, RUNNING, WAITING, Sync, Syncs

LOOK_SECONDS = 0.5
TRY_AGAIN_SECONDS = 5.0
ENGINE_DEATHS_ALLOWED = 3


class Pipelines:
    """One sync at a time for each index. What was due or running when the workspace ended is run at the next start."""

    def __init__(self, syncs: Syncs, store: VectorStore, engine: Engine, catalog: CatalogStore):
        self.syncs = syncs
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._running: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._failed_at: dict[str, float] = {}

    def start(self) -> None:
        """Go on where the workspace ended, and follow the tables of continuous indexes."""
        for sync in self.syncs.all():
            if sync.busy:
                self.begin(sync.name)
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="vector-pipelines")

    async def stop(self) -> None:
        """Interrupt what runs; it is due at the next start."""
        tasks = [*self._running.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, name: str) -> None:
        """A sync is due: now, or after the one that runs."""
        self.syncs.change(name, WAITING)
        running = self._running.get(name)
        if running is None or running.done():
            self._running[name] = asyncio.get_running_loop().create_task(self._run(name), name=f"sync-{name}")

    async def wait(self, name: str, seconds: float) -> None:
        """Wait until no sync of the index runs, at most so long."""
        if task := self._running.get(name):
            await asyncio.wait([task], timeout=seconds)

    async def forget(self, name: str) -> None:
        """Interrupt the index's sync: it is being deleted."""
        if task := self._running.pop(name, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def location(self, source_table: str) -> str:
        """Where a source table lies. Raises NotFound, BadRequest for what is no Delta table."""
        record = self._catalog.get("table", source_table)
        if not record.get("storage_location") or record.get("data_source_format", "DELTA") != "DELTA":
            raise BadRequest(f"source_table {source_table!r} is not a Delta table")
        return record["storage_location"]

    async def _run(self, name: str) -> None:
        while (sync := self.syncs.get(name)) and sync.state == WAITING:
            self.syncs.change(name, RUNNING)
            try:
                location, version = await self._sync(sync)
            except ApiError as error:
                self._failed_at[name] = time.monotonic()
                self.syncs.fail(name, error.message)
            else:
                self.syncs.finish(name, location, version)

    async def _sync(self, sync: Sync) -> tuple[str, int]:
        location = self.location(sync.columns["source_table"])
        # Another table of the same name has a history of its own.
        since = sync.version if sync.location == location else None
        body = sync.columns | {"location": location, "since": since}
        path = f"/indexes/{self._store.index(sync.name)['id']}/sync"
        for death in range(1, ENGINE_DEATHS_ALLOWED + 1):
            try:
                # Embedding a table may take hours.
                answer = await self._engine.call("POST", path, json=body, timeout=None)
                break
            except Unavailable:
                if death == ENGINE_DEATHS_ALLOWED:
                    raise
        return location, answer.json()["version"]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for sync in self.syncs.all():
                if sync.continuous and self._is_due(sync):
                    self.begin(sync.name)

    def _is_due(self, sync: Sync) -> bool:
        if sync.state == FAILED:
            return time.monotonic() - self._failed_at.get(sync.name, 0.0) > TRY_AGAIN_SECONDS
        return sync.state == DONE and self._has_moved(sync)

    def _has_moved(self, sync: Sync) -> bool:
        with contextlib.suppress(ApiError):
            location = self.location(sync.columns["source_table"])
            following = f"{(sync.version or 0) + 1:020}.json"
            return location != sync.location or Path(location.removeprefix("file://"), "_delta_log", following).exists()
        return True


def status(sync: Sync, row_count: int) -> dict[str, Any]:
    """The index's status as the API shows it."""
    ready = sync.version is not None
    if sync.state == FAILED:
        state = "ONLINE_PIPELINE_FAILED" if ready else "OFFLINE_FAILED"
        message = f"The last sync failed: {sync.message}"
    elif not ready:
        state, message = "PROVISIONING_INITIAL_SNAPSHOT", "The index is being built from its source table."
    elif sync.continuous:
        state, message = "ONLINE_CONTINUOUS_UPDATE", "The index follows its source table."
    elif sync.busy:
        state, message = "ONLINE_TRIGGERED_UPDATE", "The index is ready and is being updated."
    else:
        state, message = "ONLINE_NO_PENDING_UPDATE", "The index is ready."
    shown: dict[str, Any] = {
        "ready": ready,
        "detailed_state": state,
        "message": message,
        "indexed_row_count": row_count,
    }
    if sync.version is not None and sync.synced_at is not None:
        at = datetime.fromtimestamp(sync.synced_at, UTC).isoformat().replace("+00:00", "Z")
        facts = {"last_processed_commit_version": sync.version, "timestamp": at}
        kind = "failed" if sync.state == FAILED else "continuous_update" if sync.continuous else "triggered_update"
        shown[f"{kind}_status"] = facts
    return shown

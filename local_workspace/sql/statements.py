"""Running statements on the lake engine: one task each, waited for as long as the caller says."""

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any

import httpx

from local_workspace.engine import Engine
from local_workspace.errors import ApiError, Unavailable
from local_workspace.sql.store import FINISHED, StatementStore
from local_workspace.warehouses.store import DEFAULT_ID


class Statements:
    """Statements that run and that have run."""

    def __init__(self, store: StatementStore, lake: Engine):
        self._store = store
        self._lake = lake
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._interrupting: set[asyncio.Task[None]] = set()

    def submit(self, request: dict[str, Any]) -> str:
        """Start a statement and give its id; `request` is what the engine takes, but for id and folder.

        It may also have `warehouse_id` and `query_tags`, for the history.
        """
        statement_id = str(uuid.uuid4())
        self._store.add(
            statement_id,
            request["sql"],
            request["user"],
            request.get("warehouse_id", DEFAULT_ID),
            request.get("disposition", "INLINE"),
            request.get("query_tags", ()),
        )
        body = request | {"id": statement_id, "folder": str(self._store.folder(statement_id))}
        task = asyncio.create_task(self._run(statement_id, body))
        self._tasks[statement_id] = task
        task.add_done_callback(lambda _task: self._tasks.pop(statement_id, None))
        return statement_id

    async def wait(self, statement_id: str, seconds: float) -> bool:
        """Wait for a statement at most so long; whether it has finished."""
        task = self._tasks.get(statement_id)
        if task is not None and seconds:
            await asyncio.wait([task], timeout=seconds)
        return self._store.get(statement_id)["state"] in FINISHED

    async def cancel(self, statement_id: str) -> None:
        """Stop a statement; one that has finished stays as it is. Raises NotFound."""
        self._store.get(statement_id)
        self._store.end(statement_id, "CANCELED")
        if running := self._tasks.get(statement_id):
            task = asyncio.create_task(self._interrupt(statement_id, running))
            self._interrupting.add(task)
            task.add_done_callback(self._interrupting.discard)

    def running(self, warehouse_id: str) -> int:
        """How many statements of a warehouse have not ended."""
        return len(self._store.running(warehouse_id))

    async def cancel_all(self, warehouse_id: str) -> None:
        """Stop what runs on a warehouse."""
        for statement_id in self._store.running(warehouse_id):
            await self.cancel(statement_id)

    async def stop(self) -> None:
        """Give up what still runs; the store says so at the next start."""
        tasks = [*self._interrupting, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _interrupt(self, statement_id: str, running: asyncio.Task[None]) -> None:
        """Tell the engine until it has let go: at first it may not have begun what it is to stop."""
        pause = 0.02
        while not running.done():
            if self._lake.running:  # it may be about to start
                with contextlib.suppress(ApiError):
                    await self._lake.call("POST", f"/statements/{statement_id}/cancel")
            await asyncio.wait([running], timeout=pause)
            pause = min(2 * pause, 1.0)

    async def _run(self, statement_id: str, body: dict[str, Any]) -> None:
        self._store.begin(statement_id)
        try:
            manifest = (await self._call(body)).json()
        except ApiError as error:
            failure: dict[str, Any] = {"error_code": "BAD_REQUEST", "message": error.message}
            if isinstance(error, Unavailable):
                failure["error_code"] = "TEMPORARILY_UNAVAILABLE"
            elif error.status >= 500:
                failure["error_code"] = "INTERNAL_ERROR"
            self._store.end(statement_id, "FAILED", error=failure)
        else:
            self._store.end(statement_id, "SUCCEEDED", manifest=manifest)

    async def _call(self, body: dict[str, Any]) -> httpx.Response:
        try:
            return await self._lake.call("POST", "/statements", json=body)
        except Unavailable:
            if await asyncio.to_thread(Path(body["folder"]).exists):
                raise
            # The engine was dead before it began the statement: a new one can have it.
            return await self._lake.call("POST", "/statements", json=body)

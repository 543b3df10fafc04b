"""Inference tables and usage tracking: a row per request, written to Delta in batches.

A row lies in the workspace's state before the request's answer is sent whole, and is forgotten after its Delta commit.
So every request that was answered is in the table within seconds, even when the workspace or its engine is killed
meanwhile; one killed between commit and forgetting is written twice: `databricks_request_id` tells.
"""

import asyncio
import contextlib
import json
import logging
from typing import Any

from local_workspace.engine import Engine
from local_workspace.errors import ApiError
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS serving_records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, row TEXT NOT NULL);
"""
PAUSE_SECONDS = 1.0
RETRY_SECONDS = 5.0
BATCH = 500
BATCH_CHARACTERS = 8 * 2**20
MAX_WAITING = 100_000
"""Rows that may wait for a table that cannot be written; later ones are lost, and the log says so."""

log = logging.getLogger(__name__)


class Records:
    """Rows on their way into Delta tables."""

    def __init__(self, state: State, lake: Engine):
        self._state = state
        self._lake = lake
        state.create(DDL)
        self._waiting = state.rows("SELECT count(*) AS n FROM serving_records")[0]["n"]
        self._news = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write what is there and what comes."""
        if self._waiting:
            self._news.set()
        self._writer = asyncio.get_running_loop().create_task(self._write(), name="serving-records")

    def add(self, target: str, row: dict[str, Any]) -> None:
        """Keep a row for the table `target`."""
        if self._waiting >= MAX_WAITING:
            log.error("a row for %s is lost: %d rows wait to be written", target, self._waiting)
            return
        text = json.dumps(row, ensure_ascii=False).encode(errors="replace").decode()  # no lone surrogates in tables
        self._state.execute("INSERT INTO serving_records (target, row) VALUES (?, ?)", [target, text])
        self._waiting += 1
        self._news.set()

    async def stop(self) -> None:
        """Write no more; what waits is written after the next start."""
        if self._writer:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(PAUSE_SECONDS)
            failed = False
            for target in self._state.rows("SELECT DISTINCT target FROM serving_records"):
                try:
                    await self._write_to(target["target"])
                except ApiError as error:
                    failed = True
                    log.warning("rows for %s wait: %s", target["target"], error.message)
            if failed:
                await asyncio.sleep(RETRY_SECONDS)
                self._news.set()

    async def _write_to(self, target: str) -> None:
        while rows := await asyncio.to_thread(self._batch, target):
            content = "[" + ",".join(row["row"] for row in rows) + "]"
            await self._lake.call("POST", f"/append/{target}", content=content.encode())
            done = "DELETE FROM serving_records WHERE target = ? AND id <= ?"
            self._waiting -= await asyncio.to_thread(self._state.execute, done, [target, rows[-1]["id"]])

    def _batch(self, target: str) -> list[dict[str, Any]]:
        select = "SELECT id, row FROM serving_records WHERE target = ? ORDER BY id LIMIT ?"
        rows = self._state.rows(select, [target, BATCH])
        size, taken = 0, 0
        while taken < len(rows) and size < BATCH_CHARACTERS:
            size += len(rows[taken]["row"])
            taken += 1
        return rows[:taken]

"""Statements and their results: what ran and how it ended in SQLite, rows in chunk files for a while."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_workspace.errors import NotFound
from local_workspace.state import State

RESULT_SECONDS = 3600
"""How long a result can be read; then its statement is CLOSED."""
HISTORY_SECONDS = 30 * 24 * 3600
TEXT_LENGTH = 100_000
"""How much of a statement's text is kept; the engine gets all of it."""

DDL = """
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, text TEXT NOT NULL, user TEXT NOT NULL, warehouse_id TEXT NOT NULL,
    disposition TEXT NOT NULL, tags TEXT NOT NULL, submitted_at REAL NOT NULL, started_at REAL, ended_at REAL,
    error TEXT, manifest TEXT);
CREATE INDEX IF NOT EXISTS executions_submitted_at ON executions (submitted_at, id);
CREATE INDEX IF NOT EXISTS executions_ended_at ON executions (state, ended_at);
"""
RUNNING = ("PENDING", "RUNNING")
FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "CLOSED")


@dataclass(frozen=True)
class Wanted:
    """Which statements of the history are asked for; an empty list is any."""

    states: Sequence[str] = ()
    users: Sequence[str] = ()
    warehouse_ids: Sequence[str] = ()
    statement_ids: Sequence[str] = ()
    since: float = 0.0
    until: float = float("inf")

    def where(self) -> Iterator[tuple[str, list[Any]]]:
        """The conditions as SQL with its values."""
        yield "submitted_at >= ?", [self.since]
        if self.until != float("inf"):
            yield "submitted_at <= ?", [self.until]
        columns = {
            "state": self.states,
            "user": self.users,
            "warehouse_id": self.warehouse_ids,
            "id": self.statement_ids,
        }
        for column, values in columns.items():
            if values:
                yield f"{column} IN ({', '.join('?' * len(values))})", list(values)


class StatementStore:
    """What the statement API and the query history remember."""

    def __init__(self, state: State, folder: Path):
        self._state = state
        self._folder = folder
        state.create(DDL)
        lost = {"error_code": "INTERNAL_ERROR", "message": "The workspace was restarted while the statement ran."}
        state.execute(
            "UPDATE executions SET state = 'FAILED', error = ?, ended_at = ? WHERE state IN ('PENDING', 'RUNNING')",
            [json.dumps(lost), time.time()],
        )

    def folder(self, statement_id: str) -> Path:
        """Where a statement's chunks are."""
        return self._folder / statement_id

    def add(
        self,
        statement_id: str,
        text: str,
        user: str,
        warehouse_id: str,
        disposition: str,
        tags: Sequence[dict[str, Any]],
    ) -> None:
        """Remember a new statement, and forget what is old."""
        self._state.execute(
            "INSERT INTO executions VALUES (?, 'PENDING', ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)",
            [statement_id, text[:TEXT_LENGTH], user, warehouse_id, disposition, json.dumps(list(tags)), time.time()],
        )
        self._sweep()

    def begin(self, statement_id: str) -> None:
        """A statement is given to the engine."""
        self._state.execute(
            "UPDATE executions SET state = 'RUNNING', started_at = ? WHERE id = ? AND state = 'PENDING'",
            [time.time(), statement_id],
        )

    def end(self, statement_id: str, state: str, *, error: dict | None = None, manifest: dict | None = None) -> None:
        """Move a statement to its last state, unless it has one already."""
        self._state.execute(
            "UPDATE executions SET state = ?, ended_at = ?, error = ?, manifest = ? "
            "WHERE id = ? AND state IN ('PENDING', 'RUNNING')",
            [state, time.time(), error and json.dumps(error), manifest and json.dumps(manifest), statement_id],
        )

    def get(self, statement_id: str) -> dict[str, Any]:
        """A statement's state, error and manifest, and what it was. Raises NotFound."""
        row = self._state.row("SELECT * FROM executions WHERE id = ?", [statement_id])
        if row is None:
            raise NotFound(f"The statement {statement_id} was not found.")
        return _parsed(row)

    def history(self, wanted: Wanted, before: tuple[float, str] | None, limit: int) -> list[dict[str, Any]]:
        """Statements, the newest first, that were submitted before the one given by its time and id."""
        conditions = list(wanted.where())
        if before:
            conditions.append(("(submitted_at, id) < (?, ?)", list(before)))
        where = " AND ".join(condition for condition, _ in conditions)
        values = [value for _, given in conditions for value in given]
        # The conditions are this module's own; what is asked for is bound.
        sql = f"SELECT * FROM executions WHERE {where} ORDER BY submitted_at DESC, id DESC LIMIT ?"
        return [_parsed(row) for row in self._state.rows(sql, [*values, limit])]

    def users(self) -> list[str]:
        """Everybody whose statements are remembered."""
        return [row["user"] for row in self._state.rows("SELECT DISTINCT user FROM executions")]

    def running(self, warehouse_id: str) -> list[str]:
        """The statements of a warehouse that have not ended."""
        rows = self._state.rows(
            "SELECT id FROM executions WHERE state IN ('PENDING', 'RUNNING') AND warehouse_id = ?", [warehouse_id]
        )
        return [row["id"] for row in rows]

    def _sweep(self) -> None:
        now = time.time()
        for row in self._state.rows(
            "SELECT id FROM executions WHERE state = 'SUCCEEDED' AND ended_at < ? LIMIT 100", [now - RESULT_SECONDS]
        ):
            shutil.rmtree(self.folder(row["id"]), ignore_errors=True)
            self._state.execute("UPDATE executions SET state = 'CLOSED', manifest = NULL WHERE id = ?", [row["id"]])
        self._state.execute("DELETE FROM executions WHERE submitted_at < ?", [now - HISTORY_SECONDS])


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    parsed = {name: row[name] and json.loads(row[name]) for name in ("error", "manifest", "tags")}
    return row | parsed

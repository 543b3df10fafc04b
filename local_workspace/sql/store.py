"""Statements and their results: states in SQLite, rows in chunk files, both kept for a while."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from local_workspace.errors import NotFound
from local_workspace.state import State

RESULT_SECONDS = 3600
"""How long a result can be read; then its statement is CLOSED."""
STATEMENT_SECONDS = 24 * 3600

DDL = """
CREATE TABLE IF NOT EXISTS statements (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, changed_at REAL NOT NULL, error TEXT, manifest TEXT);
CREATE INDEX IF NOT EXISTS statements_changed_at ON statements (changed_at);
"""
FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "CLOSED")


class StatementStore:
    """What the statement API remembers."""

    def __init__(self, state: State, folder: Path):
        self._state = state
        self._folder = folder
        state.create(DDL)
        lost = {"error_code": "INTERNAL_ERROR", "message": "The workspace was restarted while the statement ran."}
        state.execute(
            "UPDATE statements SET state = 'FAILED', error = ?, changed_at = ? WHERE state IN ('PENDING', 'RUNNING')",
            [json.dumps(lost), time.time()],
        )

    def folder(self, statement_id: str) -> Path:
        """Where a statement's chunks are."""
        return self._folder / statement_id

    def add(self, statement_id: str) -> None:
        """Remember a new statement, and forget what is old."""
        self._state.execute("INSERT INTO statements VALUES (?, 'PENDING', ?, NULL, NULL)", [statement_id, time.time()])
        self._sweep()

    def change(self, statement_id: str, state: str, *, error: dict | None = None, manifest: dict | None = None) -> None:
        """Move a statement to another state, unless it is finished already."""
        self._state.execute(
            "UPDATE statements SET state = ?, changed_at = ?, error = ?, manifest = ? "
            "WHERE id = ? AND state IN ('PENDING', 'RUNNING')",
            [state, time.time(), error and json.dumps(error), manifest and json.dumps(manifest), statement_id],
        )

    def get(self, statement_id: str) -> dict[str, Any]:
        """A statement's state, error and manifest. Raises NotFound."""
        row = self._state.row("SELECT * FROM statements WHERE id = ?", [statement_id])
        if row is None:
            raise NotFound(f"The statement {statement_id} was not found.")
        return row | {
            "error": row["error"] and json.loads(row["error"]),
            "manifest": row["manifest"] and json.loads(row["manifest"]),
        }

    def _sweep(self) -> None:
        now = time.time()
        for row in self._state.rows(
            "SELECT id FROM statements WHERE state = 'SUCCEEDED' AND changed_at < ? LIMIT 100", [now - RESULT_SECONDS]
        ):
            shutil.rmtree(self.folder(row["id"]), ignore_errors=True)
            self._state.execute("UPDATE statements SET state = 'CLOSED', manifest = NULL WHERE id = ?", [row["id"]])
        self._state.execute("DELETE FROM statements WHERE changed_at < ?", [now - STATEMENT_SECONDS])

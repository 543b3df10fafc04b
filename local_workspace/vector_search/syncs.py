"""How far each delta-sync index has come, in SQLite."""

import json
import time
from dataclasses import dataclass
from typing import Any

from local_workspace.state import State

WAITING, RUNNING, DONE, FAILED = "WAITING", "RUNNING", "DONE", "FAILED"
DDL = """
CREATE TABLE IF NOT EXISTS vector_syncs (
    name TEXT PRIMARY KEY REFERENCES vector_indexes (name) ON DELETE CASCADE, columns TEXT NOT NULL,
    pipeline_type TEXT NOT NULL, pipeline_id TEXT NOT NULL, state TEXT NOT NULL, location TEXT,
    version INTEGER, synced_at REAL, message TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Sync:
    """An index's pipeline: what it reads, what it is doing, and the last version that is in the index in full."""

    name: str
    columns: dict[str, Any]
    pipeline_type: str
    pipeline_id: str
    state: str
    location: str | None
    version: int | None
    synced_at: float | None
    message: str

    @property
    def continuous(self) -> bool:
        """Whether it follows its table by itself."""
        return self.pipeline_type == "CONTINUOUS"

    @property
    def busy(self) -> bool:
        """Whether a sync is due or runs."""
        return self.state in (WAITING, RUNNING)


class Syncs:
    """The pipelines by the name of their index."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def add(self, name: str, columns: dict[str, Any], pipeline_type: str, pipeline_id: str) -> None:
        """A new pipeline, whose first sync is due."""
        row = [name, json.dumps(columns), pipeline_type, pipeline_id, WAITING, None, None, None, ""]
        self._state.execute("INSERT INTO vector_syncs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def get(self, name: str) -> Sync | None:
        """The pipeline of an index that has one."""
        return next(iter(self._found("WHERE name = ?", [name])), None)

    def all(self) -> list[Sync]:
        """Every pipeline."""
        return self._found("ORDER BY name", [])

    def change(self, name: str, state: str) -> None:
        """What the pipeline does now."""
        self._state.execute("UPDATE vector_syncs SET state = ? WHERE name = ?", [state, name])

    def finish(self, name: str, location: str, version: int) -> None:
        """The index shows this version of its table in full."""
        self._state.execute(
            "UPDATE vector_syncs SET location = ?, version = ?, synced_at = ? WHERE name = ?",
            [location, version, time.time(), name],
        )
        self._end(name, DONE, "")

    def fail(self, name: str, message: str) -> None:
        """A sync ended with an error; the index shows what it has."""
        self._end(name, FAILED, message)

    def _end(self, name: str, state: str, message: str) -> None:
        # A sync that was asked for meanwhile stays due.
        self._state.execute(
            "UPDATE vector_syncs SET message = ?, state = ? WHERE name = ? AND state = ?",
            [message, state, name, RUNNING],
        )

    def _found(self, clause: str, values: list[Any]) -> list[Sync]:
        rows = self._state.rows(f"SELECT * FROM vector_syncs {clause}", values)
        return [Sync(**(row | {"columns": json.loads(row["columns"])})) for row in rows]

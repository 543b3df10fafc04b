"""Saved queries: their text and what it is run with, the trash, and unique names in a folder."""

import json
import time
import uuid
from typing import Any

from local_workspace.errors import AlreadyExists, NotFound
from local_workspace.moments import iso
from local_workspace.state import State

TRASH_SECONDS = 30 * 24 * 3600

DDL = """
CREATE TABLE IF NOT EXISTS saved_queries (
    id TEXT PRIMARY KEY, facts TEXT NOT NULL, created_at REAL NOT NULL, trashed_at REAL);
"""


class SavedQueries:
    """The queries of the workspace."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)
        state.execute("DELETE FROM saved_queries WHERE trashed_at < ?", [time.time() - TRASH_SECONDS])

    def create(self, facts: dict[str, Any], owner: str, *, rename: bool) -> dict[str, Any]:
        """A new query. Raises AlreadyExists when its folder has the name, unless it may have another."""
        moment = iso(time.time())
        record = facts | {
            "id": str(uuid.uuid4()),
            "owner_user_name": owner,
            "last_modifier_user_name": owner,
            "create_time": moment,
            "update_time": moment,
        }
        with self._state.transaction():
            record["display_name"] = self._free_name(record, rename=rename)
            self._state.execute(
                "INSERT INTO saved_queries VALUES (?, ?, ?, NULL)", [record["id"], json.dumps(record), time.time()]
            )
        return self.get(record["id"])

    def get(self, query_id: str) -> dict[str, Any]:
        """A query as the API shows it, in the trash or not. Raises NotFound."""
        row = self._state.row("SELECT facts, trashed_at FROM saved_queries WHERE id = ?", [query_id])
        if row is None:
            raise NotFound(f"The query {query_id} does not exist.")
        return json.loads(row["facts"]) | {"lifecycle_state": "TRASHED" if row["trashed_at"] else "ACTIVE"}

    def all(self) -> list[dict[str, Any]]:
        """The queries that are not in the trash, the oldest first."""
        rows = self._state.rows("SELECT facts FROM saved_queries WHERE trashed_at IS NULL ORDER BY created_at, id")
        return [json.loads(row["facts"]) | {"lifecycle_state": "ACTIVE"} for row in rows]

    def update(self, query_id: str, changes: dict[str, Any], user: str, *, rename: bool) -> dict[str, Any]:
        """Change a query; a value of None takes the field away. Raises NotFound, AlreadyExists."""
        with self._state.transaction():
            record = self.get(query_id) | changes | {"update_time": iso(time.time()), "last_modifier_user_name": user}
            record["display_name"] = self._free_name(record, rename=rename)
            kept = {name: value for name, value in record.items() if value is not None and name != "lifecycle_state"}
            self._state.execute("UPDATE saved_queries SET facts = ? WHERE id = ?", [json.dumps(kept), query_id])
        return self.get(query_id)

    def trash(self, query_id: str) -> None:
        """Move a query to the trash; there it is readable for 30 days. Raises NotFound."""
        self.get(query_id)
        self._state.execute(
            "UPDATE saved_queries SET trashed_at = ? WHERE id = ? AND trashed_at IS NULL", [time.time(), query_id]
        )

    def _free_name(self, record: dict[str, Any], *, rename: bool) -> str:
        folder, name = record["parent_path"], record["display_name"]
        taken = {
            other["display_name"]
            for other in self.all()
            if other["parent_path"] == folder and other["id"] != record["id"]
        }
        if name not in taken:
            return name
        if not rename:
            raise AlreadyExists(f"There is a query {name!r} in {folder}: give another display_name.")
        return next(free for i in range(1, len(taken) + 2) if (free := f"{name} ({i})") not in taken)

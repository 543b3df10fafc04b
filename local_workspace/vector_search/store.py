"""Vector search endpoints and the indexes they hold, in SQLite; the vectors are the engine's."""

import json
import time
import uuid
from contextlib import AbstractContextManager
from typing import Any

from local_workspace.errors import AlreadyExists, BadRequest, NotFound
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS vector_endpoints (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, endpoint_type TEXT NOT NULL, creator TEXT NOT NULL,
    created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vector_indexes (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, endpoint TEXT NOT NULL REFERENCES vector_endpoints (name),
    creator TEXT NOT NULL, primary_key TEXT NOT NULL, spec TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS vector_endpoint_settings (
    name TEXT PRIMARY KEY REFERENCES vector_endpoints (name) ON DELETE CASCADE, settings TEXT NOT NULL);
"""
INDEX_BY_NAME = """
SELECT i.*, e.endpoint_type FROM vector_indexes i JOIN vector_endpoints e ON e.name = i.endpoint WHERE i.name = ?
"""


class VectorStore:
    """Endpoints and indexes by name."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def create_endpoint(self, name: str, endpoint_type: str, creator: str, settings: dict[str, Any]) -> dict[str, Any]:
        """A new endpoint. Raises AlreadyExists."""
        row = [name, str(uuid.uuid4()), endpoint_type, creator, time.time_ns() // 1_000_000]
        if not self._state.execute("INSERT OR IGNORE INTO vector_endpoints VALUES (?, ?, ?, ?, ?)", row):
            raise AlreadyExists(f"Vector search endpoint {name!r} already exists")
        return self.change_endpoint(name, settings)

    def change_endpoint(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Store settings of an endpoint beside those it has. Raises NotFound."""
        with self._state.transaction():
            changed = self.endpoint(name)["settings"] | settings
            values = [name, json.dumps(changed)]
            self._state.execute("INSERT OR REPLACE INTO vector_endpoint_settings VALUES (?, ?)", values)
        return self.endpoint(name)

    def endpoint(self, name: str) -> dict[str, Any]:
        """An endpoint. Raises NotFound."""
        found = self._state.row("SELECT * FROM vector_endpoints WHERE name = ?", [name])
        if found is None:
            raise NotFound(f"Vector search endpoint {name!r} not found")
        stored = self._state.row("SELECT settings FROM vector_endpoint_settings WHERE name = ?", [name])
        settings = json.loads(stored["settings"]) if stored else {}
        return found | {"num_indexes": len(self.indexes(name)), "settings": settings}

    def endpoints(self) -> list[dict[str, Any]]:
        """All endpoints."""
        names = self._state.rows("SELECT name FROM vector_endpoints ORDER BY name")
        return [self.endpoint(row["name"]) for row in names]

    def delete_endpoint(self, name: str) -> None:
        """Forget an endpoint. Raises NotFound, BadRequest while it holds indexes."""
        if count := self.endpoint(name)["num_indexes"]:
            raise BadRequest(f"Vector search endpoint {name!r} holds {count} indexes: delete them first")
        self._state.execute("DELETE FROM vector_endpoints WHERE name = ?", [name])

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside becomes visible at once, or not at all."""
        return self._state.transaction()

    def add_index(
        self, name: str, index_id: str, endpoint: str, creator: str, primary_key: str, spec: dict[str, Any]
    ) -> None:
        """Keep a new index. Raises AlreadyExists."""
        row = [name, index_id, endpoint, creator, primary_key, json.dumps(spec)]
        if not self._state.execute("INSERT OR IGNORE INTO vector_indexes VALUES (?, ?, ?, ?, ?, ?)", row):
            raise AlreadyExists(f"Vector index {name!r} already exists")

    def index(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """An index and its endpoint's type, of the given endpoint if one is given. Raises NotFound."""
        found = self._state.row(INDEX_BY_NAME, [name.lower()])
        if found is None or endpoint not in (None, found["endpoint"]):
            where = f" on endpoint {endpoint!r}" if endpoint else ""
            raise NotFound(f"Vector index {name!r} not found{where}")
        return found | {"spec": json.loads(found["spec"])}

    def indexes(self, endpoint: str) -> list[dict[str, Any]]:
        """The indexes of an endpoint."""
        rows = self._state.rows("SELECT * FROM vector_indexes WHERE endpoint = ? ORDER BY name", [endpoint])
        return [row | {"spec": json.loads(row["spec"])} for row in rows]

    def has_index(self, name: str) -> bool:
        """Whether there is an index of that name."""
        return self._state.row("SELECT 1 FROM vector_indexes WHERE name = ?", [name]) is not None

    def any_index(self) -> bool:
        """Whether there is any index at all."""
        return self._state.row("SELECT 1 FROM vector_indexes") is not None

    def ids(self) -> list[str]:
        """What the engine calls the indexes."""
        return [row["id"] for row in self._state.rows("SELECT id FROM vector_indexes")]

    def delete_index(self, name: str) -> None:
        """Forget an index."""
        self._state.execute("DELETE FROM vector_indexes WHERE name = ?", [name.lower()])

"""SQL warehouses as records: what was asked for, and whether they run; one engine does the work of them all."""

import json
import secrets
import time
from typing import Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.state import State

DEFAULT_ID = "10ca1000000000a1"
DEFAULT_NAME = "Local Warehouse"
CONFIG = {"security_policy": "NONE", "enable_serverless_compute": False}

DDL = """
CREATE TABLE IF NOT EXISTS warehouses (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, settings TEXT NOT NULL, state TEXT NOT NULL,
    creator TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS warehouse_config (id INTEGER PRIMARY KEY CHECK (id = 0), settings TEXT NOT NULL);
"""


class Warehouses:
    """The warehouses of the workspace; the first of them is always there at the start."""

    def __init__(self, state: State, owner: str):
        self._state = state
        state.create(DDL)
        if state.row("SELECT id FROM warehouses") is None:
            self._insert(DEFAULT_ID, DEFAULT_NAME, {"warehouse_type": "PRO", "cluster_size": "2X-Small"}, owner)

    def create(self, name: str, settings: dict[str, Any], creator: str) -> str:
        """A new warehouse, running; its id. Raises BadRequest when the name is taken."""
        warehouse_id = secrets.token_hex(8)
        with self._state.transaction():
            self._check_name(name)
            self._insert(warehouse_id, name, settings, creator)
        return warehouse_id

    def _insert(self, warehouse_id: str, name: str, settings: dict[str, Any], creator: str) -> None:
        self._state.execute(
            "INSERT INTO warehouses VALUES (?, ?, ?, 'RUNNING', ?, ?)",
            [warehouse_id, name, json.dumps(settings), creator, time.time()],
        )

    def _check_name(self, name: str, of: str = "") -> None:
        if self._state.row("SELECT id FROM warehouses WHERE name = ? AND id != ?", [name, of]):
            raise BadRequest(f"SQL warehouse with name `{name}` already exists", error_code="RESOURCE_ALREADY_EXISTS")

    def get(self, warehouse_id: str) -> dict[str, Any]:
        """A warehouse's record, its `settings` parsed. Raises NotFound."""
        row = self._state.row("SELECT * FROM warehouses WHERE id = ?", [warehouse_id])
        if row is None:
            raise NotFound(f"SQL warehouse {warehouse_id} does not exist: warehouses.list() shows those there are.")
        return row | {"settings": json.loads(row["settings"])}

    def all(self) -> list[dict[str, Any]]:
        """All warehouses, the oldest first."""
        rows = self._state.rows("SELECT * FROM warehouses ORDER BY created_at, id")
        return [row | {"settings": json.loads(row["settings"])} for row in rows]

    def edit(self, warehouse_id: str, name: str | None, settings: dict[str, Any]) -> None:
        """Change the name and settings that are given. Raises NotFound, BadRequest when the name is taken."""
        with self._state.transaction():
            kept = self.get(warehouse_id)
            if name is not None:
                self._check_name(name, of=warehouse_id)
            self._state.execute(
                "UPDATE warehouses SET name = ?, settings = ? WHERE id = ?",
                [name or kept["name"], json.dumps(kept["settings"] | settings), warehouse_id],
            )

    def set_state(self, warehouse_id: str, state: str) -> None:
        """RUNNING or STOPPED. Raises NotFound."""
        self.get(warehouse_id)
        self._state.execute("UPDATE warehouses SET state = ? WHERE id = ?", [state, warehouse_id])

    def delete(self, warehouse_id: str) -> None:
        """Forget a warehouse. Raises NotFound."""
        self.get(warehouse_id)
        self._state.execute("DELETE FROM warehouses WHERE id = ?", [warehouse_id])

    def config(self) -> dict[str, Any]:
        """The workspace's settings for all warehouses."""
        row = self._state.row("SELECT settings FROM warehouse_config")
        return CONFIG | (json.loads(row["settings"]) if row else {})

    def set_config(self, settings: dict[str, Any]) -> None:
        """Keep the workspace's settings for all warehouses."""
        self._state.execute("INSERT OR REPLACE INTO warehouse_config VALUES (0, ?)", [json.dumps(settings)])

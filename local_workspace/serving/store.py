"""The serving endpoints in SQLite: the configuration that serves, the one on its way in, and how that goes."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import AlreadyExists, Conflict, NotFound
from local_workspace.state import State

IN_PROGRESS, NOT_UPDATING, UPDATE_FAILED = "IN_PROGRESS", "NOT_UPDATING", "UPDATE_FAILED"

DDL = """
CREATE TABLE IF NOT EXISTS serving_endpoints (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, creator TEXT NOT NULL, description TEXT, tags TEXT NOT NULL,
    ai_gateway TEXT, config TEXT, config_version INTEGER NOT NULL, pending TEXT, config_update TEXT NOT NULL,
    message TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS serving_settings (
    endpoint TEXT NOT NULL REFERENCES serving_endpoints (name) ON DELETE CASCADE, name TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (endpoint, name));
"""
_JSON = ("tags", "ai_gateway", "config", "pending")


@dataclass(frozen=True)
class Endpoint:
    """A serving endpoint. `config` is what serves, if anything does; `pending` is what shall serve next."""

    name: str
    id: str
    creator: str
    description: str | None
    tags: list[dict[str, str]]
    ai_gateway: dict[str, Any] | None
    config: dict[str, Any] | None
    config_version: int
    pending: dict[str, Any] | None
    config_update: str
    message: str
    created_at: int
    updated_at: int
    settings: dict[str, Any]
    """By name: `rate_limits`, `email_notifications`, `budget_policy_id`, and the `progress` of the pending entities."""


class Endpoints:
    """The endpoints by name."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def create(self, name: str, creator: str, config: dict[str, Any], description: str | None, tags: list) -> None:
        """A new endpoint with its first configuration pending. Raises AlreadyExists."""
        now = _now()
        texts = [description, json.dumps(tags), json.dumps(config)]
        if not self._state.execute(
            "INSERT OR IGNORE INTO serving_endpoints (name, id, creator, description, tags, pending, config_update,"
            " created_at, updated_at, config_version, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '')",
            [name, uuid.uuid4().hex, creator, *texts, IN_PROGRESS, now, now],
        ):
            raise _taken(name)

    def check_free(self, name: str) -> None:
        """Raises AlreadyExists."""
        if self.find(name):
            raise _taken(name)

    def find(self, name: str) -> Endpoint | None:
        """One endpoint, if there is one of that name."""
        row = self._state.row("SELECT * FROM serving_endpoints WHERE name = ?", [name])
        return self._endpoint(row) if row else None

    def get(self, name: str) -> Endpoint:
        """One endpoint. Raises NotFound."""
        if found := self.find(name):
            return found
        raise NotFound(f"The given endpoint does not exist, please retry after checking the name: {name!r}")

    def all(self) -> list[Endpoint]:
        """All endpoints."""
        return [self._endpoint(row) for row in self._state.rows("SELECT * FROM serving_endpoints ORDER BY name")]

    def delete(self, name: str) -> None:
        """Forget an endpoint. Raises NotFound."""
        self.get(name)
        self._state.execute("DELETE FROM serving_endpoints WHERE name = ?", [name])

    def begin(self, name: str, config: dict[str, Any]) -> None:
        """A configuration is on its way in. Raises NotFound, Conflict when another one is."""
        if self.get(name).config_update == IN_PROGRESS:
            raise Conflict(f"Endpoint '{name}' is being updated; wait until that has ended.")
        self._set(name, pending=json.dumps(config), config_update=IN_PROGRESS, message="")

    def keep(self, name: str, config: dict[str, Any]) -> None:
        """The configuration that serves, in other words; it stays the same version."""
        self._state.execute("UPDATE serving_endpoints SET config = ? WHERE name = ?", [json.dumps(config), name])

    def activate(self, name: str, config: dict[str, Any]) -> None:
        """The pending configuration serves from now on."""
        version = self.get(name).config_version + 1
        self._set(
            name,
            config=json.dumps(config),
            config_version=version,
            pending=None,
            config_update=NOT_UPDATING,
            message="",
        )

    def set(self, name: str, setting: str, value: Any) -> None:
        """Keep one of an endpoint's settings."""
        self._state.execute(
            "INSERT OR REPLACE INTO serving_settings VALUES (?, ?, ?)", [name, setting, json.dumps(value)]
        )

    def fail(self, name: str, message: str) -> None:
        """The pending configuration could not be brought up; what served before goes on."""
        self._set(name, config_update=UPDATE_FAILED, message=message)

    def set_tags(self, name: str, tags: list[dict[str, str]]) -> None:
        """Replace an endpoint's tags."""
        self._set(name, tags=json.dumps(tags))

    def set_ai_gateway(self, name: str, ai_gateway: dict[str, Any]) -> None:
        """Keep an endpoint's AI gateway settings."""
        self._set(name, ai_gateway=json.dumps(ai_gateway))

    def _set(self, name: str, **columns: Any) -> None:
        columns["updated_at"] = _now()
        assignments = ", ".join(f"{column} = ?" for column in columns)
        sql = f"UPDATE serving_endpoints SET {assignments} WHERE name = ?"
        self._state.execute(sql, [*columns.values(), name])

    def _endpoint(self, row: dict[str, Any]) -> Endpoint:
        rows = self._state.rows("SELECT name, value FROM serving_settings WHERE endpoint = ?", [row["name"]])
        read = {column: json.loads(row[column]) if row[column] else None for column in _JSON}
        return Endpoint(**row | read, settings={row["name"]: json.loads(row["value"]) for row in rows})


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"Endpoint with name '{name}' already exists.")


def _now() -> int:
    return time.time_ns() // 1_000_000

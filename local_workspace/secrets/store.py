"""Secret scopes. The values lie in the state, a file only its owner can read; they are never logged."""

import re
import time
from typing import Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS secret_scopes (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS secrets (
    scope TEXT NOT NULL REFERENCES secret_scopes (name) ON DELETE CASCADE, key TEXT NOT NULL,
    value BLOB NOT NULL, updated_at INTEGER NOT NULL, PRIMARY KEY (scope, key));
"""
MAX_VALUE_BYTES = 128 * 1024
_NAME = re.compile(r"[\w\-@./]{1,128}", re.ASCII)


def checked_name(what: str, name: Any) -> str:
    """A scope's or key's name. Raises BadRequest."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(f"{what} must be 1 to 128 letters, digits, dashes, underscores, periods, @ or /")
    return name


class Secrets:
    """Scopes and their secrets."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def create_scope(self, scope: str) -> None:
        """A new scope. Raises BadRequest (RESOURCE_ALREADY_EXISTS)."""
        name = checked_name("scope", scope)
        if not self._state.execute("INSERT OR IGNORE INTO secret_scopes VALUES (?)", [name]):
            raise BadRequest(f"Scope {name} already exists!", error_code="RESOURCE_ALREADY_EXISTS")

    def scopes(self) -> list[str]:
        """All scopes."""
        return [row["name"] for row in self._state.rows("SELECT name FROM secret_scopes ORDER BY name")]

    def delete_scope(self, scope: str) -> None:
        """Forget a scope and its secrets. Raises NotFound."""
        self._existing(scope)
        self._state.execute("DELETE FROM secret_scopes WHERE name = ?", [scope])

    def put(self, scope: str, key: str, value: bytes) -> None:
        """Write a secret, over an older one if there is one. Raises NotFound for the scope, BadRequest."""
        self._existing(scope)
        if len(value) > MAX_VALUE_BYTES:
            raise BadRequest(f"the secret value has {len(value)} bytes; the limit is {MAX_VALUE_BYTES}")
        self._state.execute(
            "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)",
            [scope, checked_name("key", key), value, time.time_ns() // 1_000_000],
        )

    def value(self, scope: str, key: str) -> bytes:
        """A secret's value. Raises NotFound."""
        self._existing(scope)
        row = self._state.row("SELECT value FROM secrets WHERE scope = ? AND key = ?", [scope, key])
        if row is None:
            raise NotFound(f"Secret does not exist with scope: {scope} and key: {key}")
        return row["value"]

    def keys(self, scope: str) -> list[dict[str, Any]]:
        """The keys of a scope and when each was last written (ms). Raises NotFound."""
        self._existing(scope)
        return self._state.rows("SELECT key, updated_at FROM secrets WHERE scope = ? ORDER BY key", [scope])

    def delete(self, scope: str, key: str) -> None:
        """Forget a secret. Raises NotFound."""
        self._existing(scope)
        if not self._state.execute("DELETE FROM secrets WHERE scope = ? AND key = ?", [scope, key]):
            raise NotFound(f"Secret does not exist with scope: {scope} and key: {key}")

    def _existing(self, scope: str) -> None:
        if not self._state.row("SELECT 1 FROM secret_scopes WHERE name = ?", [checked_name("scope", scope)]):
            raise NotFound(f"Scope {scope} does not exist!")

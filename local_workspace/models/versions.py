"""Securables with numbered versions, aliases and tags: what registered models and prompts have in common."""

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.state import State
from local_workspace.unity_catalog.store import CatalogStore

DDL = """
CREATE TABLE IF NOT EXISTS version_numbers (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (kind, full_name),
    FOREIGN KEY (kind, full_name) REFERENCES securables (kind, full_name) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE IF NOT EXISTS versions (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, version INTEGER NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (kind, full_name, version),
    FOREIGN KEY (kind, full_name) REFERENCES securables (kind, full_name) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE IF NOT EXISTS version_aliases (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (kind, full_name, alias),
    FOREIGN KEY (kind, full_name, version) REFERENCES versions (kind, full_name, version)
        ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE IF NOT EXISTS version_tags (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, version INTEGER, key TEXT NOT NULL, value TEXT NOT NULL,
    FOREIGN KEY (kind, full_name) REFERENCES securables (kind, full_name) ON DELETE CASCADE ON UPDATE CASCADE,
    FOREIGN KEY (kind, full_name, version) REFERENCES versions (kind, full_name, version)
        ON DELETE CASCADE ON UPDATE CASCADE);
CREATE UNIQUE INDEX IF NOT EXISTS version_tags_key ON version_tags (kind, full_name, ifnull(version, 0), key);
"""
ALIAS = re.compile(r"(?!(?:v\d+|latest)$)[\w-]{1,255}", re.IGNORECASE)
NUMBER = re.compile(r"[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True)
class Version:
    """One version as it is stored."""

    full_name: str
    version: int
    facts: dict[str, Any]
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class Versions:
    """The versions, aliases and tags of one kind of securable. Numbers are given once and never again."""

    def __init__(self, state: State, catalog: CatalogStore, kind: str):
        self._state = state
        self._catalog = catalog
        self._kind = kind
        state.create(DDL)

    def add(self, full_name: str, by: str, tags: dict[str, str], **facts: Any) -> Version:
        """A new version with the next number. Raises NotFound for the securable."""
        now = time.time_ns() // 1_000_000
        facts = {
            "created_at": now,
            "created_by": by,
            "updated_at": now,
            "updated_by": by,
            **{name: value for name, value in facts.items() if value is not None},
        }
        with self._state.transaction():
            name = self._catalog.get(self._kind, full_name)["full_name"]
            row = self._state.rows(
                "INSERT INTO version_numbers VALUES (?, ?, 1)"
                " ON CONFLICT (kind, full_name) DO UPDATE SET last = last + 1 RETURNING last",
                [self._kind, name],
            )[0]
            self._state.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?)", [self._kind, name, row["last"], json.dumps(facts)]
            )
            for key, value in tags.items():
                self._set_tag(name, row["last"], key, value)
        return self.get(name, row["last"])

    def get(self, full_name: str, version: Any) -> Version:
        """A version by its number. Raises NotFound, BadRequest when it is none."""
        name = self._catalog.get(self._kind, full_name)["full_name"]
        number = _number(version)
        row = self._state.row(
            "SELECT facts FROM versions WHERE kind = ? AND full_name = ? AND version = ?", [self._kind, name, number]
        )
        if row is None:
            raise NotFound(f"{self._kind.capitalize()} '{name}' has no version {number}.")
        return self._version(name, number, row["facts"])

    def by_alias(self, full_name: str, alias: str) -> Version:
        """The version an alias stands for. Raises NotFound."""
        name = self._catalog.get(self._kind, full_name)["full_name"]
        row = self._state.row(
            "SELECT version FROM version_aliases WHERE kind = ? AND full_name = ? AND alias = ?",
            [self._kind, name, alias],
        )
        if row is None:
            raise NotFound(f"{self._kind.capitalize()} '{name}' has no alias '{alias}'.")
        return self.get(name, row["version"])

    def page(self, full_name: str, limit: int, before: int | None = None) -> list[Version]:
        """Versions of one securable, newest first, below number `before`. Raises NotFound."""
        name = self._catalog.get(self._kind, full_name)["full_name"]
        rows = self._state.rows(
            "SELECT version, facts FROM versions WHERE kind = ? AND full_name = ? AND version < ?"
            " ORDER BY version DESC LIMIT ?",
            [self._kind, name, 1 << 62 if before is None else before, limit],
        )
        return [self._version(name, row["version"], row["facts"]) for row in rows]

    def update(self, full_name: str, version: Any, by: str, **changes: Any) -> Version:
        """The version with what is not None changed. Raises NotFound."""
        with self._state.transaction():
            found = self.get(full_name, version)
            changed = found.facts | {name: value for name, value in changes.items() if value is not None}
            changed |= {"updated_at": time.time_ns() // 1_000_000, "updated_by": by}
            self._state.execute(
                "UPDATE versions SET facts = ? WHERE kind = ? AND full_name = ? AND version = ?",
                [json.dumps(changed), self._kind, found.full_name, found.version],
            )
        return self.get(full_name, version)

    def delete(self, full_name: str, version: Any) -> Version:
        """Forget a version with its aliases and tags, and return what it was. Raises NotFound."""
        with self._state.transaction():
            found = self.get(full_name, version)
            self._state.execute(
                "DELETE FROM versions WHERE kind = ? AND full_name = ? AND version = ?",
                [self._kind, found.full_name, found.version],
            )
        return found

    def aliases(self, full_name: str) -> dict[str, int]:
        """All aliases of a securable with their versions."""
        rows = self._state.rows(
            "SELECT alias, version FROM version_aliases WHERE kind = ? AND full_name = ? ORDER BY alias",
            [self._kind, full_name.lower()],
        )
        return {row["alias"]: row["version"] for row in rows}

    def set_alias(self, full_name: str, alias: Any, version: Any) -> None:
        """Let an alias stand for a version from now on. Raises NotFound, BadRequest."""
        if not isinstance(alias, str) or not ALIAS.fullmatch(alias):
            raise BadRequest(
                f"alias {alias!r} must be 1 to 255 letters, digits, '_' and '-', and neither 'latest' nor like 'v1'"
            )
        with self._state.transaction():
            found = self.get(full_name, version)
            self._state.execute(
                "INSERT INTO version_aliases VALUES (?, ?, ?, ?)"
                " ON CONFLICT (kind, full_name, alias) DO UPDATE SET version = excluded.version",
                [self._kind, found.full_name, alias, found.version],
            )

    def delete_alias(self, full_name: str, alias: str) -> None:
        """Forget an alias. Raises NotFound."""
        with self._state.transaction():
            found = self.by_alias(full_name, alias)
            self._state.execute(
                "DELETE FROM version_aliases WHERE kind = ? AND full_name = ? AND alias = ?",
                [self._kind, found.full_name, alias],
            )

    def tags(self, full_name: str, version: int | None = None) -> dict[str, str]:
        """The tags of a version, or of the securable itself."""
        rows = self._state.rows(
            "SELECT key, value FROM version_tags WHERE kind = ? AND full_name = ? AND version IS ? ORDER BY key",
            [self._kind, full_name.lower(), version],
        )
        return {row["key"]: row["value"] for row in rows}

    def set_tag(self, full_name: str, version: Any, key: Any, value: Any) -> None:
        """Tag a version, or with None the securable itself. Raises NotFound, BadRequest."""
        with self._state.transaction():
            name, number = self._target(full_name, version)
            self._set_tag(name, number, key, value)

    def delete_tag(self, full_name: str, version: Any, key: str) -> None:
        """Remove a tag; without effect when there is none. Raises NotFound."""
        with self._state.transaction():
            name, number = self._target(full_name, version)
            self._state.execute(
                "DELETE FROM version_tags WHERE kind = ? AND full_name = ? AND version IS ? AND key = ?",
                [self._kind, name, number, key],
            )

    def _target(self, full_name: str, version: Any) -> tuple[str, int | None]:
        if version is None:
            return self._catalog.get(self._kind, full_name)["full_name"], None
        found = self.get(full_name, version)
        return found.full_name, found.version

    def _set_tag(self, name: str, version: int | None, key: Any, value: Any) -> None:
        if not isinstance(key, str) or not key or len(key) > 255:
            raise BadRequest(f"a tag's key must be a string of 1 to 255 characters; got {str(key)[:100]!r}")
        if not isinstance(value, str):
            raise BadRequest(f"the value of tag {key!r} must be a string")
        self._state.execute(
            "INSERT OR REPLACE INTO version_tags VALUES (?, ?, ?, ?, ?)", [self._kind, name, version, key, value]
        )

    def _version(self, name: str, number: int, facts: str) -> Version:
        aliases = [alias for alias, version in self.aliases(name).items() if version == number]
        return Version(name, number, json.loads(facts), aliases, self.tags(name, number))


def _number(version: Any) -> int:
    if isinstance(version, bool) or not NUMBER.fullmatch(str(version)):
        raise BadRequest(f"version must be a whole number from 1; got {str(version)[:50]!r}")
    return int(version)

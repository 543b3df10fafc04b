"""Securables with numbered versions, aliases and tags: what registered models and prompts have in common."""

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.state import State
from local_workspace.unity_catalog.store import CatalogStore

# By the id of the securable, which it keeps when it is renamed.
DDL = """
CREATE TABLE IF NOT EXISTS version_numbers (securable TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    securable TEXT NOT NULL, version INTEGER NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (securable, version));
CREATE TABLE IF NOT EXISTS version_aliases (
    securable TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (securable, alias),
    FOREIGN KEY (securable, version) REFERENCES versions (securable, version) ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS version_tags (
    securable TEXT NOT NULL, version INTEGER, key TEXT NOT NULL, value TEXT NOT NULL,
    FOREIGN KEY (securable, version) REFERENCES versions (securable, version) ON DELETE CASCADE);
CREATE UNIQUE INDEX IF NOT EXISTS version_tags_key ON version_tags (securable, ifnull(version, 0), key);
CREATE TRIGGER IF NOT EXISTS versions_end_with_their_securable AFTER DELETE ON securables
WHEN old.kind IN ('model', 'prompt') AND NOT EXISTS (
    SELECT 1 FROM securables s
    WHERE s.kind = old.kind AND json_extract(s.facts, '$.id') = json_extract(old.facts, '$.id'))
BEGIN
    DELETE FROM version_numbers WHERE securable = json_extract(old.facts, '$.id');
    DELETE FROM versions WHERE securable = json_extract(old.facts, '$.id');
    DELETE FROM version_tags WHERE securable = json_extract(old.facts, '$.id');
END;
"""
ALIAS = re.compile(r"(?!(?:v?\d+|latest)$)[\w-]{1,255}", re.IGNORECASE)
NUMBER = re.compile(r"[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True)
class Version:
    """One version as it is stored."""

    full_name: str
    securable: str
    """The id of what it is a version of."""
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

    def securable(self, full_name: str) -> dict[str, Any]:
        """What has the versions. Raises NotFound, BadRequest for a name without three levels."""
        return self._catalog.get(self._kind, _three_levels(self._kind, full_name))

    def create_securable(self, full_name: str, by: str, tags: dict[str, str], comment: str | None) -> dict[str, Any]:
        """What will have versions. Raises SecurableExists, NotFound for its schema, BadRequest."""
        for key in tags:
            _check_tag(key)
        record = self._catalog.create(self._kind, _three_levels(self._kind, full_name), by, comment=comment)
        for key, value in tags.items():
            self.set_tag(record["full_name"], None, key, value)
        return record

    def page_of_securables(
        self, catalog: str, schema: str, after: str, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Securables in a schema, a catalog or everywhere, by name, that come after one of them."""
        found = self._catalog.below(self._kind, catalog.lower())
        within = [r for r in found if not schema or r["full_name"].split(".")[1] == schema.lower()]
        return [record for record in within if record["full_name"] > after][:limit]

    def add(self, full_name: str, by: str, tags: dict[str, str], **facts: Any) -> Version:
        """A new version with the next number. Raises NotFound for the securable."""
        now = _now()
        known = {"created_at": now, "created_by": by, "updated_at": now, "updated_by": by}
        known |= {name: value for name, value in facts.items() if value is not None}
        with self._state.transaction():
            owner = self.securable(full_name)["id"]
            number = self._state.rows(
                "INSERT INTO version_numbers VALUES (?, 1)"
                " ON CONFLICT (securable) DO UPDATE SET last = last + 1 RETURNING last",
                [owner],
            )[0]["last"]
            self._state.execute("INSERT INTO versions VALUES (?, ?, ?)", [owner, number, json.dumps(known)])
            for key, value in tags.items():
                self._set_tag(owner, number, key, value)
        return self.get(full_name, number)

    def get(self, full_name: str, version: Any) -> Version:
        """A version by its number. Raises NotFound, BadRequest when it is none."""
        owner = self.securable(full_name)
        number = _number(version)
        row = self._state.row("SELECT facts FROM versions WHERE securable = ? AND version = ?", [owner["id"], number])
        if row is None:
            raise NotFound(f"{self._kind.capitalize()} '{owner['full_name']}' has no version {number}.")
        return self._version(owner, number, row["facts"])

    def by_alias(self, full_name: str, alias: str) -> Version:
        """The version an alias stands for. Raises NotFound."""
        owner = self.securable(full_name)
        row = self._state.row(
            "SELECT version FROM version_aliases WHERE securable = ? AND alias = ?", [owner["id"], alias]
        )
        if row is None:
            raise NotFound(f"{self._kind.capitalize()} '{owner['full_name']}' has no alias '{alias}'.")
        return self.get(full_name, row["version"])

    def page(self, full_name: str, limit: int, before: int | None = None) -> list[Version]:
        """Versions of one securable, newest first, below number `before`. Raises NotFound."""
        owner = self.securable(full_name)
        rows = self._state.rows(
            "SELECT version, facts FROM versions WHERE securable = ? AND version < ? ORDER BY version DESC LIMIT ?",
            [owner["id"], 1 << 62 if before is None else before, limit],
        )
        return [self._version(owner, row["version"], row["facts"]) for row in rows]

    def update(self, full_name: str, version: Any, by: str, **changes: Any) -> Version:
        """The version with what is not None changed. Raises NotFound."""
        with self._state.transaction():
            found = self.get(full_name, version)
            changed = found.facts | {name: value for name, value in changes.items() if value is not None}
            changed |= {"updated_at": _now(), "updated_by": by}
            self._state.execute(
                "UPDATE versions SET facts = ? WHERE securable = ? AND version = ?",
                [json.dumps(changed), found.securable, found.version],
            )
        return self.get(full_name, version)

    def delete(self, full_name: str, version: Any) -> None:
        """Forget a version with its aliases and tags. Raises NotFound."""
        with self._state.transaction():
            found = self.get(full_name, version)
            self._state.execute(
                "DELETE FROM versions WHERE securable = ? AND version = ?", [found.securable, found.version]
            )

    def aliases(self, securable: str) -> dict[str, int]:
        """All aliases of a securable, by its id, with their versions."""
        rows = self._state.rows(
            "SELECT alias, version FROM version_aliases WHERE securable = ? ORDER BY alias", [securable]
        )
        return {row["alias"]: row["version"] for row in rows}

    def set_alias(self, full_name: str, alias: str, version: Any) -> None:
        """Let an alias stand for a version from now on. Raises NotFound, BadRequest."""
        if not ALIAS.fullmatch(alias):
            raise BadRequest(
                f"alias {alias[:100]!r} must be 1 to 255 letters, digits, '_' and '-', not only digits, and"
                " neither 'latest' nor like 'v1'"
            )
        with self._state.transaction():
            found = self.get(full_name, version)
            self._state.execute(
                "INSERT INTO version_aliases VALUES (?, ?, ?)"
                " ON CONFLICT (securable, alias) DO UPDATE SET version = excluded.version",
                [found.securable, alias, found.version],
            )

    def delete_alias(self, full_name: str, alias: str) -> None:
        """Forget an alias. Raises NotFound."""
        with self._state.transaction():
            found = self.by_alias(full_name, alias)
            self._state.execute(
                "DELETE FROM version_aliases WHERE securable = ? AND alias = ?", [found.securable, alias]
            )

    def tags(self, securable: str, version: int | None = None) -> dict[str, str]:
        """The tags of a version, or of the securable itself, by its id."""
        rows = self._state.rows(
            "SELECT key, value FROM version_tags WHERE securable = ? AND version IS ? ORDER BY key",
            [securable, version],
        )
        return {row["key"]: row["value"] for row in rows}

    def set_tag(self, full_name: str, version: Any, key: str, value: str) -> None:
        """Tag a version, or with None the securable itself. Raises NotFound, BadRequest."""
        with self._state.transaction():
            self._set_tag(*self._target(full_name, version), key, value)

    def delete_tag(self, full_name: str, version: Any, key: str) -> None:
        """Remove a tag; without effect when there is none. Raises NotFound."""
        with self._state.transaction():
            owner, number = self._target(full_name, version)
            self._state.execute(
                "DELETE FROM version_tags WHERE securable = ? AND version IS ? AND key = ?", [owner, number, key]
            )

    def _target(self, full_name: str, version: Any) -> tuple[str, int | None]:
        if version is None:
            return self.securable(full_name)["id"], None
        found = self.get(full_name, version)
        return found.securable, found.version

    def _set_tag(self, securable: str, version: int | None, key: str, value: str) -> None:
        _check_tag(key)
        self._state.execute("INSERT OR REPLACE INTO version_tags VALUES (?, ?, ?, ?)", [securable, version, key, value])

    def _version(self, owner: dict[str, Any], number: int, facts: str) -> Version:
        aliases = [alias for alias, version in self.aliases(owner["id"]).items() if version == number]
        tags = self.tags(owner["id"], number)
        return Version(owner["full_name"], owner["id"], number, json.loads(facts), aliases, tags)


def _three_levels(kind: str, full_name: str) -> str:
    if full_name.count(".") != 2:
        raise BadRequest(
            f"{full_name[:200]!r} is not a valid {kind} name: specify all three levels, catalog.schema.name"
        )
    return full_name


def _check_tag(key: str) -> None:
    if not 1 <= len(key) <= 255:
        raise BadRequest(f"a tag's key must have 1 to 255 characters; got {key[:100]!r}")


def _number(version: Any) -> int:
    if isinstance(version, bool) or not NUMBER.fullmatch(str(version)):
        raise BadRequest(f"version must be a whole number from 1; got {str(version)[:50]!r}")
    return int(version)


def _now() -> int:
    return time.time_ns() // 1_000_000

"""Unity Catalog's securables in SQLite: catalogs, schemas, volumes, tables, functions and the grants on them."""

import json
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from local_workspace.config import Config
from local_workspace.errors import ApiError, BadRequest, NotFound
from local_workspace.state import State

DEPTH = {"catalog": 1, "schema": 2, "volume": 3, "table": 3, "model": 3, "prompt": 3, "function": 3}
CHILDREN = {"catalog": ("schema",), "schema": ("volume", "table", "model", "prompt", "function")}
NAME = re.compile(r"[^\s./\x00-\x1f\x7f`\\\"]{1,255}")

DDL = """
CREATE TABLE IF NOT EXISTS securables (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, parent TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (kind, full_name));
CREATE INDEX IF NOT EXISTS securables_parent ON securables (parent, kind, full_name);
CREATE TABLE IF NOT EXISTS grants (
    kind TEXT NOT NULL, full_name TEXT NOT NULL, principal TEXT NOT NULL, privilege TEXT NOT NULL,
    PRIMARY KEY (kind, full_name, principal, privilege),
    FOREIGN KEY (kind, full_name) REFERENCES securables (kind, full_name) ON DELETE CASCADE);
"""


class SecurableExists(ApiError):
    """The securable is there already: HTTP 400, as Unity Catalog answers it."""

    status = 400


def checked_name(kind: str, name: str) -> str:
    """The name in lower case, as Unity Catalog keeps it. Raises BadRequest."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"Invalid {kind} name {name!r}: 1 to 255 characters without space, period, slash or control characters."
        )
    return name.lower()


def parts(kind: str, full_name: str) -> list[str]:
    """The checked parts of a full name such as `main.default.t`. Raises BadRequest."""
    names = full_name.split(".")
    if len(names) != DEPTH[kind]:
        raise BadRequest(f"{full_name!r} is not a valid {kind} name: {DEPTH[kind]} part(s) are needed.")
    return [checked_name(kind, name) for name in names]


class CatalogStore:
    """Securables by kind and full name; managed volumes and tables keep their files below the root.

    Grants are stored and shown but not enforced: a local workspace has one developer.
    """

    def __init__(self, state: State, config: Config, owner: str):
        self._state = state
        self._config = config
        state.create(DDL)
        if self.find("catalog", "main") is None:
            self.create("catalog", "main", owner, comment="Main catalog")
        self._settle()

    def _settle(self) -> None:
        """Find the managed tables below the root as it is now: it may have been moved, or be a copy of another."""
        home = f"file://{self._config.root / 'tables'}/"
        for record in self.below("table"):
            location = record.get("storage_location") or ""
            if record["table_type"] == "MANAGED" and not location.startswith(home):
                record["storage_location"] = home + "/".join(location.split("/")[-3:])
                self._state.execute(
                    "UPDATE securables SET facts = ? WHERE kind = 'table' AND full_name = ?",
                    [json.dumps(record), record["full_name"]],
                )

    def create(self, kind: str, full_name: str, owner: str, **facts: Any) -> dict[str, Any]:
        """A new securable; a catalog comes with its schema `default`.

        Raises SecurableExists, NotFound when the parent is missing, BadRequest for a bad name.
        """
        names = parts(kind, full_name)
        with self._state.transaction():
            if len(names) > 1:
                self.get("catalog" if len(names) == 2 else "schema", ".".join(names[:-1]))
            if self.find(kind, ".".join(names)):
                raise SecurableExists(
                    f"{kind.capitalize()} '{'.'.join(names)}' already exists",
                    error_code=f"{kind.upper()}_ALREADY_EXISTS",
                )
            record = self._insert(kind, names, owner, facts)
            if kind == "catalog":
                self._insert("schema", [*names, "default"], owner, {"comment": "Default schema"})
            elif kind == "volume":
                self._config.folder("volumes", *names)
        return record

    def _insert(self, kind: str, names: list[str], owner: str, facts: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time() * 1000)
        record = {
            "name": names[-1],
            "full_name": ".".join(names),
            "id": str(uuid.uuid4()),
            "owner": owner,
            "created_at": now,
            "created_by": owner,
            "updated_at": now,
            "updated_by": owner,
        } | {name: value for name, value in facts.items() if value is not None}
        self._state.execute(
            "INSERT INTO securables VALUES (?, ?, ?, ?)",
            [kind, record["full_name"], ".".join(names[:-1]), json.dumps(record)],
        )
        return record

    def find(self, kind: str, full_name: str) -> dict[str, Any] | None:
        """The securable, or None."""
        row = self._state.row(
            "SELECT facts FROM securables WHERE kind = ? AND full_name = ?", [kind, full_name.lower()]
        )
        return json.loads(row["facts"]) if row else None

    def get(self, kind: str, full_name: str) -> dict[str, Any]:
        """The securable. Raises NotFound with the code of its first missing level."""
        names = parts(kind, full_name)
        if found := self.find(kind, full_name):
            return found
        for level, ancestor in (("catalog", names[0]), ("schema", ".".join(names[:2]))):
            if level != kind and len(names) >= DEPTH[level] and self.find(level, ancestor) is None:
                raise self._missing(level, ancestor)
        raise self._missing(kind, full_name)

    @staticmethod
    def _missing(kind: str, full_name: str) -> NotFound:
        return NotFound(
            f"{kind.capitalize()} '{full_name}' does not exist.", error_code=f"{kind.upper()}_DOES_NOT_EXIST"
        )

    def children(self, kind: str, parent: str = "", after: str = "", limit: int = -1) -> list[dict[str, Any]]:
        """The securables of one kind directly below `parent` (all catalogs: an empty one), by name.

        Raises NotFound when the parent is missing.
        """
        if parent:
            self.get("schema" if DEPTH[kind] == 3 else "catalog", parent)
        rows = self._state.rows(
            "SELECT facts FROM securables WHERE kind = ? AND parent = ? AND full_name > ? ORDER BY full_name LIMIT ?",
            [kind, parent.lower(), after, limit],
        )
        return [json.loads(row["facts"]) for row in rows]

    def below(self, kind: str, catalog: str = "") -> list[dict[str, Any]]:
        """Every securable of one kind, in one catalog or in all."""
        rows = self._state.rows("SELECT facts FROM securables WHERE kind = ? ORDER BY full_name", [kind])
        found = [json.loads(row["facts"]) for row in rows]
        return [record for record in found if catalog in ("", record["full_name"].split(".")[0])]

    def all_grants(self) -> list[dict[str, Any]]:
        """Every stored privilege: `kind`, `full_name`, `principal`, `privilege`."""
        return self._state.rows("SELECT kind, full_name, principal, privilege FROM grants ORDER BY 1, 2, 3, 4", [])

    def rename(self, kind: str, full_name: str, new_name: str, by: str) -> dict[str, Any]:
        """A table, view, volume or function under another name in its schema; its grants and files go with it.

        Raises NotFound, SecurableExists, BadRequest for a bad name.
        """
        with self._state.transaction():
            old = self.get(kind, full_name)
            catalog, schema, _ = old["full_name"].split(".")
            names = [catalog, schema, checked_name(kind, new_name)]
            if self.find(kind, ".".join(names)):
                raise SecurableExists(
                    f"{kind.capitalize()} '{'.'.join(names)}' already exists",
                    error_code=f"{kind.upper()}_ALREADY_EXISTS",
                )
            kept = {name: value for name, value in old.items() if name not in ("name", "full_name", "updated_by")}
            if kind == "volume":
                kept["storage_location"] = f"dbfs:/Volumes/{'/'.join(names)}"
            record = self._insert(kind, names, old["owner"], kept | {"updated_by": by})
            self._state.execute(
                "UPDATE grants SET full_name = ? WHERE kind = ? AND full_name = ?",
                [record["full_name"], kind, old["full_name"]],
            )
            self._state.execute("DELETE FROM securables WHERE kind = ? AND full_name = ?", [kind, old["full_name"]])
            if kind == "volume":
                volumes = self._config.root / "volumes"
                volumes.joinpath(*old["full_name"].split(".")).rename(volumes.joinpath(*names))
        return record

    def update(self, kind: str, full_name: str, by: str, **changes: Any) -> dict[str, Any]:
        """The securable with what is not None changed. Raises NotFound."""
        with self._state.transaction():
            record = self.get(kind, full_name)
            record |= {name: value for name, value in changes.items() if value is not None}
            record |= {"updated_at": int(time.time() * 1000), "updated_by": by}
            self._state.execute(
                "UPDATE securables SET facts = ? WHERE kind = ? AND full_name = ?",
                [json.dumps(record), kind, record["full_name"]],
            )
        return record

    def delete(self, kind: str, full_name: str, *, force: bool = False) -> None:
        """Drop a securable and its files; `force` drops what is in it too. Raises NotFound, BadRequest if not empty."""
        folders: list[Path] = []
        with self._state.transaction():
            record = self.get(kind, full_name)
            self._delete(kind, record, force, folders)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _delete(self, kind: str, record: dict[str, Any], force: bool, folders: list[Path]) -> None:
        full_name = record["full_name"]
        for child_kind in CHILDREN.get(kind, ()):
            children = self.children(child_kind, full_name)
            if children and not force:
                raise BadRequest(
                    f"{kind.capitalize()} '{full_name}' is not empty. It has {len(children)} {child_kind}(s): "
                    "drop them first, or use force (CASCADE).",
                    error_code=f"{kind.upper()}_NOT_EMPTY",
                )
            for child in children:
                self._delete(child_kind, child, force, folders)
        if kind == "volume":
            folders.append(self._config.root.joinpath("volumes", *full_name.split(".")))
        elif kind == "model":
            folders.append(self._config.root / "models" / record["id"])
        elif kind == "table" and record["table_type"] == "MANAGED":
            folders.append(Path(record["storage_location"].removeprefix("file://")))
        self._state.execute("DELETE FROM securables WHERE kind = ? AND full_name = ?", [kind, full_name])

    def volume_path(self, catalog: str, schema: str, volume: str) -> Path:
        """The folder of a registered volume. Raises NotFound (VOLUME_DOES_NOT_EXIST)."""
        names = self.get("volume", f"{catalog}.{schema}.{volume}")["full_name"].split(".")
        return self._config.root.joinpath("volumes", *names)

    def new_table_path(self, full_name: str) -> Path:
        """Where the files of a new managed table go; not made. A dropped table's folder is never used again."""
        catalog, schema, name = parts("table", full_name)
        return self._config.folder("tables", catalog, schema) / f"{name}-{uuid.uuid4().hex[:8]}"

    def grants(self, kind: str, full_name: str) -> dict[str, list[str]]:
        """The stored privileges on a securable by principal. Raises NotFound."""
        self.get(kind, full_name)
        granted: dict[str, list[str]] = {}
        for row in self._state.rows(
            "SELECT principal, privilege FROM grants WHERE kind = ? AND full_name = ? ORDER BY principal, privilege",
            [kind, full_name.lower()],
        ):
            granted.setdefault(row["principal"], []).append(row["privilege"])
        return granted

    def change_grants(self, kind: str, full_name: str, principal: str, add: list[str], remove: list[str]) -> None:
        """Store privileges of one principal and forget others. Raises NotFound."""
        with self._state.transaction():
            name = self.get(kind, full_name)["full_name"]
            for privilege in add:
                self._state.execute(
                    "INSERT OR IGNORE INTO grants VALUES (?, ?, ?, ?)", [kind, name, principal, privilege]
                )
            for privilege in remove:
                self._state.execute(
                    "DELETE FROM grants WHERE kind = ? AND full_name = ? AND principal = ? AND privilege = ?",
                    [kind, name, principal, privilege],
                )

"""Notebooks, files and directories of the workspace tree: content on disk, what they are in the state."""

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.paths import below, segments
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS workspace_objects (
    object_id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, parent TEXT NOT NULL,
    object_type TEXT NOT NULL, language TEXT, jupyter INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL, modified_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS workspace_objects_parent ON workspace_objects (parent);
"""
EXTENSIONS = {"PYTHON": ".py", "SQL": ".sql", "SCALA": ".scala", "R": ".r"}


def normal(path: Any) -> str:
    """The one spelling of an absolute path: no `/Workspace` before it. Raises BadRequest."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f"path must be absolute, such as /Users/me/name; got {path!r}")
    names = segments(path)
    return "/" + "/".join(names[1:] if names[:1] == ["Workspace"] else names)


def parent_of(path: str) -> str:
    """The directory a normal path lies in."""
    return path.rpartition("/")[0] or "/"


class WorkspaceObjects:
    """The workspace tree. Paths are normal ones."""

    def __init__(self, state: State, root: Path, owner: str):
        self._state = state
        self._root = root
        state.create(DDL)
        self._protected = ("/", "/Shared", "/Users", f"/Users/{owner}")
        for directory in self._protected:
            self.make_directories(directory)

    def status(self, path: str) -> dict[str, Any]:
        """One object. Raises NotFound."""
        row = self._find(path)
        if row is None:
            raise NotFound(f"Path ({path}) doesn't exist.")
        return row

    def by_id(self, object_id: int) -> dict[str, Any] | None:
        """The object with an id, if there is one."""
        return self._state.row("SELECT * FROM workspace_objects WHERE object_id = ?", [object_id])

    def children(self, path: str) -> list[dict[str, Any]]:
        """What lies in a directory, by path; the object itself when it is none. Raises NotFound."""
        row = self.status(path)
        if row["object_type"] != "DIRECTORY":
            return [row]
        return self._state.rows("SELECT * FROM workspace_objects WHERE parent = ? ORDER BY path", [path])

    def read(self, row: dict[str, Any]) -> bytes:
        """The content of a notebook or file."""
        try:
            return self._place(row["path"]).read_bytes()
        except FileNotFoundError:  # deleted since it was looked up
            raise NotFound(f"Path ({row['path']}) doesn't exist.") from None

    def make_directories(self, path: str) -> None:
        """Create a directory and those above it. Raises BadRequest when an object is in the way."""
        now = _now()
        with self._state.transaction():
            for depth in range(len(names := segments(path))):
                directory = "/" + "/".join(names[: depth + 1])
                row = self._find(directory)
                if row is None:
                    self._state.execute(
                        "INSERT INTO workspace_objects (path, parent, object_type, created_at, modified_at)"
                        " VALUES (?, ?, 'DIRECTORY', ?, ?)",
                        [directory, parent_of(directory), now, now],
                    )
                elif row["object_type"] != "DIRECTORY":
                    raise BadRequest(f"Path ({directory}) already exists.", error_code="RESOURCE_ALREADY_EXISTS")
            self._place(path).mkdir(parents=True, exist_ok=True)

    def write(
        self, path: str, content: bytes, object_type: str, language: str | None, jupyter: bool, overwrite: bool
    ) -> None:
        """Create or replace a notebook or file. Raises NotFound for the parent, BadRequest for what is in the way."""
        parent = self._find(parent_of(path))
        if parent is None or parent["object_type"] != "DIRECTORY":
            raise NotFound(f"The parent folder ({parent_of(path)}) does not exist.")
        target = self._place(path)
        staged = target.parent / f".{secrets.token_hex(8)}"
        try:
            with staged.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            with self._state.transaction():
                self._check_replaceable(path, object_type, overwrite)
                self._state.execute(
                    "INSERT INTO workspace_objects"
                    " (path, parent, object_type, language, jupyter, size, created_at, modified_at)"
                    " VALUES (:path, :parent, :type, :language, :jupyter, :size, :now, :now)"
                    " ON CONFLICT (path) DO UPDATE SET language = :language, jupyter = :jupyter, size = :size,"
                    " modified_at = :now",
                    {
                        "path": path,
                        "parent": parent_of(path),
                        "type": object_type,
                        "language": language,
                        "jupyter": jupyter,
                        "size": len(content),
                        "now": _now(),
                    },
                )
                staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)

    def delete(self, path: str, recursive: bool) -> None:
        """Delete an object; a directory with content only if `recursive`. Raises NotFound, BadRequest."""
        row = self.status(path)
        if path in self._protected:
            raise BadRequest(f"Folder {path} is protected", error_code="BAD_REQUEST")
        target = self._place(path)
        with self._state.transaction():
            if row["object_type"] == "DIRECTORY" and not recursive and self.children(path):
                raise BadRequest(f"Folder ({path}) is not empty", error_code="DIRECTORY_NOT_EMPTY")
            self._state.execute(
                "DELETE FROM workspace_objects WHERE path = ? OR substr(path, 1, ?) = ?",
                [path, len(path) + 1, path + "/"],
            )
            if row["object_type"] == "DIRECTORY":
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)

    def copy_tree(self, path: str, target: Path) -> None:
        """Copy a directory into a new folder on disk, notebooks as source files. Raises NotFound, BadRequest."""
        if self.status(path)["object_type"] != "DIRECTORY":
            raise BadRequest(f"Path ({path}) is not a directory.")
        target.mkdir(parents=True)
        for row in self.children(path):
            place = target / row["path"].rpartition("/")[2]
            if row["object_type"] == "DIRECTORY":
                self.copy_tree(row["path"], place)
            elif row["object_type"] == "NOTEBOOK":
                suffix = ".ipynb" if row["jupyter"] else EXTENSIONS[row["language"]]
                shutil.copyfile(self._place(row["path"]), place if place.suffix == suffix else Path(f"{place}{suffix}"))
            else:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    shutil.copyfile(self._place(row["path"]), place)

    def _find(self, path: str) -> dict[str, Any] | None:
        if path == "/":
            return {"object_id": 0, "path": "/", "object_type": "DIRECTORY", "created_at": 0, "modified_at": 0}
        return self._state.row("SELECT * FROM workspace_objects WHERE path = ?", [path])

    def _check_replaceable(self, path: str, object_type: str, overwrite: bool) -> None:
        there = self._find(path)
        if there is None:
            return
        if not overwrite:
            raise BadRequest(f"Path ({path}) already exists.", error_code="RESOURCE_ALREADY_EXISTS")
        if there["object_type"] != object_type:
            raise BadRequest(
                f"Cannot overwrite the asset at {path} due to type mismatch"
                f" (asked: {object_type}, actual: {there['object_type']})"
            )

    def _place(self, path: str) -> Path:
        return below(self._root, segments(path))


def _now() -> int:
    return time.time_ns() // 1_000_000

"""DBFS, the workspace's own file system: one folder below the root, whose files appear whole or not at all."""

import contextlib
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from local_workspace.dbfs.staging import Staging, publish
from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.paths import below, segments

MAX_BLOCK = 1 << 20
"""Bytes of one block or one read."""
IDLE_SECONDS = 600
"""A stream nobody wrote to for so long is dropped."""
ALWAYS = ("FileStore", "tmp", "user")


def exists_already(path: str) -> BadRequest:
    """DBFS's own words."""
    message = f"A file or directory already exists at the input path dbfs:{path}"
    return BadRequest(message, error_code="RESOURCE_ALREADY_EXISTS")


def missing(path: str) -> NotFound:
    """DBFS's own words."""
    return NotFound(f"No file or directory exists on path dbfs:{path}.")


def too_large(code: str, what: str) -> BadRequest:
    """DBFS's error for a block or read over its limit."""
    return BadRequest(f"{what} must not have more than {MAX_BLOCK} bytes", error_code=code)


def normal(path: Any) -> str:
    """The one spelling of a DBFS path: absolute, no scheme. Raises BadRequest."""
    if isinstance(path, str) and path.startswith("dbfs:"):
        path = "/" + path.removeprefix("dbfs:").lstrip("/")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f"path must be absolute, such as /tmp/name; got {path!r:.200}")
    names = segments(path)
    if names[:1] == ["Volumes"]:
        raise BadRequest("the DBFS API does not reach into /Volumes: use the Files API (w.files)")
    return "/" + "/".join(names)


@dataclass
class WriteStream:
    """A file being written in blocks."""

    path: str
    overwrite: bool
    staged: Path
    stream: BinaryIO
    touched: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def drop(self) -> None:
        """Forget what was written."""
        self.stream.close()
        self.staged.unlink(missing_ok=True)


class Dbfs:
    """The files below one folder. Paths are DBFS paths; `dbfs:` before them is allowed."""

    def __init__(self, root: Path, staging: Path):
        self._root = root
        self._staging = Staging(staging)
        self._streams: dict[int, WriteStream] = {}
        self._lock = threading.RLock()  # what is there may not change between a look and a move
        for name in ALWAYS:
            (root / name).mkdir(exist_ok=True)

    def locate(self, path: Any) -> Path:
        """Where a path lies on disk. Raises BadRequest."""
        return below(self._root, segments(normal(path)))

    def status(self, path: Any) -> dict[str, Any]:
        """FileInfo of a file or directory. Raises NotFound."""
        return self._info(normal(path), self.locate(path))

    def children(self, path: Any) -> list[dict[str, Any]]:
        """FileInfo of what lies in a directory, by name; of the file itself when it is one. Raises NotFound."""
        shown, place = normal(path), self.locate(path)
        if not place.is_dir():
            return [self._info(shown, place)]
        found = []
        for entry in sorted(e for e in place.iterdir() if not e.is_symlink()):
            with contextlib.suppress(NotFound):  # deleted meanwhile
                found.append(self._info(f"{shown.rstrip('/')}/{entry.name}", entry))
        return found

    def make_directories(self, path: Any) -> None:
        """Create a directory and those above it. Raises BadRequest when a file is in the way."""
        try:
            self.locate(path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise exists_already(normal(path)) from None

    def put(self, path: Any, content: BinaryIO, overwrite: bool) -> None:
        """Write a file. Raises BadRequest."""
        target = self._writable(path, overwrite)
        with self._staging.file() as (staged, stream):
            shutil.copyfileobj(content, stream, MAX_BLOCK)
            self._publish(normal(path), staged, stream, target, overwrite)

    def open(self, path: Any, overwrite: bool) -> int:
        """A handle for writing a file block by block. Raises BadRequest."""
        self._drop_idle()
        self._writable(path, overwrite)
        handle = secrets.randbelow(1 << 53)
        self._streams[handle] = WriteStream(normal(path), overwrite, *self._staging.new())
        return handle

    def add(self, handle: Any, block: bytes) -> None:
        """Append a block. Raises NotFound, BadRequest."""
        stream = self._stream(handle)
        if len(block) > MAX_BLOCK:
            raise too_large("MAX_BLOCK_SIZE_EXCEEDED", "a block")
        with stream.lock:
            stream.touched = time.monotonic()
            stream.stream.write(block)

    def close(self, handle: Any) -> None:
        """Make the file of a handle visible. Raises NotFound, BadRequest."""
        stream = self._stream(handle)
        with stream.lock:
            if self._streams.pop(handle, None) is None:
                raise _no_stream(handle)
            try:
                target = self._writable(stream.path, stream.overwrite)
                self._publish(stream.path, stream.staged, stream.stream, target, stream.overwrite)
            finally:
                stream.drop()

    def read(self, path: Any, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a file from `offset` on. Raises NotFound, BadRequest."""
        if offset < 0 or length < 0:
            raise BadRequest("offset and length must not be negative")
        if length > MAX_BLOCK:
            raise too_large("MAX_READ_SIZE_EXCEEDED", "a read")
        place = self.locate(path)
        if place.is_dir():
            raise BadRequest(f"path is a directory: dbfs:{normal(path)}")
        try:
            with place.open("rb") as stream:
                stream.seek(offset)
                return stream.read(length)
        except (FileNotFoundError, NotADirectoryError):
            raise missing(normal(path)) from None

    def move(self, source: Any, destination: Any) -> None:
        """Give a file or directory with all that is in it another path. Raises NotFound, BadRequest."""
        old, new = self.locate(source), self.locate(destination)
        with self._lock:
            if old == self._root.resolve() or not old.exists():
                raise missing(normal(source))
            if new.exists():
                raise exists_already(normal(destination))
            if new.is_relative_to(old):
                raise BadRequest("a directory cannot be moved into itself")
            try:
                new.parent.mkdir(parents=True, exist_ok=True)
                old.rename(new)
            except (FileExistsError, NotADirectoryError):
                raise exists_already(normal(destination)) from None

    def delete(self, path: Any, recursive: bool) -> None:
        """Delete a file or directory; nothing happens when there is none. Raises BadRequest when it is not empty."""
        place = self.locate(path)
        if place == self._root.resolve():
            raise BadRequest("the root of DBFS cannot be deleted")
        with self._lock:
            if not place.is_dir():
                place.unlink(missing_ok=True)
            elif recursive:
                # Out of sight at once, so that nobody meets half a directory.
                doomed = self._staging.folder / secrets.token_hex(8)
                place.rename(doomed)
                shutil.rmtree(doomed)
            else:
                try:
                    place.rmdir()
                except OSError:
                    message = f"dbfs:{normal(path)} is a non-empty directory: recursive must be true to delete it"
                    raise BadRequest(message, error_code="IO_ERROR") from None

    def _info(self, shown: str, place: Path) -> dict[str, Any]:
        try:
            facts = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise missing(shown) from None
        directory = place.is_dir()
        return {
            "path": shown,
            "is_dir": directory,
            "file_size": 0 if directory else facts.st_size,
            "modification_time": int(facts.st_mtime * 1000),
        }

    def _writable(self, path: Any, overwrite: bool) -> Path:
        target = self.locate(path)
        if target.is_dir() or (target.exists() and not overwrite):
            raise exists_already(normal(path))
        return target

    def _publish(self, path: str, staged: Path, stream: BinaryIO, target: Path, overwrite: bool) -> None:
        try:
            with self._lock:
                publish(staged, stream, target, overwrite)
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise exists_already(path) from None

    def _stream(self, handle: Any) -> WriteStream:
        stream = self._streams.get(handle) if isinstance(handle, int) else None
        if stream is None:
            raise _no_stream(handle)
        return stream

    def _drop_idle(self) -> None:
        for handle, stream in list(self._streams.items()):
            if time.monotonic() - stream.touched > IDLE_SECONDS:
                self._streams.pop(handle, None)
                with stream.lock:
                    stream.drop()


def _no_stream(handle: Any) -> NotFound:
    return NotFound(f"there is no open stream with the handle {handle!r:.50}; create one again")

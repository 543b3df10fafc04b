"""Files in volumes and the like: whole or not at all, and never outside their container."""

import base64
import binascii
import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from local_workspace.errors import AlreadyExists, BadRequest, NotFound
from local_workspace.files.paths import below, segments

BLOCK = 1 << 20
MAX_PAGE = 1000


class DirectoryNotEmpty(BadRequest):
    """Only an empty directory can be deleted."""

    reason = "FILES_API_DIRECTORY_IS_NOT_EMPTY"

    def response(self) -> JSONResponse:
        """The error with the reason that the Databricks CLI looks for."""
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.reason, "domain": "filesystem"}
        return JSONResponse({"error_code": self.error_code, "message": self.message, "details": [info]}, self.status)


def file_not_found() -> NotFound:
    """The Files API's own words."""
    return NotFound("The file being accessed is not found.", error_code="NOT_FOUND")


def directory_not_found() -> NotFound:
    """The Files API's own words."""
    return NotFound("The directory being accessed is not found.", error_code="NOT_FOUND")


@dataclass
class OpenFile:
    """A file held open, so that an upload to the same path does not disturb the download."""

    stream: BinaryIO
    size: int
    modified: float

    def blocks(self, start: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, block by block; closes the file."""
        with self.stream:
            self.stream.seek(start)
            while length > 0 and (block := self.stream.read(min(BLOCK, length))):
                length -= len(block)
                yield block


class FileTree:
    """The files of all containers of one kind, such as volumes.

    `container` gives the folder that the first names of a path stand for and raises NotFound.
    """

    top: str
    """What all paths of this kind begin with."""
    names: tuple[str, ...]
    """What the names of a container are called, such as catalog, schema and volume."""

    def __init__(self, container: Callable[..., Path], staging: Path):
        self._container = container
        self._staging = staging
        for left_over in staging.iterdir():
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()

    def locate(self, path: str) -> Path:
        """Where a path lies on disk; it begins with the names of its container. Raises BadRequest, NotFound."""
        names = segments(path)
        depth = len(self.names)
        if len(names) < depth:
            raise BadRequest(f"path must be {self.top}/{'/'.join(f'<{name}>' for name in self.names)}/...")
        return below(self._container(*names[:depth]), names[depth:])

    def check_open(self, *names: str) -> None:
        """Raises Conflict when nothing in the container may change any more."""

    @contextlib.contextmanager
    def staged(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file on the containers' disk that is gone afterwards unless it was published."""
        path = self._staging / secrets.token_hex(8)
        try:
            with path.open("xb") as stream:
                yield path, stream
        finally:
            path.unlink(missing_ok=True)

    async def write(self, path: str, body: AsyncIterable[bytes], overwrite: bool) -> None:
        """Take a file from a stream of chunks. Raises AlreadyExists."""
        pending, size = [], 0
        chunks = aiter(body)
        async for chunk in chunks:
            pending.append(chunk)
            size += len(chunk)
            if size >= BLOCK:
                break
        else:
            await run_in_threadpool(self._write_small, pending, path, overwrite)
            return
        await run_in_threadpool(self.writable, path, overwrite)
        with self.staged() as (staged, stream):
            await run_in_threadpool(stream.writelines, pending)
            pending, size = [], 0
            async for chunk in chunks:
                pending.append(chunk)
                size += len(chunk)
                if size >= BLOCK:
                    await run_in_threadpool(stream.writelines, pending)
                    pending, size = [], 0
            await run_in_threadpool(stream.writelines, pending)
            # Asked again: meanwhile its container may have gone or been closed.
            target = await run_in_threadpool(self.writable, path, overwrite)
            await run_in_threadpool(self.publish, staged, stream, target, overwrite)

    def _write_small(self, chunks: list[bytes], path: str, overwrite: bool) -> None:
        target = self.writable(path, overwrite)
        with self.staged() as (staged, stream):
            stream.writelines(chunks)
            self.publish(staged, stream, target, overwrite)

    def writable(self, path: str, overwrite: bool) -> Path:
        """The place of a file to be written. Raises AlreadyExists, BadRequest."""
        self.check_open(*segments(path)[: len(self.names)])
        target = self.locate(path)
        if len(segments(path)) == len(self.names) or target.is_dir():
            raise AlreadyExists("The path names an existing directory.", error_code="ALREADY_EXISTS")
        if not overwrite and target.exists():
            raise AlreadyExists("The file being created already exists.", error_code="ALREADY_EXISTS")
        return target

    def publish(self, staged: Path, stream: BinaryIO, target: Path, overwrite: bool) -> None:
        """Make a complete staged file visible at `target`, with the directories above it. Raises AlreadyExists."""
        # Not synced to the disk: like the tables and the state, files outlive killed processes, not a power failure.
        stream.flush()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                staged.replace(target)
            else:
                target.hardlink_to(staged)
        except IsADirectoryError:
            raise AlreadyExists("The path names an existing directory.", error_code="ALREADY_EXISTS") from None
        except NotADirectoryError:
            raise BadRequest("A parent of the path is a file.") from None
        except FileExistsError:
            # From the link: the file is there. From mkdir: a parent is a file.
            if target.parent.is_dir():
                raise AlreadyExists("The file being created already exists.", error_code="ALREADY_EXISTS") from None
            raise BadRequest("A parent of the path is a file.") from None

    def open(self, path: str) -> OpenFile:
        """A file for download. Raises NotFound."""
        target = self.locate(path)
        try:
            stream = target.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise file_not_found() from None
        facts = os.fstat(stream.fileno())
        return OpenFile(stream, facts.st_size, facts.st_mtime)

    def delete(self, path: str) -> None:
        """Delete a file. Raises NotFound."""
        self.check_open(*segments(path)[: len(self.names)])
        target = self.locate(path)
        if not target.is_file():
            raise file_not_found()
        target.unlink(missing_ok=True)

    def make_directory(self, path: str) -> None:
        """Create a directory and those above it. Raises AlreadyExists when a file is in the way."""
        self.check_open(*segments(path)[: len(self.names)])
        try:
            self.locate(path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise AlreadyExists("A file is in the way of the directory.", error_code="ALREADY_EXISTS") from None

    def directory(self, path: str) -> Path:
        """An existing directory. Raises NotFound."""
        target = self.locate(path)
        if not target.is_dir():
            raise directory_not_found()
        return target

    def delete_directory(self, path: str) -> None:
        """Delete an empty directory. Raises NotFound, DirectoryNotEmpty, BadRequest for a container itself."""
        self.check_open(*segments(path)[: len(self.names)])
        target = self.directory(path)
        if len(segments(path)) == len(self.names):
            raise BadRequest(f"A {self.names[-1]} is not deleted as a directory, but by its own operation.")
        try:
            target.rmdir()
        except OSError:
            raise DirectoryNotEmpty("The directory being deleted is not empty.") from None

    def entries(self, path: str, page_size: int, page_token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """One page of a directory, by name, and the token of the next. Raises NotFound, BadRequest."""
        after = _name_of(page_token) if page_token else ""
        shown = f"{self.top}/" + "/".join(segments(path))
        with os.scandir(self.directory(path)) as scan:
            found = sorted((e for e in scan if e.name > after and not e.is_symlink()), key=lambda e: e.name)
        page = found[: min(page_size or MAX_PAGE, MAX_PAGE)]
        contents = []
        for entry in page:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                facts = entry.stat(follow_symlinks=False)
                item = {
                    "name": entry.name,
                    "path": f"{shown}/{entry.name}",
                    "is_directory": entry.is_dir(follow_symlinks=False),
                    "last_modified": int(facts.st_mtime * 1000),
                }
                contents.append(item if item["is_directory"] else item | {"file_size": facts.st_size})
        more = len(found) > len(page)
        return contents, base64.urlsafe_b64encode(page[-1].name.encode()).decode() if more else None


class VolumeFiles(FileTree):
    """The files of all volumes."""

    top = "/Volumes"
    names = ("catalog", "schema", "volume")


def _name_of(page_token: str) -> str:
    try:
        return base64.b64decode(page_token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise BadRequest("page_token is not one this listing gave") from None

"""Uploads in parts, which the SDK uses from 50 MiB on. An upload that was not completed is gone after a restart."""

import hashlib
import secrets
import shutil
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.concurrency import run_in_threadpool

from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.paths import segments
from local_workspace.files.roots import Roots
from local_workspace.files.store import BLOCK, FileTree

MAX_PARTS = 10_000


@dataclass
class Session:
    """One upload under way."""

    token: str
    files: FileTree
    path: str
    overwrite: bool
    folder: Path
    etags: dict[int, str] = field(default_factory=dict)


class MultipartUploads:
    """Parts are kept as files and joined, in order, when the client says so."""

    def __init__(self, roots: Roots, staging: Path):
        self._roots = roots
        self._staging = staging
        self._sessions: dict[str, Session] = {}

    def initiate(self, path: str, overwrite: bool) -> str:
        """A session token for an upload to `path`. Raises AlreadyExists, NotFound."""
        files, inner = self._roots.find(path)
        files.writable(inner, overwrite)
        token = secrets.token_urlsafe(24)
        folder = self._staging / f"parts-{secrets.token_hex(8)}"
        folder.mkdir()
        self._sessions[token] = Session(token, files, inner, overwrite, folder)
        return token

    def session(self, token: str, path: Any = None) -> Session:
        """An upload under way; `path` must be its own. Raises NotFound, BadRequest."""
        session = self._sessions.get(token)
        if session is None:
            raise NotFound("The upload session does not exist; start the upload again.", error_code="NOT_FOUND")
        if path is not None:
            files, inner = self._roots.find(str(path))
            if files is not session.files or segments(inner) != segments(session.path):
                raise BadRequest("path is not the one the upload session was made for")
        return session

    async def take(self, token: str, number: int, body: AsyncIterable[bytes]) -> str:
        """Keep a part and return its ETag. Raises NotFound, BadRequest."""
        session = self.session(token)
        if not 1 <= number <= MAX_PARTS:
            raise BadRequest(f"part numbers go from 1 to {MAX_PARTS}")
        digest = hashlib.md5(usedforsecurity=False)
        with session.files.staged() as (staged, stream):
            async for chunk in body:
                digest.update(chunk)
                await run_in_threadpool(stream.write, chunk)
            stream.flush()
            staged.replace(session.folder / str(number))
        session.etags[number] = digest.hexdigest()
        return session.etags[number]

    def complete(self, token: str, path: str, parts: Any) -> None:
        """Join the parts into the file. Raises BadRequest when parts are missing or not those that came."""
        session = self.session(token, path)
        try:
            listed = {int(part["part_number"]): str(part["etag"]).strip('"') for part in parts}
        except (TypeError, KeyError, ValueError):
            raise BadRequest("parts must be a list of part_number and etag") from None
        if not listed or listed != {n: session.etags.get(n) for n in range(1, len(listed) + 1)}:
            raise BadRequest("parts must be all parts from 1 on, each with the etag its upload answered")
        files = session.files
        with files.staged() as (staged, stream):
            for number in sorted(listed):
                with (session.folder / str(number)).open("rb") as part:
                    shutil.copyfileobj(part, stream, BLOCK)
            files.publish(staged, stream, files.writable(session.path, session.overwrite), session.overwrite)
        self.abort(token)

    def abort(self, token: str) -> None:
        """Forget an upload and its parts. Raises NotFound."""
        session = self.session(token)
        del self._sessions[token]
        shutil.rmtree(session.folder)

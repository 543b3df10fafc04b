"""The Files API over volumes, the files of registered models and the artifacts of MLflow runs.

Where Databricks signs a URL, the caller's own authorization is among the headers that must come with it.
"""

from email.utils import formatdate, parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError, BadRequest
from local_workspace.files.multipart import MultipartUploads
from local_workspace.files.ranges import byte_range
from local_workspace.files.roots import Roots
from local_workspace.files.store import OpenFile

# What is read at once: from the page cache it takes less time than the way to another thread and back.
SMALL = 256 * 1024
FILES = "/api/2.0/fs/files/{path:path}"
DIRECTORIES = "/api/2.0/fs/directories/{path:path}"


class PreconditionFailed(ApiError):
    """The file has changed since the client last saw it."""

    status, error_code = 412, "FAILED_PRECONDITION"


def _headers(file: OpenFile) -> dict[str, str]:
    return {
        "accept-ranges": "bytes",
        "content-length": str(file.size),
        "content-type": "application/octet-stream",
        "last-modified": formatdate(file.modified, usegmt=True),
    }


def _check_unmodified(file: OpenFile, since: str | None) -> None:
    """Raises PreconditionFailed, by the whole seconds HTTP dates have."""
    try:
        unchanged = since is None or int(file.modified) <= parsedate_to_datetime(since).timestamp()
    except ValueError:
        return  # RFC 9110, 13.1.4: a date that is none is ignored
    if not unchanged:
        raise PreconditionFailed("The file was modified after the time in If-Unmodified-Since.")


def router(ws: LocalWorkspace) -> APIRouter:
    """The Files API."""
    api = APIRouter()
    roots = Roots(ws.files, ws.models.files, ws.tracking.artifacts)
    uploads = MultipartUploads(roots, ws.config.folder("uploads"))

    @api.put(FILES, status_code=204)
    async def upload(path: str, request: Request, overwrite: bool = True) -> None:
        files, inner = roots.find(path)
        await files.write(inner, request.stream(), overwrite)

    @api.get(FILES)
    async def download(path: str, request: Request) -> Response:
        files, inner = roots.find(path)
        file = files.open(inner)
        try:
            _check_unmodified(file, request.headers.get("if-unmodified-since"))
            headers = _headers(file)
            start, length, partial = byte_range(request.headers.get("range"), file.size)
        except BaseException:
            file.stream.close()
            raise
        if partial:
            headers |= {
                "content-length": str(length),
                "content-range": f"bytes {start}-{start + length - 1}/{file.size}",
            }
        status = 206 if partial else 200
        if length <= SMALL:
            return Response(b"".join(file.blocks(start, length)), status, headers)
        return StreamingResponse(file.blocks(start, length), status, headers)

    @api.head(FILES)
    def file_metadata(path: str) -> Response:
        files, inner = roots.find(path)
        file = files.open(inner)
        file.stream.close()
        return Response(headers=_headers(file))

    @api.delete(FILES, status_code=204)
    def delete(path: str) -> None:
        files, inner = roots.find(path)
        files.delete(inner)

    @api.post(FILES)
    async def multipart(
        path: str, request: Request, action: str = "", session_token: str = "", overwrite: bool = True
    ) -> dict[str, Any]:
        if action == "initiate-upload":
            token = await run_in_threadpool(uploads.initiate, path, overwrite)
            return {"multipart_upload": {"session_token": token}}
        if action == "complete-upload":
            parts = (await read_object(request)).get("parts")
            await run_in_threadpool(uploads.complete, session_token, path, parts)
            return {}
        raise BadRequest("action must be initiate-upload or complete-upload")

    @api.post("/api/2.0/fs/create-download-url")
    async def download_url(path: str, request: Request) -> dict[str, Any]:
        files, inner = roots.find(path)
        return _signed(request, f"{ws.host}/api/2.0/fs/files{quote(f'{files.top}/{inner}')}")

    @api.post("/api/2.0/fs/create-upload-part-urls")
    async def part_urls(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        first, count = body.get("start_part_number"), body.get("count", 1)
        if not isinstance(first, int) or not isinstance(count, int) or first < 1 or not 1 <= count <= 1000:
            raise BadRequest("start_part_number must be 1 or more and count between 1 and 1000")
        token = uploads.session(str(body.get("session_token")), body.get("path")).token
        return {
            "upload_part_urls": [
                {"part_number": n, **_signed(request, f"{ws.host}/api/2.0/fs/upload-parts/{token}/{n}")}
                for n in range(first, first + count)
            ]
        }

    @api.post("/api/2.0/fs/create-abort-upload-url")
    async def abort_url(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        token = uploads.session(str(body.get("session_token")), body.get("path")).token
        return {"abort_upload_url": _signed(request, f"{ws.host}/api/2.0/fs/upload-parts/{token}")}

    @api.put("/api/2.0/fs/upload-parts/{token}/{number}")
    async def upload_part(token: str, number: int, request: Request) -> Response:
        return Response(headers={"etag": await uploads.take(token, number, request.stream())})

    @api.delete("/api/2.0/fs/upload-parts/{token}")
    def abort_upload(token: str) -> None:
        uploads.abort(token)

    @api.put(DIRECTORIES, status_code=204)
    def make_directory(path: str) -> None:
        files, inner = roots.find(path)
        files.make_directory(inner)

    @api.head(DIRECTORIES)
    def directory_metadata(path: str) -> Response:
        files, inner = roots.find(path)
        files.directory(inner)
        return Response()

    @api.delete(DIRECTORIES, status_code=204)
    def delete_directory(path: str) -> None:
        files, inner = roots.find(path)
        files.delete_directory(inner)

    @api.get(DIRECTORIES)
    def list_directory(
        path: str, page_size: Annotated[int, Query(ge=0)] = 0, page_token: str | None = None
    ) -> dict[str, Any]:
        files, inner = roots.find(path)
        contents, token = files.entries(inner, page_size, page_token)
        return {"contents": contents} | ({"next_page_token": token} if token else {})

    return api


def _signed(request: Request, url: str) -> dict[str, Any]:
    """A URL with the headers that must come with it: the caller's own, instead of a signature in the URL."""
    return {"url": url, "headers": [{"name": "Authorization", "value": request.headers["authorization"]}]}

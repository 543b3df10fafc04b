"""Request bodies: bounded, JSON that can be written again, and JSON objects where one is meant."""

import asyncio
import json
import re
from typing import Any

from fastapi import Request

from local_workspace.errors import BadRequest

MAX_BYTES = 16 * 1024 * 1024
LONG = 64 * 1024
"""From here on parsing takes long enough to be kept off the event loop."""
JSON_TYPE = re.compile(rb"application/([\w.-]+\+)?json\b", re.IGNORECASE)
SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]|NaN|Infinity|[eE]\+?\d{3}|\d{309}")
"""What may stand for half a character or for no number."""
SELF_CHECKED = re.compile(r"/serving-endpoints/|/api/2\.0/vector-search/.*/upsert-data$")
"""Serving refuses by itself what a model cannot be told, and records that it did; the vectors' engine names the row."""


async def read(request: Request, limit: int = MAX_BYTES) -> bytes:
    """The body. Raises BadRequest when it is too long."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise BadRequest(f"the request has more than {limit} bytes")
    return bytes(content)


async def read_object(request: Request, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    content = await read(request, limit)
    checked = JSON_TYPE.match(request.headers.get("content-type", "").encode())
    if not checked and not SELF_CHECKED.match(request.url.path):
        await _check(content)
    try:
        body = await asyncio.to_thread(json.loads, content) if len(content) > LONG else json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


class WellFormed:
    """ASGI middleware: JSON that Python reads but nobody can write again is 400 at the door.

    Half a character (a lone surrogate) or a number that is none, once kept, would break every answer it is in.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = dict(scope["headers"]).get(b"content-type", b"") if scope["type"] == "http" else b""
        if not JSON_TYPE.match(kind) or SELF_CHECKED.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        messages, content, more = [], bytearray(), True
        while more and len(content) <= MAX_BYTES:  # what is longer is bounded where it is read
            messages.append(await receive())
            content += messages[-1].get("body", b"")
            more = messages[-1].get("more_body", False)
        try:
            await _check(bytes(content))
        except BadRequest as error:
            await error.response()(scope, receive, send)
            return

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, again, send)


async def _check(content: bytes) -> None:
    """Raises BadRequest for JSON that cannot be written again; what is no JSON at all is told by who reads it."""
    if len(content) > LONG:
        await asyncio.to_thread(_check_now, content)
    else:
        _check_now(content)


def _check_now(content: bytes) -> None:
    if not SUSPECT.search(content):
        return
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadRequest(f"the body holds what JSON cannot say: {error}") from None

"""Request bodies: bounded, and JSON objects where one is meant."""

import asyncio
import json
from typing import Any

from fastapi import Request

from local_workspace.errors import BadRequest

MAX_BYTES = 16 * 1024 * 1024
LONG = 64 * 1024
"""From here on parsing takes long enough to be kept off the event loop."""


async def read(request: Request, limit: int = MAX_BYTES) -> bytes:
    """The body. Raises BadRequest when it is too long."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise BadRequest(f"the request has more than {limit} bytes")
    return bytes(content)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    content = await read(request)
    try:
        body = await asyncio.to_thread(json.loads, content) if len(content) > LONG else json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body

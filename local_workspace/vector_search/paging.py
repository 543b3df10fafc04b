"""Page tokens: a query and where to go on, in themselves, so that they outlive the engine."""

import base64
import binascii
import json
import zlib
from typing import Any

from local_workspace.errors import BadRequest

MAX_BYTES = 1024 * 1024


def token(query: dict[str, Any], offset: int) -> str:
    """The token of the page of `query` that begins at `offset`."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(query | {"offset": offset}).encode())).decode()


def query(page_token: Any) -> dict[str, Any]:
    """The query of a token. Raises BadRequest."""
    try:
        if not isinstance(page_token, str):
            raise ValueError("a string is needed")
        content = zlib.decompressobj().decompress(base64.urlsafe_b64decode(page_token.encode()), MAX_BYTES)
        found = json.loads(content)
    except (ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise BadRequest("page_token is none that query or query-next-page gave") from error
    if not isinstance(found, dict):
        raise BadRequest("page_token is none that query or query-next-page gave")
    return found

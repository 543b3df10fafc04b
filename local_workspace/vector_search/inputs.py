"""JSON that came in a request."""

import json
from typing import Any

import orjson

from local_workspace.errors import BadRequest


def parsed(text: str | bytes, field: str) -> Any:
    """JSON, of a body or within it. Raises BadRequest."""
    try:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return json.loads(text)  # it takes NaN too, so that a message can name the row
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{field} is not JSON: {error}") from error

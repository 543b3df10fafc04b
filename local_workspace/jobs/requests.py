"""What requests to the Jobs API have in common."""

from typing import Any

from fastapi import Request

from local_workspace.errors import BadRequest

SINGLE = "main"
"""The key of the task in a job of the older form, whose one task is not in a list."""
OF_TASK = (
    "libraries",
    "new_cluster",
    "existing_cluster_id",
    "max_retries",
    "min_retry_interval_millis",
    "retry_on_timeout",
)


def integer(body: dict[str, Any], name: str) -> int:
    """A whole number, also as text, as some clients send it. Raises BadRequest."""
    value = body.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise BadRequest(f"{name} must be an integer; got {value!r:.50}")
    return value


def limit(request: Request, default: int, most: int) -> int:
    """The page size. Raises BadRequest."""
    text = request.query_params.get("limit") or "0"
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise BadRequest(f"limit must be from 1 to {most}; got {text!r:.50}")
    return int(text) or default


def page_offset(token: str) -> int:
    """Where a page begins. Raises BadRequest."""
    if token and not (token.isascii() and token.isdigit() and len(token) < 18):
        raise BadRequest(f"page_token {token[:40]!r} is not one that this workspace has given")
    return int(token or 0)


def single_task_form(body: dict[str, Any]) -> dict[str, Any]:
    """Settings in the older form, with one task outside of a list, in the form of today."""
    kinds = [name for name in body if name.endswith("_task") and body[name]]
    if "tasks" in body or not kinds:
        return body
    moved = {*kinds, *OF_TASK}
    task = {"task_key": SINGLE} | {name: value for name, value in body.items() if name in moved}
    return {name: value for name, value in body.items() if name not in moved} | {"tasks": [task]}

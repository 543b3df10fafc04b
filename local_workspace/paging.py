"""Pages of a list, with a token for the next."""

from collections.abc import Sequence
from typing import TypeVar

from local_workspace.errors import BadRequest

Item = TypeVar("Item")


def page(items: Sequence[Item], size: int, token: str) -> tuple[Sequence[Item], dict[str, str]]:
    """The items of one page, and `next_page_token` when there are more. Raises BadRequest."""
    if token and not (token.isascii() and token.isdigit()):
        raise BadRequest(f"page_token {token[:40]!r} is not one that this workspace has given")
    end = int(token or 0) + size
    return items[end - size : end], {"next_page_token": str(end)} if end < len(items) else {}

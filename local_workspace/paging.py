"""Pages of a list, with a token for the next."""

from collections.abc import Sequence
from typing import TypeVar

from local_workspace.errors import BadRequest

Item = TypeVar("Item")


def page(items: Sequence[Item], size: int, token: str, first: int = 0) -> tuple[Sequence[Item], dict[str, str]]:
    """One page of items, beginning at `first` or where `token` says, and the next page's token. Raises BadRequest."""
    if token and not (token.isascii() and token.isdigit()):
        raise BadRequest(f"page_token {token[:40]!r} is not one that this workspace has given")
    end = int(token or first) + size
    return items[end - size : end], {"next_page_token": str(end)} if end < len(items) else {}

"""How honest each operation is: what differs from a real workspace is said where it is served."""

from collections.abc import Callable
from typing import TypeVar

Handler = TypeVar("Handler", bound=Callable)


def differs(how: str) -> Callable[[Handler], Handler]:
    """Mark a route's handler as partial: `how` it differs from the real operation, for the parity report.

    It stands below the route's own decorator.
    """

    def mark(handler: Handler) -> Handler:
        handler.differs = how  # type: ignore[attr-defined]
        return handler

    return mark


def refuses(why: str) -> Callable[[Handler], Handler]:
    """Mark a route's handler as one that always refuses, and `why`, for the parity report."""

    def mark(handler: Handler) -> Handler:
        handler.refuses = why  # type: ignore[attr-defined]
        return handler

    return mark

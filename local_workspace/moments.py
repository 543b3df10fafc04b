"""Times as the newer APIs write them."""

from datetime import UTC, datetime


def iso(seconds: float) -> str:
    """A time in seconds since 1970 as RFC 3339, in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

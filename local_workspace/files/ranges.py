"""The `Range` header (RFC 9110, 14.2), for one range."""

import re

from local_workspace.errors import ApiError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class RangeNotSatisfiable(ApiError):
    """The range asked for lies outside the file."""

    status, error_code = 416, "OUT_OF_RANGE"


def byte_range(header: str | None, size: int) -> tuple[int, int, bool]:
    """Start, length and whether it is a part, of a file of `size` bytes. Raises RangeNotSatisfiable.

    A header that is not one range of bytes is ignored, as the RFC allows.
    """
    match = _RANGE.fullmatch((header or "").strip().lower())
    if not match or not (match[1] or match[2]):
        return 0, size, False
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
        if match[2] and int(match[2]) < start:
            return 0, size, False
    else:
        start, end = max(size - int(match[2]), 0), size - 1
    if start > end:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes; the range {header} lies outside.", headers={"content-range": f"bytes */{size}"}
        )
    return start, end - start + 1, True

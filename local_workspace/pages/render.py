"""Pages as HTML: Jinja templates that escape everything, and no script at all."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FOLDER = Path(__file__).with_name("templates")


@cache
def _templates():  # Jinja is imported with the first page
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"moment": moment, "bytes": size, "path": lambda text: quote(str(text), safe="/")}
    return templates


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of `template` with these values."""
    return HTMLResponse(_templates().get_template(template).render(values), status, HEADERS)


def moment(milliseconds: float | None) -> str:
    """A time in milliseconds since 1970, to the second, in UTC."""
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(count: float | None) -> str:
    """A number of bytes for people."""
    count = count or 0
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"

"""Dynamic values: `{{job.parameters.x}}`, `{{tasks.a.values.k}}`, `{{job.run_id}}` and the like in a task's fields."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][^{}]*?)\s*\}\}")
MISSING = object()


class UnresolvedError(Exception):
    """A reference names something that is not there."""


def resolve(value: Any, names: Mapping[str, Any]) -> Any:
    """`value` with every reference replaced, at any depth. Raises UnresolvedError."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _text(match[1], names), value)
    if isinstance(value, dict):
        return {key: resolve(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, names) for item in value]
    return value


def _text(path: str, names: Mapping[str, Any]) -> str:
    found = _find(path, names)
    if found is MISSING:
        if path.partition(".")[0] not in (*names, "tasks"):
            return "{{" + path + "}}"  # not a reference of ours: a template of the user's own
        raise UnresolvedError(f"the reference {{{{{path}}}}} cannot be resolved")
    return found if isinstance(found, str) else json.dumps(found)


def _find(path: str, names: Mapping[str, Any]) -> Any:
    """The value at a path of dots; keys may have dots and brackets themselves: the longest that fits is taken."""
    path = re.sub(r"\[['\"]?([^\]'\"]+)['\"]?\]", r".\1", path)
    return _walk(path.split("."), names)


def _walk(parts: list[str], value: Any) -> Any:
    if not parts:
        return value
    if isinstance(value, list) and parts[0].isdigit() and int(parts[0]) < len(value):
        return _walk(parts[1:], value[int(parts[0])])
    if not isinstance(value, Mapping):
        return MISSING
    for length in range(len(parts), 0, -1):
        key = ".".join(parts[:length])
        if key in value and (found := _walk(parts[length:], value[key])) is not MISSING:
            return found
    return MISSING


def moment(milliseconds: int) -> dict[str, Any]:
    """The forms of a time, such as `{{job.start_time.iso_date}}`; all in UTC."""
    time = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return {
        "timestamp_ms": milliseconds,
        "iso_datetime": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "iso_date": time.strftime("%Y-%m-%d"),
        "iso_weekday": time.isoweekday(),
        "is_weekday": time.isoweekday() <= 5,
        "year": time.year,
        "month": time.month,
        "day": time.day,
        "hour": time.hour,
        "minute": time.minute,
        "second": time.second,
    }

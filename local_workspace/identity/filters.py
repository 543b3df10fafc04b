"""SCIM's filters (RFC 7644, 3.4.2.2), as far as Databricks takes them: comparisons joined by `and`."""

import re
from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse

from local_workspace.errors import ApiError

COMPARISON = re.compile(r'\s*(\w+)\s+(eq|ne|co|sw)\s+(?:"((?:[^"\\]|\\.)*)"|(\S+))\s*', re.IGNORECASE)
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "ne": lambda value, wanted: value != wanted,
    "co": lambda value, wanted: wanted in value,
    "sw": lambda value, wanted: value.startswith(wanted),
}


class ScimError(ApiError):
    """An error in the shape of SCIM (RFC 7644, 3.12)."""

    def __init__(self, message: str, status: int = 400, scim_type: str | None = "invalidValue"):
        super().__init__(message)
        self.status = status
        self._type = scim_type

    def response(self) -> JSONResponse:
        """The error as the HTTP answer."""
        schema = "urn:ietf:params:scim:api:messages:2.0:Error"
        body = {"schemas": [schema], "detail": self.message, "status": str(self.status)}
        return JSONResponse(body | ({"scimType": self._type} if self._type else {}), self.status)


def matcher(text: str) -> Callable[[dict[str, Any]], bool]:
    """A test of resources by a filter. Raises ScimError."""
    conditions = []
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        match = COMPARISON.fullmatch(part)
        if not match:
            raise ScimError(f"Given filter operator is not supported. {text:.200}", scim_type="invalidFilter")
        wanted = match[4] if match[3] is None else re.sub(r"\\(.)", r"\1", match[3])
        conditions.append((match[1].lower(), OPERATORS[match[2].lower()], wanted.lower()))

    def matches(resource: dict[str, Any]) -> bool:
        values = {name.lower(): str(value).lower() for name, value in resource.items()}
        return all(operator(values.get(name, ""), wanted) for name, operator, wanted in conditions)

    return matches

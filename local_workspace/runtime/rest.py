"""The few REST calls of the runtime itself, without the SDK, whose import takes longer than most cells."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from local_workspace.runtime.context import Context


class RestError(Exception):
    """The workspace refused; `code` is its Databricks error code."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


class Rest:
    """Calls to the workspace with this process's token."""

    def __init__(self, context: Context):
        self._context = context

    def get(self, path: str, /, **query: Any) -> bytes:
        """The body of a GET. Raises RestError."""
        return self._call("GET", f"{path}?{urllib.parse.urlencode(query)}")

    def post(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The JSON answer to a POST. Raises RestError."""
        return json.loads(self._call("POST", path, json.dumps(body).encode(), headers))

    def _call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the workspace's own address, from our parent
            self._context.host + path,
            body,
            {"Authorization": f"Bearer {self._context.token}", "Content-Type": "application/json"} | (headers or {}),
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            try:
                problem = json.loads(error.read())
            except ValueError:
                problem = {}
            raise RestError(problem.get("error_code", str(error.code)), problem.get("message", error.reason)) from None

"""Who looks at the pages: a browser that has shown the token once gets a cookie for it."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from local_workspace.auth import SESSION_COOKIE, Auth
from local_workspace.errors import ApiError, Forbidden, Unauthenticated
from local_workspace.pages.render import render


class SignIn(ApiError):
    """The browser has to show the token first."""

    status, error_code = 401, "UNAUTHENTICATED"

    def response(self) -> HTMLResponse:
        """The form to show it with."""
        return render("sign_in.html", status=self.status, message=self.message)


class Sessions:
    """Signed-in browsers, until the workspace ends."""

    def __init__(self, auth: Auth):
        self._auth = auth
        self._tokens: dict[str, str] = {}

    def open(self, token: str) -> Response:
        """Go to the first page with a session's cookie. Raises SignIn for a wrong token."""
        try:
            self._auth.principal(f"Bearer {token}")
        except Unauthenticated as error:
            raise SignIn(error.message) from error
        session = secrets.token_urlsafe(32)
        self._tokens[_hash(session)] = token
        answer = RedirectResponse("/", 303)
        answer.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="strict")
        return answer

    def close(self, request: Request) -> Response:
        """Forget a browser's session."""
        self._tokens.pop(_hash(request.cookies.get(SESSION_COOKIE, "")), None)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(SESSION_COOKIE)
        return answer

    def viewer(self, request: Request) -> "Viewer":
        """Who asks for a page. Raises SignIn, Forbidden for a form that another site has sent."""
        if request.method == "POST" and request.headers.get("origin", "") not in (
            "",
            str(request.base_url).rstrip("/"),
        ):
            raise Forbidden("This form was sent from another site.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = self._tokens.get(_hash(request.cookies.get(SESSION_COOKIE, "")), "")
        if not token:
            raise SignIn("")
        try:
            self._auth.principal(f"Bearer {token}")
        except Unauthenticated as error:
            raise SignIn(error.message) from error
        return Viewer(request.app, token)


@dataclass(frozen=True)
class Viewer:
    """A signed-in browser's way to the REST API: the pages show what every client gets, and nothing else."""

    app: FastAPI
    token: str

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The answer of an operation. Raises ApiError as it answers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://pages", headers=headers) as client:
            answer = await client.request(method, path, timeout=None, **options)
        body = answer.json() if answer.content else {}
        if answer.is_error:
            error = ApiError(body.get("message", answer.reason_phrase), error_code=body.get("error_code"))
            error.status = answer.status_code
            raise error
        return body

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """The answer of a GET. Raises ApiError."""
        return await self.call("GET", path, params={name: value for name, value in params.items() if value != ""})

    async def every(self, path: str, kind: str, **params: Any) -> list[dict[str, Any]]:
        """The items named `kind` of all pages of a list. Raises ApiError."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            answer = await self.get(path, page_token=token, **params)
            found += answer.get(kind) or []
            token = answer.get("next_page_token") or ""
            if not token:
                return found

    async def sql(self, statement: str, limit: int = 100) -> dict[str, Any]:
        """A statement's columns and rows, at most `limit`. Raises ApiError with the engine's message."""
        warehouse = (await self.get("/api/2.0/sql/warehouses"))["warehouses"][0]["id"]
        body = {"statement": statement, "warehouse_id": warehouse, "wait_timeout": "50s", "row_limit": limit}
        done = await self.call("POST", "/api/2.0/sql/statements", json=body | {"on_wait_timeout": "CANCEL"})
        if done["status"]["state"] != "SUCCEEDED":
            message = done["status"].get("error", {}).get("message", f"it is {done['status']['state']}")
            error = ApiError(message, error_code="BAD_REQUEST")
            error.status = 400
            raise error
        columns = [column["name"] for column in done["manifest"]["schema"].get("columns", [])]
        return {"columns": columns, "rows": (done.get("result") or {}).get("data_array") or []}


def _hash(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()

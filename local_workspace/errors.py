"""The errors of the REST API, in the shape the Databricks SDKs parse: `{"error_code", "message"}`."""

import errno
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from local_workspace.parity import operations


class ApiError(Exception):
    """An answer with a Databricks error code; the subclasses are what the services raise."""

    status = 500
    error_code = "INTERNAL_ERROR"

    def __init__(self, message: str, *, error_code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.message = message
        self.error_code = error_code or self.error_code
        self.headers = headers or {}

    def response(self) -> Response:
        """The error as the HTTP answer."""
        body = {"error_code": self.error_code, "message": self.message, "details": []}
        return JSONResponse(body, self.status, headers=self.headers)


class BadRequest(ApiError):
    """The request is malformed or names something impossible."""

    status, error_code = 400, "INVALID_PARAMETER_VALUE"


class Unauthenticated(ApiError):
    """No valid token came with the request."""

    status, error_code = 401, "UNAUTHENTICATED"


class Forbidden(ApiError):
    """The token is not allowed to do this."""

    status, error_code = 403, "PERMISSION_DENIED"


class NotFound(ApiError):
    """What the request names does not exist."""

    status, error_code = 404, "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(ApiError):
    """What the request would create is there already."""

    status, error_code = 409, "RESOURCE_ALREADY_EXISTS"


class Conflict(ApiError):
    """The resource is in a state that does not allow this now."""

    status, error_code = 409, "RESOURCE_CONFLICT"


class NotImplementedHere(ApiError):
    """The local workspace does not have this operation; it never pretends to."""

    status, error_code = 501, "NOT_IMPLEMENTED"


class Unavailable(ApiError):
    """An engine is down or not ready; clients retry."""

    status, error_code = 503, "TEMPORARILY_UNAVAILABLE"

    def __init__(self, message: str):
        super().__init__(message, headers={"Retry-After": "1"})


class DiskFull(ApiError):
    """Nothing more can be written."""

    status, error_code = 507, "RESOURCE_EXHAUSTED"


def install(app: FastAPI) -> None:
    """Answer every error of `app` in the shape of the Databricks REST API."""

    @app.exception_handler(ApiError)
    async def _api_error(_request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors())
        return BadRequest(f"Invalid request: {problems}").response()

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.OperationalError)
    async def _full(_request: Request, error: OSError | sqlite3.OperationalError) -> Response:
        code = error.errno if isinstance(error, OSError) else error.sqlite_errorcode
        if code not in (errno.ENOSPC, errno.EDQUOT, sqlite3.SQLITE_FULL):
            raise error
        return DiskFull("The disk that holds the workspace is full: make room, then try again.").response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if any(ord(character) < 32 for character in request.url.path):
            return BadRequest("the path has a control character").response()
        if error.status_code in (404, 405):
            operation = operations.named(request.method, request.url.path)
            return NotImplementedHere(f"local_workspace does not have the operation {operation}").response()
        if error.status_code == BadRequest.status:
            return BadRequest(str(error.detail)).response()
        answer = ApiError(str(error.detail), error_code=BadRequest.error_code if error.status_code < 500 else None)
        answer.status = error.status_code
        return answer.response()

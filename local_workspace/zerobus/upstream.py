"""What the gRPC engine asks of the workspace, whose HTTP errors become gRPC's."""

from typing import Any
from urllib.parse import quote

import httpx
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

TABLE_HEADER = "x-databricks-zerobus-table-name"
PROTOBUF = "application/x-protobuf"
STATUS_DETAILS, RETRY_INFO = "grpc-status-details-bin", "google.rpc.retryinfo-bin"
CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}


class Rejected(Exception):
    """A call ends with this gRPC status."""

    def __init__(self, code: StatusCode, message: str, trailers: tuple[tuple[str, bytes], ...] = ()):
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = trailers


class Upstream:
    """The workspace over HTTP; everything raises Rejected."""

    def __init__(self, host: str, token: str):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(base_url=host, timeout=httpx.Timeout(120, connect=5), limits=limits)
        self._own = {"authorization": f"Bearer {token}"}

    async def columns(self, table: str, authorization: str) -> dict[str, Any]:
        """The table's columns by name, as the caller may see them."""
        path = f"/api/2.1/unity-catalog/tables/{quote(table, safe='')}"
        response = await self._send("GET", path, headers={"authorization": authorization})
        return {column["name"]: column for column in response.json()["columns"]}

    async def append(self, table: str, records: list[bytes]) -> None:
        """Append JSON objects to a table; when it returns they are in Delta."""
        body = b"[" + b",".join(records) + b"]"
        await self._send("POST", f"/engine/zerobus/{quote(table, safe='')}", content=body, headers=self._own)

    async def export(self, signal: str, table: str, authorization: str, content: bytes) -> bytes:
        """An OTLP export request's answer."""
        headers = {"authorization": authorization, "content-type": PROTOBUF, TABLE_HEADER: table}
        return (await self._send("POST", f"/v1/{signal}", content=content, headers=headers)).content

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Rejected(StatusCode.UNAVAILABLE, f"the workspace did not answer ({type(error).__name__})") from error
        if response.is_success:
            return response
        raise Rejected(_code(response), _message(response), _trailers(response))


def _code(response: httpx.Response) -> StatusCode:
    return CODES.get(response.status_code, StatusCode.INTERNAL)


def _message(response: httpx.Response) -> str:
    if response.headers.get("content-type") == PROTOBUF:
        return Status.FromString(response.content).message
    try:
        return response.json()["message"]
    except (ValueError, KeyError, TypeError):
        return f"the workspace answered {response.status_code}"


def _trailers(response: httpx.Response) -> tuple[tuple[str, bytes], ...]:
    """When to try again: as the OTLP specification has it, and as the Python exporter reads it."""
    after = response.headers.get("retry-after", "")
    if not after.isdigit():
        return ()
    info = RetryInfo(retry_delay=Duration(seconds=int(after)))
    status = Status(code=_code(response).value[0], message=_message(response))
    status.details.add().Pack(info)
    return (STATUS_DETAILS, status.SerializeToString()), (RETRY_INFO, info.SerializeToString())

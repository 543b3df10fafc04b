"""One OTLP export request: read, put into rows, appended durably, answered in the words of OTLP."""

import zlib

from fastapi import Response
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT, NOT_FOUND
from google.rpc.status_pb2 import Status

from local_workspace.sql.lake import otlp
from local_workspace.sql.lake.appends import append_rows
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_BYTES = 64 * 2**20
"""How large a request may be once unpacked: the limit of the genuine exporters."""


def unpacked(content: bytes, encoding: str) -> bytes:
    """A body without its content encoding. Raises SqlError, also for one that unpacks to more than MAX_BYTES."""
    if encoding == "identity":
        return content
    if encoding not in ("gzip", "deflate"):
        raise otlp.malformed(f"the content encoding {encoding} is not gzip, deflate or identity")
    try:
        # 32 tells zlib to take a gzip header or its own.
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        plain = inflater.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise otlp.malformed(error) from error
    if len(plain) > MAX_BYTES:
        raise otlp.malformed(f"it unpacks to more than {MAX_BYTES} bytes")
    if not inflater.eof:
        raise otlp.malformed("it ends too soon")
    return plain


def answer(message: Message, as_json: bool, status: int) -> Response:
    """A message in the encoding of the request."""
    if as_json:
        return Response(json_format.MessageToJson(message), status, media_type=JSON)
    return Response(message.SerializeToString(), status, media_type=PROTOBUF)


def export(lake: Lake, signal: str, table: str, content: bytes, kind: str, encoding: str) -> Response:
    """Append a request's records and answer 200; 400 or 404 with a `google.rpc.Status` when it cannot be."""
    as_json = kind == JSON
    try:
        if kind not in (JSON, PROTOBUF):
            raise otlp.malformed(f"the content type must be {PROTOBUF} or {JSON}")
        request = otlp.parse(signal, unpacked(content, encoding), as_json)
        if rows := otlp.rows(signal, request):
            append_rows(lake, table, rows)
        else:
            lake.location(table)
    except SqlError as error:
        missing = error.condition == "TABLE_OR_VIEW_NOT_FOUND"
        status = Status(code=NOT_FOUND if missing else INVALID_ARGUMENT, message=str(error))
        return answer(status, as_json, 404 if missing else 400)
    return answer(otlp.RESPONSES[signal](), as_json, 200)

"""Records of a stream as JSON objects: checked JSON as it came, protobuf by the client's descriptor."""

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode

from local_workspace.zerobus import messages
from local_workspace.zerobus.upstream import Rejected

Decode = Callable[[Any], list[bytes]]
"""What a request carries, as JSON objects. Raises ValueError."""


def invalid(message: str) -> Rejected:
    """The error for what the client must not send again."""
    return Rejected(StatusCode.INVALID_ARGUMENT, message)


def decoders(create: Any, columns: dict[str, Any]) -> dict[str, Decode]:
    """How to read the requests of a stream, by the field that carries the records. Raises Rejected."""
    kind = create.record_type if create.HasField("record_type") else messages.PROTO
    if kind == messages.JSON:
        return _by_field("json_record", "json_batch", json_record)
    if kind == messages.AVRO:
        raise Rejected(StatusCode.UNIMPLEMENTED, "The local workspace does not have the record type AVRO.")
    if kind != messages.PROTO:
        raise invalid("record_type must be PROTO or JSON.")
    try:
        record = messages.record_class(create.descriptor_proto)
    except ValueError as error:
        raise invalid(str(error)) from error
    for field in record.DESCRIPTOR.fields:
        if field.name not in columns:
            raise invalid(f"The field `{field.name}` of the descriptor is not a column of {create.table_name}.")
    return _by_field("proto_encoded_record", "proto_encoded_batch", partial(proto_record, record))


def _by_field(single: str, batch: str, decode: Callable[[Any], bytes]) -> dict[str, Decode]:
    return {single: lambda record: [decode(record)], batch: lambda many: [decode(record) for record in many.records]}


def json_record(text: str) -> bytes:
    """A JSON object, unchanged. Raises ValueError."""
    if not isinstance(orjson.loads(text), dict):
        raise ValueError("a JSON object is expected")
    return text.encode()


def proto_record(record: type[Message], content: bytes) -> bytes:
    """A serialized message as a JSON object by the names of its fields. Raises ValueError."""
    try:
        return orjson.dumps(_plain(record.FromString(content)), option=orjson.OPT_NON_STR_KEYS)
    except DecodeError as error:
        raise ValueError("it does not fit the stream's descriptor") from error


def _plain(value: Any) -> Any:
    """A protobuf value in JSON's terms, bytes in base64; fields that are not set are left out."""
    if isinstance(value, Message):
        return {inner.name: _field(inner, inner_value) for inner, inner_value in value.ListFields()}
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if field.is_repeated else _plain(value)

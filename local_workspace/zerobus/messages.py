"""The messages of `databricks.zerobus.Zerobus`, and the types of records that clients describe, made at run time."""

from google.protobuf import descriptor_pb2, duration_pb2, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

PACKAGE = "databricks.zerobus"
DURATION = ".google.protobuf.Duration"
PROTO, JSON, AVRO = 1, 2, 4

# message: fields as (number, name, type) in proto2's terms; a `*` repeats; a name with a slash is `oneof/field`.
SERVICE: dict[str, list[tuple[int, str, str]]] = {
    "JsonRecordBatch": [(1, "records", "string*")],
    "ProtoEncodedRecordBatch": [(1, "records", "bytes*")],
    "AvroRecordBatch": [(1, "records", "bytes*")],
    "CreateIngestStreamRequest": [
        (1, "table_name", "string"),
        (3, "descriptor_proto", "bytes"),
        (4, "record_type", "RecordType"),
        (5, "avro_schema_json", "string"),
    ],
    "CreateIngestStreamResponse": [(1, "stream_id", "string")],
    "IngestRecordRequest": [
        (1, "offset_id", "int64"),
        (2, "record/proto_encoded_record", "bytes"),
        (3, "record/json_record", "string"),
        (4, "record/avro_encoded_record", "bytes"),
    ],
    "IngestRecordBatchRequest": [
        (1, "offset_id", "int64"),
        (2, "batch/proto_encoded_batch", "ProtoEncodedRecordBatch"),
        (3, "batch/json_batch", "JsonRecordBatch"),
        (4, "batch/avro_batch", "AvroRecordBatch"),
    ],
    "EphemeralStreamRequest": [
        (1, "payload/create_stream", "CreateIngestStreamRequest"),
        (2, "payload/ingest_record", "IngestRecordRequest"),
        (3, "payload/ingest_record_batch", "IngestRecordBatchRequest"),
    ],
    "IngestRecordResponse": [(1, "durability_ack_up_to_offset", "int64")],
    "CloseStreamSignal": [(1, "duration", DURATION)],
    "EphemeralStreamResponse": [
        (1, "payload/create_stream_response", "CreateIngestStreamResponse"),
        (2, "payload/ingest_record_response", "IngestRecordResponse"),
        (3, "payload/close_stream_signal", "CloseStreamSignal"),
    ],
}
SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int64": FieldDescriptorProto.TYPE_INT64,
}


def _service_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="zerobus_service.proto", package=PACKAGE, syntax="proto2")
    file.dependency.append(duration_pb2.DESCRIPTOR.name)
    names = file.enum_type.add(name="RecordType")
    for name, number in {"RECORD_TYPE_UNSPECIFIED": 0, "PROTO": PROTO, "JSON": JSON, "AVRO": AVRO}.items():
        names.value.add(name=name, number=number)
    for message_name, fields in SERVICE.items():
        message = file.message_type.add(name=message_name)
        for number, path, kind in fields:
            oneof, _, name = path.rpartition("/")
            field = message.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            if scalar := SCALARS.get(kind.rstrip("*")):
                field.type = scalar
            else:
                field.type = field.TYPE_ENUM if kind == "RecordType" else field.TYPE_MESSAGE
                field.type_name = kind if kind.startswith(".") else f".{PACKAGE}.{kind}"
            if oneof:
                if not message.oneof_decl:
                    message.oneof_decl.add(name=oneof)
                field.oneof_index = 0
    return file


def _pool(file: descriptor_pb2.FileDescriptorProto) -> DescriptorPool:
    pool = DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(duration_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(file)
    return pool


_CLASSES = message_factory.GetMessageClassesForFiles(["zerobus_service.proto"], _pool(_service_file()))
StreamRequest: type[Message] = _CLASSES[f"{PACKAGE}.EphemeralStreamRequest"]
StreamResponse: type[Message] = _CLASSES[f"{PACKAGE}.EphemeralStreamResponse"]


def record_class(serialized: bytes) -> type[Message]:
    """The class of the records that a client's `DescriptorProto` describes. Raises ValueError."""
    try:
        described = descriptor_pb2.DescriptorProto.FromString(serialized)
        file = descriptor_pb2.FileDescriptorProto(name="record.proto", syntax="proto2", package=_package(described))
        file.message_type.append(described)
        full_name = f"{file.package}.{described.name}".lstrip(".")
        return message_factory.GetMessageClass(_pool(file).FindMessageTypeByName(full_name))
    except (DecodeError, TypeError, KeyError) as error:
        raise ValueError(f"descriptor_proto is not a message descriptor that stands alone: {error}") from error


def _package(described: descriptor_pb2.DescriptorProto) -> str:
    """The package the client compiled the message in: the names of its nested types begin with it."""
    for message in (described, *described.nested_type):
        for field in message.field:
            package, nested, _ = field.type_name.partition(f".{described.name}.")
            if nested:
                return package.lstrip(".")
    return ""

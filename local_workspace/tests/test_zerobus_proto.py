"""Protobuf records by the client's descriptor, and what a client that breaks the protocol gets to hear."""

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from zerobus.sdk.shared import NonRetriableException

from local_workspace.tests.conftest import Running
from local_workspace.tests.test_sql import rows
from local_workspace.tests.test_zerobus_grpc import make_table, open_stream
from local_workspace.zerobus import messages

COLUMNS = """id BIGINT, small INT, price DOUBLE, ok BOOLEAN, name STRING, raw BINARY, day DATE, at TIMESTAMP, v VARIANT,
    tags ARRAY<STRING>, counts MAP<INT, BIGINT>, place STRUCT<city: STRING, codes: ARRAY<INT>>"""
SCALARS = {
    "id": Field.TYPE_INT64,
    "small": Field.TYPE_INT32,
    "price": Field.TYPE_DOUBLE,
    "ok": Field.TYPE_BOOL,
    "name": Field.TYPE_STRING,
    "raw": Field.TYPE_BYTES,
    "day": Field.TYPE_INT32,
    "at": Field.TYPE_INT64,
    "v": Field.TYPE_STRING,
}


def order_class(package: str = "shop.v1"):
    """The class that protoc would make of a message with a nested message and a map."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package=package, syntax="proto2")
    order = file.message_type.add(name="Order")

    def add(message, name: str, kind: int, *, repeated: bool = False, type_name: str | None = None) -> None:
        label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
        message.field.add(name=name, number=len(message.field) + 1, type=kind, label=label, type_name=type_name)

    for name, kind in SCALARS.items():
        add(order, name, kind)
    add(order, "tags", Field.TYPE_STRING, repeated=True)
    prefix = f".{package}.Order" if package else ".Order"
    add(order, "counts", Field.TYPE_MESSAGE, repeated=True, type_name=f"{prefix}.CountsEntry")
    add(order, "place", Field.TYPE_MESSAGE, type_name=f"{prefix}.Place")
    entry = order.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    add(entry, "key", Field.TYPE_INT32)
    add(entry, "value", Field.TYPE_INT64)
    place = order.nested_type.add(name="Place")
    add(place, "city", Field.TYPE_STRING)
    add(place, "codes", Field.TYPE_INT32, repeated=True)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(prefix[1:]))


@pytest.mark.parametrize("package", ["shop.v1", ""])
def test_protobuf_records_arrive_with_all_they_carry(workspace, package):
    table, order = make_table(workspace, COLUMNS), order_class(package)
    stream = open_stream(workspace, table, descriptor_proto=order.DESCRIPTOR)
    full = order(id=2**60, small=-1, price=0.5, ok=False, name="☃", raw=b"\x00\xff", day=19_000, v="[1]")
    full.at = 1_700_000_000_000_000
    full.tags.extend(["a", ""])
    full.counts[7] = 2**40
    full.place.city = "Ulm"
    full.place.codes.extend([1, 2])
    stream.ingest_record_offset(full.SerializeToString())
    stream.ingest_records_offset([order(id=1).SerializeToString(), order().SerializeToString()])
    stream.flush()
    stream.close()
    assert rows(workspace, f"SELECT * FROM {table} ORDER BY id") == [
        [None] * 12,
        ["1", *[None] * 11],
        [
            *[str(2**60), "-1", "0.5", "false", "☃", "AP8=", "2022-01-08", "2023-11-14T22:13:20.000Z", "[1]"],
            *['["a",""]', '{"7":1099511627776}', '{"city":"Ulm","codes":[1,2]}'],
        ],
    ]


def test_a_descriptor_that_does_not_fit_the_table(workspace):
    table = make_table(workspace, "id BIGINT")
    with pytest.raises(NonRetriableException, match=f"field `small` of the descriptor is not a column of {table}"):
        open_stream(workspace, table, descriptor_proto=order_class().DESCRIPTOR)


@pytest.fixture(scope="module")
def table(workspace: Running) -> str:
    return make_table(workspace, COLUMNS)


class Wire:
    """A client that says what it likes."""

    def __init__(self, workspace: Running, table: str):
        self.table = table
        self._channel = grpc.insecure_channel(workspace.address["zerobus"].removeprefix("http://"))
        self._call = self._channel.stream_stream(
            f"/{messages.PACKAGE}.Zerobus/EphemeralStream",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=messages.StreamResponse.FromString,
        )
        self.metadata = [("authorization", f"Bearer {workspace.token}")]

    def create(self, **options):
        request = messages.StreamRequest()
        create = request.create_stream
        create.table_name, create.record_type = self.table, messages.JSON
        for name, value in options.items():
            setattr(create, name, value)
        return request

    def send(self, *requests) -> list:
        """The answers to a finished stream. Raises grpc.RpcError."""
        return list(self._call(iter(requests), metadata=self.metadata, timeout=20))

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def wire(workspace: Running, table: str):
    client = Wire(workspace, table)
    yield client
    client.close()


def record(offset: int | None = 0, **content):
    request = messages.StreamRequest()
    ingest = request.ingest_record
    if offset is not None:
        ingest.offset_id = offset
    for name, value in content.items():
        setattr(ingest, name, value)
    return request


def batch(offset: int, *records: str):
    request = messages.StreamRequest()
    request.ingest_record_batch.offset_id = offset
    request.ingest_record_batch.json_batch.records.extend(records)
    return request


def test_acknowledgements_are_cumulative_and_an_empty_batch_has_one(workspace, wire):
    created, *acknowledged = wire.send(
        wire.create(), record(json_record='{"id": 1}'), record(3, json_record='{"id": 2}'), batch(9), batch(10, "{}")
    )
    assert created.create_stream_response.stream_id
    offsets = [answer.ingest_record_response.durability_ack_up_to_offset for answer in acknowledged]
    assert offsets == sorted(offsets)
    assert offsets[-1] == 10
    assert rows(workspace, f"SELECT count(*) FROM {wire.table}") == [["3"]]


def test_what_breaks_the_protocol_is_named(wire):
    def refused(*requests) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            wire.send(*requests)
        return caught.value.code(), caught.value.details()

    wrong = grpc.StatusCode.INVALID_ARGUMENT
    one = record(json_record="{}")
    assert refused() == (wrong, "The first message must be create_stream.")
    assert refused(one) == (wrong, "The first message must be create_stream.")
    assert refused(messages.StreamRequest()) == (wrong, "The first message must be create_stream.")
    assert refused(wire.create(), wire.create()) == (
        wrong,
        "After create_stream come only ingest_record and ingest_record_batch.",
    )
    assert refused(wire.create(), record(None, json_record="{}")) == (wrong, "offset_id is missing.")
    assert refused(wire.create(), one, one) == (wrong, "offset_id 0 does not follow 0.")
    assert refused(wire.create(), record(-1, json_record="{}")) == (wrong, "offset_id -1 does not follow -1.")
    for other in (record(), record(proto_encoded_record=b"")):
        assert refused(wire.create(), other)[1].startswith("offset_id 0: this stream takes json_record or json_batch")
    assert refused(wire.create(record_type=0)) == (wrong, "record_type must be PROTO or JSON.")
    assert refused(wire.create(record_type=1, descriptor_proto=b"\xff"))[0] is wrong
    assert refused(wire.create(record_type=1))[0] is wrong
    assert refused(wire.create(table_name=""))[0] is wrong
    assert refused(wire.create(table_name="main.default.%2e%2e"))[0] is grpc.StatusCode.NOT_FOUND
    descriptor = order_class().DESCRIPTOR
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    typed = wire.create(record_type=1, descriptor_proto=proto.SerializeToString())
    assert "does not fit the stream's descriptor" in refused(typed, record(proto_encoded_record=b"\xff"))[1]
    no_message = (wrong, "The message is not an EphemeralStreamRequest.")
    assert refused(b"\xff\xff\xff") == refused(wire.create(), b"\xff\xff\xff") == no_message
    wire.metadata.append(("x-databricks-zerobus-table-name", "main.default.other"))
    assert refused(wire.create())[1].endswith("name different tables.")
    wire.metadata.clear()
    assert refused(wire.create())[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_message_of_more_than_64_mib_is_refused(wire):
    with pytest.raises(grpc.RpcError) as caught:
        wire.send(wire.create(), record(json_record='{"name": "' + "x" * (64 * 2**20) + '"}'))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_table_that_is_dropped_ends_its_streams(workspace):
    table = make_table(workspace)
    stream = open_stream(workspace, table)
    stream.wait_for_offset(stream.ingest_record_offset("{}"))
    rows(workspace, f"DROP TABLE {table}")
    with pytest.raises(NonRetriableException, match="requested entity was not found"):
        stream.wait_for_offset(stream.ingest_record_offset("{}"))


def test_records_of_a_client_that_goes_away_are_kept_when_acknowledged(workspace):
    table = make_table(workspace)
    wire = Wire(workspace, table)
    call = wire._call(iter([wire.create(), record(json_record='{"id": 5}')]), metadata=wire.metadata, timeout=20)
    assert next(call).create_stream_response.stream_id
    assert next(call).ingest_record_response.durability_ack_up_to_offset == 0
    call.cancel()
    wire.close()
    assert rows(workspace, f"SELECT id FROM {table}") == [["5"]]

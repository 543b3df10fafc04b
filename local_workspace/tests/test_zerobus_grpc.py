"""The genuine Zerobus SDK: records into Delta over gRPC, acknowledged when they are there."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from zerobus.sdk.shared import HeadersProvider, NonRetriableException, StreamConfigurationOptions, TableProperties
from zerobus.sdk.sync import ZerobusSdk, ZerobusStream

from local_workspace.auth import Auth
from local_workspace.state import State
from local_workspace.tests.conftest import Running, start_workspace
from local_workspace.tests.test_sql import rows
from local_workspace.zerobus.door import HTTP2_PREFACE

NUMBERS = count()
ALL_TYPES = """id BIGINT NOT NULL, small INT, price DOUBLE, ok BOOLEAN, name STRING, raw BINARY, day DATE, at TIMESTAMP,
    amount DECIMAL(10, 2), v VARIANT, tags ARRAY<STRING>, counts MAP<STRING, INT>,
    place STRUCT<city: STRING, zip: INT>"""


class PersonalToken(HeadersProvider):
    """The two headers that any provider of headers must give."""

    def __new__(cls, *_arguments: str) -> "PersonalToken":
        return super().__new__(cls)

    def __init__(self, token: str, table: str):
        self._headers = [("authorization", f"Bearer {token}"), ("x-databricks-zerobus-table-name", table)]

    def get_headers(self) -> list[tuple[str, str]]:
        return self._headers


def make_table(workspace: Running, columns: str = "id BIGINT, name STRING") -> str:
    name = f"main.default.ingested_{next(NUMBERS)}"
    rows(workspace, f"CREATE OR REPLACE TABLE {name} ({columns})")
    return name


@pytest.fixture
def table(workspace: Running) -> str:
    return make_table(workspace)


def open_stream(workspace: Running, table: str, token: str | None = None, **properties) -> ZerobusStream:
    """A stream that recovers at once from a lost connection."""
    options = StreamConfigurationOptions(recovery=token is None, recovery_backoff_ms=100, recovery_retries=1000)
    return ZerobusSdk(workspace.address["zerobus"], workspace.host).create_stream(
        table_properties=TableProperties(table, **properties),
        headers_provider=PersonalToken(token or workspace.token, table),
        options=options,
    )


def service_principal(workspace: Running) -> tuple[str, str]:
    """A client id and its secret."""
    state = State(workspace.root / "state.db")
    try:
        return Auth(state, workspace.token).create_service_principal("ingest")
    finally:
        state.close()


def engine(workspace: Running, module: str = "local_workspace.zerobus.engine") -> psutil.Process:
    """A running engine of the workspace."""
    return workspace.engine(module)


def test_a_service_principal_ingests_records(workspace, table):
    client_id, secret = service_principal(workspace)
    sdk = ZerobusSdk(workspace.address["zerobus"], workspace.host)
    stream = sdk.create_stream(client_id, secret, TableProperties(table))
    stream.wait_for_offset(stream.ingest_record_offset({"id": 1, "name": "O'Hara ☃"}))
    assert rows(workspace, f"SELECT * FROM {table}") == [["1", "O'Hara ☃"]]
    stream.wait_for_offset(stream.ingest_records_offset(['{"id": 2}', '{"name": "three"}']))
    stream.close()
    assert rows(workspace, f"SELECT * FROM {table} ORDER BY id") == [
        [None, "three"],
        ["1", "O'Hara ☃"],
        ["2", None],
    ]
    with pytest.raises(NonRetriableException, match="401"):
        sdk.create_stream(client_id, "wrong", TableProperties(table))


def test_the_sdk_makes_a_proto_file_of_a_table(workspace, tmp_path):
    table, written = make_table(workspace, ALL_TYPES.replace("amount DECIMAL(10, 2), ", "")), tmp_path / "record.proto"
    client_id, secret = service_principal(workspace)
    arguments = ["--uc-endpoint", workspace.host, "--client-id", client_id, "--client-secret", secret]
    command = [sys.executable, "-m", "zerobus.tools.generate_proto", *arguments, "--table", table]
    subprocess.run([*command, "--output", str(written)], check=True, capture_output=True)
    fields = {line.strip().split(" = ")[0] for line in written.read_text().splitlines() if " = " in line}
    assert {"required int64 id", "optional bytes raw", "optional int32 day", "repeated string tags"} <= fields


def test_json_of_every_type(workspace):
    table = make_table(workspace, ALL_TYPES)
    stream = open_stream(workspace, table)
    full = {
        "id": 1,
        "small": -5,
        "price": 2,
        "ok": True,
        "name": "",
        "raw": "AAH/",
        "day": 19_000,
        "at": 1_700_000_000_123_456,
        "amount": "12.30",
        "v": '{"deep": [1, null]}',
        "tags": ["a", None],
        "counts": {"x": 1},
        "place": {"city": "Ulm", "zip": None},
    }
    as_text = {"id": 2, "day": "2022-01-08", "at": "2023-11-14T22:13:20.123456Z", "amount": 0.1, "v": {"deep": 1}}
    stream.ingest_records_offset([json.dumps(full), json.dumps(as_text)])
    stream.flush()
    stream.close()
    first, second = rows(workspace, f"SELECT * FROM {table} ORDER BY id")
    day, at = "2022-01-08", "2023-11-14T22:13:20.123Z"
    assert first[:9] == ["1", "-5", "2.0", "true", "", "AAH/", day, at, "12.30"]
    assert [json.loads(cell) for cell in first[9:]] == [
        {"deep": [1, None]},
        ["a", None],
        {"x": 1},
        {"city": "Ulm", "zip": None},
    ]
    assert second == ["2", *[None] * 5, day, at, "0.10", '{"deep":1}', None, None, None]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"id": "one"}', "The column `id` of .* an integer is expected"),
        ('{"id": 1.5}', "`id`"),
        ('{"id": true}', "`id`"),
        ('{"id": 9223372036854775808}', "`id`"),
        ('{"id": 1, "small": 3000000000}', "`small`"),
        ("{}", "The column `id` of .* is NOT NULL"),
        ('{"id": 1, "nope": 1}', "has no column `nope`"),
        ('{"id": 1, "name": 5}', "`name`.* text is expected"),
        ('{"id": 1, "raw": "not base64!"}', "`raw`"),
        ('{"id": 1, "day": "soon"}', "`day`"),
        ('{"id": 1, "at": [1]}', "`at`"),
        ('{"id": 1, "amount": "12.345"}', "`amount`"),
        ('{"id": 1, "amount": "many"}', "`amount`"),
        ('{"id": 1, "v": "{"}', "`v`"),
        ('{"id": 1, "tags": "a"}', "`tags`"),
        ('{"id": 1, "counts": {"x": "y"}}', "`counts`"),
        ('{"id": 1, "place": {"street": "x"}}', "`place`.* no field `street`"),
        ("[]", "a JSON object is expected"),
        ("{", "the record cannot be read"),
        ("[" * 5000, "the record cannot be read"),
        ('{"id": 1}, {"id": 2}', "the record cannot be read"),
    ],
)
def test_a_record_that_does_not_fit_ends_the_stream(workspace, mismatched, record, message):
    stream = open_stream(workspace, mismatched)
    before = stream.ingest_record_offset('{"id": 0}')
    bad = stream.ingest_record_offset(record)
    with pytest.raises(NonRetriableException, match=rf"offset_id 1: .*{message}"):
        stream.wait_for_offset(bad)
    stream.wait_for_offset(before)
    assert list(stream.get_unacked_records()) == [record.encode()]


@pytest.fixture(scope="module")
def mismatched(workspace: Running) -> Iterator[str]:
    table = make_table(workspace, ALL_TYPES)
    yield table
    assert rows(workspace, f"SELECT DISTINCT id FROM {table}") == [["0"]]


def test_streams_that_are_refused(workspace, table):
    with pytest.raises(NonRetriableException, match=r"Table .* does not exist"):
        open_stream(workspace, "main.default.nope")
    with pytest.raises(NonRetriableException, match="not a valid table name"):
        open_stream(workspace, "nope")
    with pytest.raises(NonRetriableException, match=r"authentication credentials.*Invalid access token"):
        open_stream(workspace, table, token="wrong")
    avro = {"type": "record", "name": "r", "fields": [{"name": "id", "type": "long"}]}
    with pytest.raises(NonRetriableException, match="does not have the record type AVRO"):
        open_stream(workspace, table, avro_schema=json.dumps(avro))


def test_arrow_flight_is_refused_by_name(workspace, table):
    sdk = ZerobusSdk(workspace.address["zerobus"], workspace.host)
    headers = PersonalToken(workspace.token, table)
    with pytest.raises(NonRetriableException, match=r"does not have /arrow\.flight\.protocol\.FlightService/DoPut"):
        sdk.create_arrow_stream_with_headers_provider(table, pa.schema([("id", pa.int64())]), headers)


def test_many_records_go_into_few_commits(workspace, table):
    def ingest(part: int) -> None:
        stream = open_stream(workspace, table)
        for number in range(500):
            stream.ingest_record_offset(json.dumps({"id": part * 500 + number}))
        stream.flush()
        stream.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ingest, range(4)))
    assert rows(workspace, f"SELECT count(*), count(DISTINCT id) FROM {table}") == [["2000", "2000"]]
    assert len(rows(workspace, f"DESCRIBE HISTORY {table}")) < 200


def ingest_through(workspace: Running, table: str, disturb) -> list[str]:
    """Ingest 600 records, disturb the workspace after 200 acknowledged ones, and give total and distinct rows."""
    stream = open_stream(workspace, table)
    for number in range(200):
        offset = stream.ingest_record_offset(json.dumps({"id": number}))
    stream.wait_for_offset(offset)
    for number in range(200, 400):
        stream.ingest_record_offset(json.dumps({"id": number}))
    disturb()
    for number in range(400, 600):
        stream.ingest_record_offset(json.dumps({"id": number}))
    stream.flush()
    stream.close()
    return rows(workspace, f"SELECT count(*), count(DISTINCT id) FROM {table}")[0]


@pytest.mark.parametrize("module", ["local_workspace.zerobus.engine", "local_workspace.sql.lake"])
def test_a_killed_engine_loses_no_record(workspace, table, module):
    total, distinct = ingest_through(workspace, table, lambda: engine(workspace, module).kill())
    assert distinct == "600"
    assert int(total) >= 600


def test_an_engine_that_stops_lets_its_streams_move_on(workspace, table):
    assert ingest_through(workspace, table, lambda: engine(workspace).terminate()) == ["600", "600"]


def test_a_stream_outlives_a_killed_workspace_and_one_that_stops_takes_no_record_along(tmp_path):
    records = [json.dumps({"id": number}) for number in range(1000)]
    with start_workspace(tmp_path) as first, ThreadPoolExecutor(1) as pool:
        table = make_table(first)
        location = first.client.tables.get(table).storage_location
        stream = open_stream(first, table)
        stream.wait_for_offset(stream.ingest_record_offset('{"id": -2}'))
        first.process.kill()
        acknowledged = pool.submit(lambda: stream.wait_for_offset(stream.ingest_record_offset('{"id": -1}')))
        first.process.wait()
        with start_workspace(tmp_path) as second:
            assert second.address["zerobus"] == first.address["zerobus"]
            acknowledged.result(120)
            offset = stream.ingest_records_offset(records)
            second.process.terminate()
            stream.wait_for_offset(offset)
    ids = DeltaTable(location).to_pyarrow_table()["id"].to_pylist()
    assert sorted(ids) == list(range(-2, 1000))


def talk(workspace: Running, *pieces: bytes) -> bytes:
    """What the Zerobus address answers to bytes sent one after the other."""
    with socket.create_connection(("127.0.0.1", httpx.URL(workspace.address["zerobus"]).port), 10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(4096)


def test_one_address_speaks_http_and_grpc(workspace):
    answer = httpx.get(f"{workspace.address['zerobus']}/health")
    assert answer.json() == {"status": "ok"}
    assert talk(workspace, b"P", b"OST /v1/traces HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 4")
    assert talk(workspace, b"\x16\x03\x01 this is no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    answered = talk(workspace, HTTP2_PREFACE[:3], HTTP2_PREFACE[3:20], HTTP2_PREFACE[20:] + settings)
    assert answered[3] == 4  # a SETTINGS frame

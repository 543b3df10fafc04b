"""Records as Zerobus clients send them, as rows of a Delta table; strict where other writers are lenient.

DATE is a number of days since 1970 or ISO text, TIMESTAMP a number of microseconds or ISO text, BINARY is base64,
DECIMAL is text or a number, VARIANT is JSON text, MAP and STRUCT are objects; nothing is cut or cast to fit.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
import pyarrow as pa

from local_workspace.sql.lake.appends import json_rows
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.variants import variant

Read = Callable[[Any], Any]
"""A JSON value in the form Arrow takes for the column. Raises ValueError."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def append_records(lake: Lake, table: str, content: bytes) -> int:
    """Append a JSON array of records; give the version. Raises SqlError naming the column."""
    records = json_rows(content)
    location = lake.location(table)
    fields, schema = lake.tables.fields(location), lake.tables.arrow_schema(location)
    names = {field["name"] for field in fields}
    for record in records:
        if unknown := record.keys() - names:
            raise SqlError("UNRESOLVED_COLUMN", f"{table} has no column `{min(unknown)}`.", "42703")
    columns = [_column(table, field, schema.field(field["name"]).type, records) for field in fields]
    return lake.tables.append(location, pa.Table.from_arrays(columns, schema=schema))


def _column(table: str, field: dict[str, Any], arrow_type: pa.DataType, records: list[dict[str, Any]]) -> pa.Array:
    name, read = field["name"], _reader(field["type"])
    values = [record.get(name) for record in records]
    if not field["nullable"] and None in values:
        message = f"The column `{name}` of {table} is NOT NULL and a record has no value for it."
        raise SqlError("DELTA_NOT_NULL_CONSTRAINT_VIOLATED", message, "23502")
    try:
        return pa.array([None if value is None else read(value) for value in values], arrow_type)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        message = f"The column `{name}` of {table} does not take the value: {error}"
        raise SqlError("DATATYPE_MISMATCH", message, "42K09") from error


def _reader(data_type: Any) -> Read:
    """The reader for a Delta type."""
    if isinstance(data_type, str):
        return _decimal if data_type.startswith("decimal") else SCALARS[data_type]
    if data_type["type"] == "array":
        return _array(_reader(data_type["elementType"]))
    if data_type["type"] == "map":
        return _map(data_type["keyType"], _reader(data_type["valueType"]))
    return _struct({field["name"]: _reader(field["type"]) for field in data_type["fields"]})


def _wrong(expected: str, value: Any) -> ValueError:
    return ValueError(f"{expected} is expected, not {orjson.dumps(value).decode():.60}")


def _exactly(kind: type, expected: str) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise _wrong(expected, value)
        return value

    return read


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise _wrong("a number", value)
    return float(value)


def _decimal(value: Any) -> Decimal:
    if type(value) not in (str, int, float):
        raise _wrong("a decimal number", value)
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise _wrong("a decimal number", value) from None


def _binary(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError):
        raise _wrong("base64", value) from None


def _date(value: Any) -> int:
    if type(value) is int:
        return value
    try:
        return (date.fromisoformat(value) - EPOCH.date()).days
    except (ValueError, TypeError):
        raise _wrong("a date or a number of days", value) from None


def _moment(value: Any) -> int:
    if type(value) is int:
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise _wrong("a timestamp or a number of microseconds", value) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def _variant(value: Any) -> dict[str, bytes]:
    if type(value) is not str:
        return variant(orjson.dumps(value).decode())
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        raise _wrong("JSON text", value) from None
    return variant(value)


def _array(element: Read) -> Read:
    def read(value: Any) -> list:
        if type(value) is not list:
            raise _wrong("an array", value)
        return [None if inner is None else element(inner) for inner in value]

    return read


def _map(key_type: str, inner: Read) -> Read:
    # The keys of a JSON object are always text.
    key = int if key_type in ("byte", "short", "integer", "long") else _reader(key_type)

    def read(value: Any) -> list:
        if type(value) is not dict:
            raise _wrong("an object", value)
        return [(key(name), None if item is None else inner(item)) for name, item in value.items()]

    return read


def _struct(fields: dict[str, Read]) -> Read:
    def read(value: Any) -> dict:
        if type(value) is not dict:
            raise _wrong("an object", value)
        if unknown := value.keys() - fields.keys():
            raise ValueError(f"it has no field `{min(unknown)}`")
        return {name: None if item is None else fields[name](item) for name, item in value.items()}

    return read


_integer = _exactly(int, "an integer")
SCALARS: dict[str, Read] = {
    "byte": _integer,
    "short": _integer,
    "integer": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "boolean": _exactly(bool, "true or false"),
    "string": _exactly(str, "text"),
    "binary": _binary,
    "date": _date,
    "timestamp": _moment,
    "timestamp_ntz": _moment,
    "variant": _variant,
}

"""Result tables as the statement API's JSON_ARRAY chunks: every value a string or null."""

import base64
import datetime
import decimal
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import VariantVal

from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.types import is_variant, manifest_column

CHUNK_ROWS = 10_000
CHUNK_BYTES = 4 * 2**20
INLINE_BYTES = 25 * 2**20
VARIANT_PARTS = {"value", "metadata"}


def _variant(value: dict[str, bytes]) -> str:
    return VariantVal(value["value"], value["metadata"]).toJson()


def _double(value: float) -> str:
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if math.isnan(value):
        return "NaN"
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}" if e else mantissa


def _timestamp(value: datetime.datetime) -> str:
    zone = "Z" if value.tzinfo else ""
    return value.replace(tzinfo=None).isoformat(timespec="milliseconds") + zone


def _plain(value: Any) -> Any:
    """A nested value as JSON has it."""
    if isinstance(value, dict):
        if value.keys() == VARIANT_PARTS and all(isinstance(part, bytes) for part in value.values()):
            return orjson.Fragment(_variant(value))
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime.datetime):
        return _timestamp(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal):
        return float(value) if value.as_tuple().exponent else int(value)
    if isinstance(value, datetime.date):
        return str(value)
    return value


def _nested(value: Any) -> str:
    return orjson.dumps(_plain(value)).decode()


def _formatter(data_type: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_boolean(data_type):
        return lambda value: "true" if value else "false"
    if pa.types.is_float64(data_type):
        return _double
    if pa.types.is_timestamp(data_type):
        return _timestamp
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return lambda value: base64.b64encode(value).decode()
    if is_variant(data_type):
        return _variant
    if pa.types.is_nested(data_type):
        return _nested
    return str


def _strings(column: pa.ChunkedArray) -> list[str | None]:
    data_type = column.type
    if pa.types.is_map(data_type):
        values: list[Any] = [None if value is None else dict(value) for value in column.to_pylist()]
    elif pa.types.is_float32(data_type):
        texts = pc.cast(column, pa.string()).to_pylist()
        values = [None if text is None else float(text) for text in texts]
        data_type = pa.float64()
    elif pa.types.is_integer(data_type) or pa.types.is_decimal(data_type) or pa.types.is_date(data_type):
        return pc.cast(column, pa.string()).to_pylist()
    else:
        values = column.to_pylist()
        if pa.types.is_string(data_type):
            return values
    text = _formatter(data_type)
    return [None if value is None else text(value) for value in values]


def write_chunks(table: pa.Table, folder: Path, row_limit: int | None, byte_limit: int | None) -> dict[str, Any]:
    """Write the rows to `folder` as `0.json`, `1.json`, … and give the manifest. Raises SqlError if too long."""
    schema = {
        "column_count": table.num_columns,
        "columns": [manifest_column(field, position) for position, field in enumerate(table.schema)],
    }
    truncated = row_limit is not None and table.num_rows > row_limit
    table = table.slice(0, row_limit) if truncated else table
    columns = [_strings(column) for column in table.columns]
    rows = list(zip(*columns, strict=True))
    chunks: list[dict[str, int]] = []
    allowance = min(byte_limit or INLINE_BYTES, INLINE_BYTES)
    start = total = 0
    while start < len(rows) or not chunks:
        encoded = [orjson.dumps(row) for row in rows[start : start + CHUNK_ROWS]]
        size = taken = 0
        for row in encoded:
            if taken and size + len(row) > CHUNK_BYTES:
                break
            if total + size + len(row) > allowance:
                if not byte_limit or byte_limit > INLINE_BYTES:
                    raise SqlError(
                        "INLINE_BYTE_LIMIT_EXCEEDED",
                        f"Statements with disposition=INLINE can have a result of at most {INLINE_BYTES} bytes: "
                        "select less, or read the table with Spark.",
                        "54000",
                    )
                truncated = True
                break
            size, taken = size + len(row) + 1, taken + 1
        (folder / f"{len(chunks)}.json").write_bytes(b"[" + b",".join(encoded[:taken]) + b"]")
        chunks.append({"chunk_index": len(chunks), "row_offset": start, "row_count": taken, "byte_count": size})
        start, total = start + taken, total + size
        if truncated and taken < len(encoded):
            break
    return {
        "format": "JSON_ARRAY",
        "schema": schema,
        "total_chunk_count": len(chunks),
        "chunks": chunks,
        "total_row_count": start,
        "total_byte_count": total,
        "truncated": truncated,
    }

"""Values of results as the strings that the statement API shows them as."""

import base64
import datetime
import decimal
import math
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import VariantVal

from local_workspace.sql.lake.types import is_variant

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


def strings(column: pa.ChunkedArray) -> list[str | None]:
    """A column's values as strings, null as None."""
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

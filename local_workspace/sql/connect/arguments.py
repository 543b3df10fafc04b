"""The arguments of `spark.sql(text, args)` as parameters of a statement."""

import datetime
import decimal
from collections.abc import Callable
from typing import Any

from pyspark.sql.connect.proto import expressions_pb2

from local_workspace.sql.lake.errors import unsupported

EPOCH = datetime.datetime(1970, 1, 1)


def _moment(microseconds: int) -> str:
    return (EPOCH + datetime.timedelta(microseconds=microseconds)).isoformat(sep=" ")


def _decimal_type(number: str) -> str:
    """The smallest type that holds a number: clients send whatever precision and scale."""
    _sign, digits, exponent = decimal.Decimal(number).as_tuple()
    scale = max(0, -int(exponent))
    return f"DECIMAL({max(len(digits) + max(0, int(exponent)), scale)},{scale})"


PLAIN: dict[str, tuple[str, Callable[[Any], str | None]]] = {
    "null": ("VOID", lambda _none: None),
    "boolean": ("BOOLEAN", lambda value: str(value).lower()),
    "byte": ("TINYINT", str),
    "short": ("SMALLINT", str),
    "integer": ("INT", str),
    "long": ("BIGINT", str),
    "float": ("FLOAT", repr),
    "double": ("DOUBLE", repr),
    "string": ("STRING", str),
    "date": ("DATE", lambda days: str((EPOCH + datetime.timedelta(days=days)).date())),
    "timestamp": ("TIMESTAMP", lambda microseconds: f"{_moment(microseconds)}Z"),
    "timestamp_ntz": ("TIMESTAMP_NTZ", _moment),
}


def parameter(name: str, argument: expressions_pb2.Expression) -> dict[str, Any]:
    """An argument as a statement parameter. Raises SqlError for one that is not a plain value."""
    value = argument.literal
    kind = value.WhichOneof("literal_type")
    if kind == "decimal":
        return {"name": name, "value": value.decimal.value, "type": _decimal_type(value.decimal.value)}
    if kind not in PLAIN:
        raise unsupported(f"the argument {name}: only plain values can be put into a command")
    data_type, text = PLAIN[kind]
    return {"name": name, "value": text(getattr(value, kind)), "type": data_type}

"""Python rows as a table's columns: VARIANT columns get the binary encoding, STRING ones may take JSON text."""

from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
from pyspark.sql.variant_utils import VariantUtils

from local_workspace.sql.lake.errors import SqlError

Field = dict[str, Any]


@lru_cache(maxsize=4096)
def variant(text: str) -> dict[str, bytes]:
    """JSON text in the variant encoding, as delta-rs takes it."""
    value, metadata = VariantUtils.parse_json(text)
    return {"metadata": bytes(metadata), "value": bytes(value)}


def _fitted(value: Any, data_type: Any, path: str) -> Any:
    """A value in the form its column's Arrow type wants. Raises SqlError naming the field there is no place for."""
    if value is None:
        return None
    if data_type == "variant":
        return variant(orjson.dumps(value).decode())
    if isinstance(data_type, str):
        if data_type == "string" and isinstance(value, (dict, list, int, float)):
            return orjson.dumps(value).decode()
        return value
    if data_type["type"] == "struct" and isinstance(value, dict):
        types = {field["name"]: field["type"] for field in data_type["fields"]}
        _no_others(value, types, path)
        return {name: _fitted(inner, types[name], f"{path}.{name}") for name, inner in value.items()}
    if data_type["type"] == "array" and isinstance(value, list):
        return [_fitted(inner, data_type["elementType"], path) for inner in value]
    return value


def _no_others(row: dict[str, Any], types: dict[str, Any], path: str) -> None:
    for name in row:
        if name not in types:
            raise SqlError("UNRESOLVED_COLUMN", f"{path} has no column `{name}`.", "42703")


def arrow_rows(rows: list[dict[str, Any]], fields: list[Field], schema: pa.Schema, table: str) -> pa.Table:
    """Rows as an Arrow table with all of the table's columns. Raises SqlError naming the column that does not fit."""
    types = {field["name"]: field["type"] for field in fields}
    for row in rows:
        _no_others(row, types, table)
    columns = []
    for field in schema:
        values = [_fitted(row.get(field.name), types[field.name], f"{table}.{field.name}") for row in rows]
        try:
            columns.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            message = f"The column `{field.name}` of {table} does not take the value: {error}"
            raise SqlError("DATATYPE_MISMATCH", message, "42K09") from error
    return pa.Table.from_arrays(columns, schema=schema)

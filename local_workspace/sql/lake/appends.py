"""Appending rows to a registered Delta table, past SQL: what telemetry and inference tables are fed by."""

from typing import Any

import orjson
import pyarrow as pa

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.variants import arrow_rows


def append_table(lake: Lake, table: str, rows: pa.Table) -> int:
    """Append rows with all or some of the table's columns; give the version. Raises SqlError naming the column."""
    location = lake.location(table)
    schema = lake.tables.arrow_schema(location)
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        try:
            columns.append(rows[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SqlError("DATATYPE_MISMATCH", f"The column `{field.name}` of {table}: {error}", "42K09") from error
    if unknown := sorted(set(rows.column_names) - set(schema.names)):
        raise SqlError("UNRESOLVED_COLUMN", f"{table} has no column `{unknown[0]}`.", "42703")
    return lake.tables.append(location, pa.Table.from_arrays(columns, schema=schema))


def append_rows(lake: Lake, table: str, rows: list[dict[str, Any]]) -> int:
    """Append rows as dictionaries; give the version. Raises SqlError naming the column."""
    location = lake.location(table)
    fields, schema = lake.tables.fields(location), lake.tables.arrow_schema(location)
    return lake.tables.append(location, arrow_rows(rows, fields, schema, table))


def append_json(lake: Lake, table: str, content: bytes) -> int:
    """Append a JSON array of objects; give the version. Raises SqlError naming the column."""
    return append_rows(lake, table, json_rows(content))


def json_rows(content: bytes) -> list[dict[str, Any]]:
    """The objects of a JSON array. Raises SqlError."""
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise SqlError("MALFORMED_RECORD_IN_PARSING", f"the rows are not JSON: {error}", "22023") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SqlError("MALFORMED_RECORD_IN_PARSING", "the rows must be a JSON array of objects.", "22023")
    return rows

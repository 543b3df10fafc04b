"""Appending rows to a registered Delta table, past SQL: what telemetry and inference tables are fed by."""

import orjson
import pyarrow as pa
from deltalake import DeltaTable

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError


def arrow_schema(table: DeltaTable) -> pa.Schema:
    """A Delta table's columns in pyarrow's terms."""
    return pa.schema(table.schema().to_arrow())


def append_table(lake: Lake, table: str, rows: pa.Table) -> int:
    """Append rows with all or some of the table's columns; give the version. Raises SqlError naming the column."""
    location = lake.location(table)
    schema = arrow_schema(lake.tables.open(location))
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


def append_json(lake: Lake, table: str, content: bytes) -> int:
    """Append a JSON array of objects and give the version. Raises SqlError naming the column."""
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise SqlError("MALFORMED_RECORD_IN_PARSING", f"the rows are not JSON: {error}", "22023") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SqlError("MALFORMED_RECORD_IN_PARSING", "the rows must be a JSON array of objects.", "22023")
    names = sorted({name for row in rows for name in row})
    schema = arrow_schema(lake.tables.open(lake.location(table)))
    columns = {}
    for name in names:
        if name not in schema.names:
            raise SqlError("UNRESOLVED_COLUMN", f"{table} has no column `{name}`.", "42703")
        try:
            columns[name] = pa.array([row.get(name) for row in rows], schema.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise SqlError("DATATYPE_MISMATCH", f"The column `{name}` of {table}: {error}", "42K09") from error
    return append_table(lake, table, pa.table(columns))

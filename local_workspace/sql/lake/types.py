"""Types in three languages: Delta schema fields, Arrow, and the statement API's manifest."""

from typing import Any

import pyarrow as pa
from sqlglot import exp

from local_workspace.sql.lake.errors import unsupported

Kind = exp.DataType.Type
SIMPLE = {
    Kind.BIGINT: "long",
    Kind.INT: "integer",
    Kind.SMALLINT: "short",
    Kind.TINYINT: "byte",
    Kind.DOUBLE: "double",
    Kind.FLOAT: "float",
    Kind.BOOLEAN: "boolean",
    Kind.TEXT: "string",
    Kind.VARCHAR: "string",
    Kind.CHAR: "string",
    Kind.BINARY: "binary",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamp",
    Kind.TIMESTAMPTZ: "timestamp",
    Kind.TIMESTAMPLTZ: "timestamp",
    Kind.TIMESTAMPNTZ: "timestamp_ntz",
    Kind.VARIANT: "variant",
}


def delta_type(data_type: exp.DataType) -> Any:
    """A parsed SQL type as a Delta schema type. Raises SqlError for a type Delta does not have."""
    if simple := SIMPLE.get(data_type.this):
        return simple
    if data_type.this is Kind.DECIMAL:
        precision, scale = ([part.name for part in data_type.expressions] + ["10", "0"][len(data_type.expressions) :])[
            :2
        ]
        return f"decimal({precision},{scale})"
    if data_type.this is Kind.ARRAY:
        return {"type": "array", "elementType": delta_type(data_type.expressions[0]), "containsNull": True}
    if data_type.this is Kind.MAP:
        key, value = map(delta_type, data_type.expressions)
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    if data_type.this is Kind.STRUCT:
        return {"type": "struct", "fields": [struct_field(column) for column in data_type.expressions]}
    raise unsupported(f"the column type {data_type.sql('databricks')}")


def struct_field(column: exp.ColumnDef) -> dict[str, Any]:
    """A parsed field of a STRUCT as a Delta schema field."""
    return {"name": column.name, "type": delta_type(column.args["kind"]), "nullable": True, "metadata": {}}


def is_variant(data_type: pa.DataType) -> bool:
    """Whether an Arrow type is how Sail carries a VARIANT: two binaries, one of them marked."""
    if not pa.types.is_struct(data_type) or data_type.get_field_index("metadata") < 0:
        return False
    return (data_type.field("metadata").metadata or {}).get(b"variant") == b"true"


ARROW_NAMES = [
    (pa.types.is_int64, "LONG", "BIGINT"),
    (pa.types.is_int32, "INT", "INT"),
    (pa.types.is_int16, "SHORT", "SMALLINT"),
    (pa.types.is_int8, "BYTE", "TINYINT"),
    (pa.types.is_uint64, "DECIMAL", "DECIMAL(20,0)"),
    (pa.types.is_unsigned_integer, "LONG", "BIGINT"),
    (pa.types.is_float64, "DOUBLE", "DOUBLE"),
    (pa.types.is_floating, "FLOAT", "FLOAT"),
    (pa.types.is_boolean, "BOOLEAN", "BOOLEAN"),
    (pa.types.is_string, "STRING", "STRING"),
    (pa.types.is_large_string, "STRING", "STRING"),
    (pa.types.is_string_view, "STRING", "STRING"),
    (pa.types.is_binary, "BINARY", "BINARY"),
    (pa.types.is_large_binary, "BINARY", "BINARY"),
    (pa.types.is_binary_view, "BINARY", "BINARY"),
    (pa.types.is_date, "DATE", "DATE"),
    (pa.types.is_null, "NULL", "VOID"),
]


def spark_type(data_type: pa.DataType) -> tuple[str, str]:
    """An Arrow type as the manifest's `type_name` and `type_text`."""
    for matches, name, text in ARROW_NAMES:
        if matches(data_type):
            return name, text
    if pa.types.is_timestamp(data_type):
        name = "TIMESTAMP" if data_type.tz else "TIMESTAMP_NTZ"
        return name, name
    if pa.types.is_decimal(data_type):
        return "DECIMAL", f"DECIMAL({data_type.precision},{data_type.scale})"
    if is_variant(data_type):
        return "VARIANT", "VARIANT"
    if pa.types.is_struct(data_type):
        fields = [data_type.field(i) for i in range(data_type.num_fields)]
        return "STRUCT", f"STRUCT<{', '.join(f'{field.name}: {spark_type(field.type)[1]}' for field in fields)}>"
    if pa.types.is_map(data_type):
        return "MAP", f"MAP<{spark_type(data_type.key_type)[1]}, {spark_type(data_type.item_type)[1]}>"
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type):
        return "ARRAY", f"ARRAY<{spark_type(data_type.value_type)[1]}>"
    raise unsupported(f"results of the type {data_type}")


def manifest_column(field: pa.Field, position: int) -> dict[str, Any]:
    """A result column as the manifest shows it."""
    name, text = spark_type(field.type)
    column: dict[str, Any] = {"name": field.name, "position": position, "type_name": name, "type_text": text}
    if pa.types.is_decimal(field.type):
        column |= {"type_precision": field.type.precision, "type_scale": field.type.scale}
    return column

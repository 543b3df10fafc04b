"""A table's columns: kept as Delta schema fields, shown as Unity Catalog's `columns`, in two dialects.

A field is `{"name", "type", "nullable", "metadata"}` as in a Delta log's `schemaString`.
"""

import json
import re
from typing import Any

Field = dict[str, Any]

TYPE_NAMES = {"integer": "INT", "long": "LONG"}
TYPE_TEXTS = {"integer": "int", "long": "bigint", "short": "smallint", "byte": "tinyint"}
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")

# Sail's Unity Catalog client does not know VARIANT by name; this is the struct it makes of one.
SAIL_VARIANT = {
    "type": "struct",
    "fields": [
        {"name": "value", "type": "binary", "nullable": False, "metadata": {}},
        {"name": "metadata", "type": "binary", "nullable": False, "metadata": {"variant": "true"}},
    ],
}


def type_text(data_type: Any) -> str:
    """The SQL name of a Delta type, such as `array<struct<x:int>>`."""
    if isinstance(data_type, str):
        return TYPE_TEXTS.get(data_type, data_type)
    if data_type["type"] == "array":
        return f"array<{type_text(data_type['elementType'])}>"
    if data_type["type"] == "map":
        return f"map<{type_text(data_type['keyType'])},{type_text(data_type['valueType'])}>"
    return f"struct<{','.join(f['name'] + ':' + type_text(f['type']) for f in data_type['fields'])}>"


def _type_name(data_type: Any) -> str:
    kind = data_type["type"] if isinstance(data_type, dict) else data_type
    return "DECIMAL" if kind.startswith("decimal") else TYPE_NAMES.get(kind, kind.upper())


def has_collection(data_type: Any) -> bool:
    """Whether there is an ARRAY, MAP or VARIANT in a type."""
    if isinstance(data_type, dict) and data_type["type"] == "struct":
        return any(has_collection(field["type"]) for field in data_type["fields"])
    return isinstance(data_type, dict) or data_type == "variant"


def column_info(field: Field, position: int) -> dict[str, Any]:
    """A field as the SDK's `ColumnInfo`."""
    column = {
        "name": field["name"],
        "type_text": type_text(field["type"]),
        "type_json": json.dumps(field),
        "type_name": _type_name(field["type"]),
        "position": position,
        "nullable": field["nullable"],
    }
    if comment := field["metadata"].get("comment"):
        column["comment"] = comment
    if isinstance(field["type"], str) and (decimal := DECIMAL.fullmatch(field["type"])):
        column |= {"type_precision": int(decimal[1]), "type_scale": int(decimal[2])}
    return column


def sail_column(field: Field, position: int) -> dict[str, Any]:
    """A field as Sail reads it: VARIANT as a struct, decimals inside other types spelled out."""
    column = column_info(field, position)
    if field["type"] == "variant":
        column |= {"type_name": "STRUCT", "type_text": "struct"}
    if field["type"] == "variant" or isinstance(field["type"], dict):
        column["type_json"] = json.dumps(_sail_field(field))
    return column


def _sail_field(field: Field) -> Field:
    metadata = {"ARROW:extension:name": "arrow.parquet.variant"} if field["type"] == "variant" else {}
    return field | {"type": _sail_type(field["type"]), "metadata": metadata}


def _sail_type(data_type: Any) -> Any:
    if data_type == "variant":
        return SAIL_VARIANT
    if isinstance(data_type, str):
        decimal = DECIMAL.fullmatch(data_type)
        return {"type": "decimal", "precision": int(decimal[1]), "scale": int(decimal[2])} if decimal else data_type
    if data_type["type"] == "struct":
        return data_type | {"fields": [_sail_field(f) for f in data_type["fields"]]}
    parts = ("elementType", "keyType", "valueType")
    return {key: _sail_type(value) if key in parts else value for key, value in data_type.items()}


def field_from_sail(column: dict[str, Any]) -> Field:
    """The field of a column that Sail sent for a new table."""
    field = json.loads(column["type_json"])
    metadata = {"comment": column["comment"]} if column.get("comment") else {}
    return {
        "name": field["name"],
        "type": _delta_type(field["type"]),
        "nullable": field["nullable"],
        "metadata": metadata,
    }


def _delta_type(data_type: Any) -> Any:
    if isinstance(data_type, str):
        return data_type
    if data_type["type"] == "decimal":
        return f"decimal({data_type['precision']},{data_type['scale']})"
    if data_type["type"] == "struct":
        if data_type["fields"] == SAIL_VARIANT["fields"]:
            return "variant"
        return data_type | {
            "fields": [f | {"type": _delta_type(f["type"]), "metadata": {}} for f in data_type["fields"]]
        }
    parts = ("elementType", "keyType", "valueType")
    return {key: _delta_type(value) if key in parts else value for key, value in data_type.items()}

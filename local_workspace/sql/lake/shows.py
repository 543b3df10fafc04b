"""What a table or view is made of: DESCRIBE, SHOW COLUMNS, TBLPROPERTIES, PARTITIONS and CREATE TABLE, SET."""

import json
from typing import Any

import pyarrow as pa

from local_workspace.sql.lake.commands import strings
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, table_not_found, unsupported
from local_workspace.sql.lake.expansion import analyzed
from local_workspace.sql.lake.maintenance import CLUSTERING
from local_workspace.sql.lake.parameters import string_literal
from local_workspace.sql.lake.rewriting import quoted
from local_workspace.sql.lake.words import Words
from local_workspace.unity_catalog.columns import type_text

SETTINGS = {
    "timezone": "UTC",
    "spark.sql.session.timezone": "UTC",
    "ansi_mode": "true",
    "spark.sql.ansi.enabled": "true",
}
"""What can be asked by SET, and set to what it is."""


def _record(lake: Lake, full_name: str) -> dict[str, Any]:
    """A table's or view's record with its columns as they are now. Raises SqlError."""
    found = lake.catalog.find("table", full_name)
    if found is None:
        raise table_not_found(full_name)
    if found["table_type"] != "VIEW":
        found["fields"] = lake.tables.fields(found["storage_location"])
    return found


def describe_table(lake: Lake, words: Words) -> pa.Table:
    """DESCRIBE [TABLE] [EXTENDED] name [AS JSON], and DESCRIBE [QUERY] query."""
    words.one_of("DESCRIBE", "DESC")
    if words.take("QUERY") or words.peek() in ("SELECT", "WITH", "VALUES"):
        return _describe_query(lake, words)
    words.take("TABLE")
    extended = words.take("EXTENDED") or words.take("FORMATTED")
    full_name = words.name(3)
    as_json = words.take("AS", "JSON")
    words.end()
    record = _record(lake, full_name)
    if as_json:
        return _json(record)
    rows = [(f["name"], type_text(f["type"]), f["metadata"].get("comment")) for f in record["fields"]]
    view = record["table_type"] == "VIEW"
    if not view and (partitions := lake.tables.open(record["storage_location"]).metadata().partition_columns):
        types = {name: kind for name, kind, _ in rows}
        rows += [("# Partition Information", "", ""), ("# col_name", "data_type", "comment")]
        rows += [(name, types[name], None) for name in partitions]
    if extended:
        catalog, schema, name = record["full_name"].split(".")
        rows += [("", "", ""), ("# Detailed Table Information", "", "")]
        rows += [("Catalog", catalog, ""), ("Database", schema, ""), ("Table", name, "")]
        rows += [("Comment", record.get("comment", ""), ""), ("Owner", record["owner"], "")]
        rows += [("Type", record["table_type"], "")]
        if view:
            rows += [("View Text", record["view_definition"], "")]
        else:
            rows += [("Location", record["storage_location"], ""), ("Provider", "delta", "")]
        rows += [("Table Properties", json.dumps(record.get("properties", {})), "")]
    return strings("col_name", "data_type", "comment", rows=rows)


def _describe_query(lake: Lake, words: Words) -> pa.Table:
    query = words.sql[words.token().start :].rstrip().rstrip(";")
    fields = analyzed(lake, query, words.catalog, words.schema)
    rows = [(field["name"], type_text(field["type"]), field["metadata"].get("comment")) for field in fields]
    return strings("col_name", "data_type", "comment", rows=rows)


def _json(record: dict[str, Any]) -> pa.Table:
    catalog, schema, name = record["full_name"].split(".")
    shown = {
        "table_name": name,
        "catalog_name": catalog,
        "namespace": [schema],
        "schema_name": schema,
        "columns": [
            {"name": f["name"], "type": {"name": type_text(f["type"])}, "nullable": f["nullable"]}
            | ({"comment": f["metadata"]["comment"]} if f["metadata"].get("comment") else {})
            for f in record["fields"]
        ],
        "owner": record["owner"],
        "type": record["table_type"],
        "comment": record.get("comment"),
        "table_properties": record.get("properties", {}),
    }
    if record["table_type"] == "VIEW":
        shown["view_text"] = record["view_definition"]
    else:
        shown |= {"provider": "delta", "location": record["storage_location"]}
    return strings("json_metadata", rows=[(json.dumps(shown),)])


def show_columns(lake: Lake, words: Words) -> pa.Table:
    """SHOW COLUMNS IN name [IN schema]."""
    words.expect("SHOW", "COLUMNS")
    words.one_of("IN", "FROM")
    record = _record(lake, words.name(3))
    words.end()
    return strings("col_name", rows=[(field["name"],) for field in record["fields"]])


def show_properties(lake: Lake, words: Words) -> pa.Table:
    """SHOW TBLPROPERTIES name [('key')]."""
    words.expect("SHOW", "TBLPROPERTIES")
    record = lake.catalog.call("GET", "tables", words.name(3))
    wanted = None
    if words.take("("):
        wanted = words.token().text
        while words.take("."):
            wanted += "." + words.token().text
        words.expect(")")
    words.end()
    properties = record.get("properties", {})
    if record["table_type"] != "VIEW":
        properties = lake.tables.open(record["storage_location"]).metadata().configuration
    if wanted:
        missing = f"Table {record['full_name']} does not have property: {wanted}"
        return strings("key", "value", rows=[(wanted, properties.get(wanted, missing))])
    return strings("key", "value", rows=sorted(properties.items()))


def show_partitions(lake: Lake, words: Words) -> pa.Table:
    """SHOW PARTITIONS name."""
    words.expect("SHOW", "PARTITIONS")
    full_name = words.name(3)
    if words.peek() == "PARTITION":
        raise unsupported("PARTITION (…) in SHOW PARTITIONS")
    words.end()
    table = lake.tables.open(lake.location(full_name))
    columns = table.metadata().partition_columns
    if not columns:
        raise SqlError(
            "DELTA_SHOW_PARTITION_IN_NON_PARTITIONED_TABLE",
            f"SHOW PARTITIONS is not allowed on a table that is not partitioned: {full_name}",
            "42809",
        )
    found = {tuple(partition.get(column) for column in columns) for partition in table.partitions()}
    return strings(*columns, rows=sorted(found, key=str))


def show_create_table(lake: Lake, words: Words) -> pa.Table:
    """SHOW CREATE TABLE name: a statement that makes the table or view anew."""
    words.expect("SHOW", "CREATE", "TABLE")
    record = _record(lake, words.name(3))
    words.end()
    name = quoted(*record["full_name"].split("."))
    comment = f"COMMENT {string_literal(record['comment'])}" if record.get("comment") else None
    properties = record.get("properties", {})
    if record["table_type"] == "VIEW":
        columns = [_column(field, typed=False) for field in record["fields"]]
        lines = [f"CREATE VIEW {name} ({_lines(columns)})", comment, _properties(properties)]
        lines += [f"AS {record['view_definition']}"]
        return strings("createtab_stmt", rows=[("\n".join(filter(None, lines)),)])
    metadata = lake.tables.open(record["storage_location"]).metadata()
    properties = dict(metadata.configuration)
    clustering = json.loads(properties.pop(CLUSTERING, "[]"))
    checks = {key: value for key, value in properties.items() if key.startswith("delta.constraints.")}
    columns = [_column(field, typed=True) for field in record["fields"]]
    columns += [f"CONSTRAINT {quoted(key[18:])} CHECK ({value})" for key, value in checks.items()]
    partitions = ", ".join(quoted(column) for column in metadata.partition_columns)
    clusters = ", ".join(quoted(column) for column in clustering)
    lines = [
        f"CREATE TABLE {name} ({_lines(columns)})",
        "USING delta",
        f"PARTITIONED BY ({partitions})" if partitions else None,
        f"CLUSTER BY ({clusters})" if clusters else None,
        comment,
        _properties({key: value for key, value in properties.items() if key not in checks}),
    ]
    return strings("createtab_stmt", rows=[("\n".join(filter(None, lines)),)])


def _column(field: dict[str, Any], typed: bool) -> str:
    parts = [quoted(field["name"])]
    if typed:
        parts.append(type_text(field["type"]).upper())
        parts += [] if field["nullable"] else ["NOT NULL"]
        if default := field["metadata"].get("CURRENT_DEFAULT"):
            parts.append(f"DEFAULT {default}")
    if comment := field["metadata"].get("comment"):
        parts.append(f"COMMENT {string_literal(comment)}")
    return " ".join(parts)


def _lines(parts: list[str]) -> str:
    return "".join(f"\n  {part}{',' if position < len(parts) else ''}" for position, part in enumerate(parts, 1))


def _properties(properties: dict[str, str]) -> str | None:
    if not properties:
        return None
    pairs = [f"{string_literal(key)} = {string_literal(value)}" for key, value in sorted(properties.items())]
    return f"TBLPROPERTIES ({_lines(pairs)})"


def show_settings(_lake: Lake, words: Words) -> pa.Table:
    """SET, SET key, SET key = value: what there is, which cannot be changed."""
    words.expect("SET")
    if words.take("TIME", "ZONE"):
        return _setting("timezone", words.token().text)
    key = ""
    while words.peek() not in ("", "="):
        key += words.token().text
    if not key:
        return strings("key", "value", rows=sorted(SETTINGS.items()))
    if not words.take("="):
        return strings("key", "value", rows=[(key, SETTINGS.get(key.lower(), "<undefined>"))])
    return _setting(key, words.token().text)


def _setting(key: str, value: str) -> pa.Table:
    if SETTINGS.get(key.lower(), "").lower() != value.lower():
        known = ", ".join(f"{name} = {now}" for name, now in sorted(SETTINGS.items()))
        raise unsupported(f"SET {key} = {value}: every statement has a session of its own, with {known}")
    return strings("key", "value", rows=[(key, value)])

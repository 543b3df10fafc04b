"""Views: CREATE, ALTER, DROP, SHOW. Their queries are kept with full names and put into statements that read them."""

from typing import Any

import pyarrow as pa

from local_workspace.sql.lake.commands import namespace, pattern, properties_of, strings
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, syntax, unsupported
from local_workspace.sql.lake.expansion import Expansion, analyzed
from local_workspace.sql.lake.words import Words


def _columns(words: Words) -> list[tuple[str, str | None]]:
    """`(name [COMMENT '…'], …)`."""
    columns: list[tuple[str, str | None]] = []
    if not words.take("("):
        return columns
    while True:
        name = words.token().text
        columns.append((name, words.string() if words.take("COMMENT") else None))
        if not words.take(","):
            break
    words.expect(")")
    return columns


def _analyzed(lake: Lake, full_name: str, query: str, words: Words) -> tuple[str, list[dict[str, Any]]]:
    """A view's query with full names, and its columns. Raises SqlError."""
    with lake.sail.session(words.catalog, words.schema) as session:
        qualified = Expansion(lake, session, words.catalog, words.schema).qualified(query)
    return qualified, analyzed(lake, qualified, words.catalog, words.schema, full_name)


def _register(lake: Lake, words: Words, full_name: str, query: str, facts: dict[str, Any]) -> None:
    given: list[tuple[str, str | None]] = facts.pop("columns")
    qualified, fields = _analyzed(lake, full_name, query, words)
    sources = [field["name"] for field in fields]
    if given and len(given) != len(sources):
        few = "NOT_ENOUGH_DATA_COLUMNS" if len(given) > len(sources) else "TOO_MANY_DATA_COLUMNS"
        raise SqlError(
            f"CREATE_VIEW_COLUMN_ARITY_MISMATCH.{few}",
            f"Cannot create view {full_name}: {len(given)} columns are named and the query has {len(sources)}.",
            "21S01",
        )
    columns = given or [(name, None) for name in sources]
    lowered = [name.lower() for name, _ in columns]
    if doubled := sorted({name for name in lowered if lowered.count(name) > 1}):
        raise SqlError("COLUMN_ALREADY_EXISTS", f"The column {', '.join(doubled)} already exists.", "42711")
    shown = [
        {"name": name, "type": field["type"], "nullable": True, "metadata": {"comment": comment} if comment else {}}
        for (name, comment), field in zip(columns, fields, strict=True)
    ]
    view = {"query": qualified, "columns": sources, "catalog": words.catalog, "schema": words.schema}
    body = {"full_name": full_name, "fields": shown, "view_definition": query, "view": view}
    lake.catalog.engine("POST", "views", json=body | facts)
    lake.names.add(full_name.rpartition(".")[2])


def create_view(lake: Lake, words: Words) -> pa.Table:
    """CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(columns)] [COMMENT '…'] [TBLPROPERTIES (…)] AS query."""
    words.expect("CREATE")
    replace = words.take("OR", "REPLACE")
    words.expect("VIEW")
    if_missing = words.take("IF", "NOT", "EXISTS")
    full_name = words.name(3).lower()
    facts: dict[str, Any] = {"columns": _columns(words), "replace": replace}
    while not words.take("AS"):
        if words.take("COMMENT"):
            facts["comment"] = words.string()
        elif words.take("TBLPROPERTIES"):
            facts["properties"] = properties_of(words)
        elif words.peek() == "WITH":
            raise unsupported("WITH SCHEMA or WITH METRICS in CREATE VIEW")
        else:
            raise syntax(f"AS is expected at or near '{words.peek() or 'end of statement'}'.")
    query = words.sql[words.token().start :].rstrip().rstrip(";")
    found = lake.catalog.find("table", full_name)
    if found and if_missing:
        return NOTHING
    if found and not replace:
        raise SqlError(
            "TABLE_OR_VIEW_ALREADY_EXISTS",
            f"Cannot create table or view {full_name} because it already exists. Use IF NOT EXISTS or OR REPLACE.",
            "42P07",
        )
    _register(lake, words, full_name, query, facts)
    return NOTHING


def view_record(lake: Lake, full_name: str) -> dict[str, Any]:
    """A view's record. Raises SqlError."""
    record = lake.catalog.call("GET", "tables", full_name)
    if record["table_type"] != "VIEW":
        raise SqlError("EXPECT_VIEW_NOT_TABLE.NO_ALTERNATIVE", f"{full_name} is a table, not a view.", "42809")
    return record


def alter_view(lake: Lake, words: Words) -> pa.Table:
    """ALTER VIEW name AS query | RENAME TO name | SET TBLPROPERTIES (…) | UNSET TBLPROPERTIES (…) | OWNER TO name."""
    words.expect("ALTER", "VIEW")
    full_name = words.name(3).lower()
    record = view_record(lake, full_name)
    properties = dict(record.get("properties", {}))
    if words.take("AS"):
        query = words.sql[words.token().start :].rstrip().rstrip(";")
        kept: dict[str, Any] = {
            "comment": record.get("comment"),
            "properties": properties,
            "columns": [],
            "replace": True,
        }
        _register(lake, words, full_name, query, kept)
        return NOTHING
    if words.take("RENAME", "TO"):
        new_name = words.name(3).lower()
        words.end()
        rename(lake, full_name, new_name)
        lake.names.add(new_name.rpartition(".")[2])
        return NOTHING
    if words.take("SET", "TBLPROPERTIES"):
        properties |= properties_of(words)
    elif words.take("UNSET", "TBLPROPERTIES"):
        for name in unset_names(words):
            properties.pop(name, None)
    elif words.take("OWNER", "TO") or words.take("SET", "OWNER", "TO"):
        lake.catalog.call("PATCH", "tables", full_name, json={"owner": words.token().text})
        words.end()
        return NOTHING
    else:
        raise unsupported(f"ALTER VIEW … {words.peek()}")
    words.end()
    lake.catalog.call("PATCH", "tables", full_name, json={"properties": properties})
    return NOTHING


def rename(lake: Lake, full_name: str, new_name: str) -> None:
    """Give a table or view another name in its schema. Raises SqlError."""
    if full_name.rpartition(".")[0] != new_name.rpartition(".")[0]:
        raise unsupported(f"moving {full_name} to another schema")
    lake.catalog.engine("POST", "rename", "table", full_name, json={"name": new_name.rpartition(".")[2]})


def unset_names(words: Words) -> list[str]:
    """`[IF EXISTS] ('a', 'b')` after UNSET."""
    words.take("IF", "EXISTS")
    words.expect("(")
    names = [words.token().text]
    while words.take(","):
        names.append(words.token().text)
    words.expect(")")
    return names


def drop_view(lake: Lake, words: Words) -> pa.Table:
    """DROP VIEW [IF EXISTS] name."""
    words.expect("DROP", "VIEW")
    if_there = words.take("IF", "EXISTS")
    full_name = words.name(3)
    words.end()
    if if_there and lake.catalog.find("table", full_name) is None:
        return NOTHING
    view_record(lake, full_name)
    lake.catalog.call("DELETE", "tables", full_name)
    return NOTHING


def show_views(lake: Lake, words: Words) -> pa.Table:
    """SHOW VIEWS [IN schema] [LIKE '…']."""
    words.expect("SHOW", "VIEWS")
    catalog, schema = namespace(words, 2).split(".")
    matches = pattern(words)
    found = lake.catalog.call("GET", "tables", params={"catalog_name": catalog, "schema_name": schema})["tables"]
    names = [record["name"] for record in found if record["table_type"] == "VIEW" and matches(record["name"])]
    views = strings("namespace", "viewName", rows=[(schema, name) for name in names])
    for column in ("isTemporary", "isMaterialized"):
        views = views.append_column(column, pa.array([False] * len(names), pa.bool_()))
    return views

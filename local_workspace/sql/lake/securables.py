"""Comments, owners, tags and new names of what is in the catalog: COMMENT ON, ALTER CATALOG, SCHEMA and VOLUME."""

import pyarrow as pa

from local_workspace.sql.lake.commands import DEPTH, KIND, properties_of
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.views import unset_names
from local_workspace.sql.lake.words import Words


def comment(lake: Lake, words: Words) -> pa.Table:
    """COMMENT ON CATALOG | SCHEMA | VOLUME | TABLE | VIEW | COLUMN name IS '…' | NULL."""
    words.expect("COMMENT", "ON")
    kind = words.one_of(*DEPTH, "VIEW", "COLUMN")
    column = ""
    if kind == "COLUMN":
        full_name, column = column_name(words)
    else:
        full_name = words.name(DEPTH.get(kind, 3))
    words.expect("IS")
    text = "" if words.take("NULL") else words.string()
    words.end()
    if kind in ("TABLE", "COLUMN"):
        location = lake.location(full_name)
        with lake.tables.lock(location):
            alter = lake.tables.open(location).alter
            if not column:
                alter.set_table_description(text)
                lake.catalog.engine("PATCH", "tables", full_name, json={"comment": text})
                return NOTHING
            alter.set_column_metadata(lake.tables.column(location, column), {"comment": text})
            lake.refresh(full_name, location)
    else:
        lake.catalog.call("PATCH", f"{KIND.get(kind, 'table')}s", full_name, json={"comment": text})
    return NOTHING


def column_name(words: Words) -> tuple[str, str]:
    """`[[catalog.]schema.]table.column` as the table's full name and the column."""
    parts = [words.token().text]
    while words.take("."):
        parts.append(words.token().text)
    if not 2 <= len(parts) <= 4:
        raise SqlError("INVALID_COLUMN_REFERENCE", f"{'.'.join(parts)} is not a column of a table.", "42703")
    table = parts[:-1]
    return ".".join([words.catalog, words.schema][: 3 - len(table)] + table), parts[-1]


def tagged(lake: Lake, words: Words, kind: str, full_name: str) -> bool:
    """SET TAGS ('a' = 'b', …) and UNSET TAGS ('a', …): done if they come next."""
    if words.take("SET", "TAGS"):
        change = properties_of(words)
        words.end()
        tags = _tags(lake, kind, full_name) | change
    elif words.take("UNSET", "TAGS"):
        names = unset_names(words)
        words.end()
        tags = {key: value for key, value in _tags(lake, kind, full_name).items() if key not in names}
    else:
        return False
    lake.catalog.engine("PUT", "tags", kind, full_name, json={"tags": tags})
    return True


def _tags(lake: Lake, kind: str, full_name: str) -> dict[str, str]:
    return lake.catalog.call("GET", f"{kind}s", full_name).get("tags", {})


def owned(lake: Lake, words: Words, kind: str, full_name: str) -> bool:
    """[SET] OWNER TO principal: done if it comes next."""
    if not (words.take("SET", "OWNER", "TO") or words.take("OWNER", "TO")):
        return False
    owner = words.token().text
    words.end()
    lake.catalog.call("PATCH", f"{kind}s", full_name, json={"owner": owner})
    return True


def alter(lake: Lake, words: Words) -> pa.Table:
    """ALTER CATALOG | SCHEMA | VOLUME name OWNER TO … | SET DBPROPERTIES (…) | [UN]SET TAGS (…) | RENAME TO …."""
    words.expect("ALTER")
    kind = KIND[words.one_of("CATALOG", "SCHEMA", "DATABASE", "VOLUME")]
    full_name = words.name(DEPTH[kind.upper()]).lower()
    if owned(lake, words, kind, full_name) or tagged(lake, words, kind, full_name):
        return NOTHING
    if kind == "schema" and words.take("SET", "DBPROPERTIES"):
        properties = lake.catalog.call("GET", "schemas", full_name).get("properties", {})
        change = properties_of(words)
        words.end()
        lake.catalog.call("PATCH", "schemas", full_name, json={"properties": properties | change})
    elif kind == "volume" and words.take("RENAME", "TO"):
        new_name = words.name(3).lower()
        words.end()
        if new_name.rpartition(".")[0] != full_name.rpartition(".")[0]:
            raise unsupported(f"moving {full_name} to another schema")
        lake.catalog.engine("POST", "rename", "volume", full_name, json={"name": new_name.rpartition(".")[2]})
    else:
        raise unsupported(f"ALTER {kind.upper()} … {words.peek()}")
    return NOTHING

"""Commands on the catalog that Sail lacks: CREATE/DROP of catalogs, schemas and volumes, SHOW, GRANT, USE."""

import fnmatch
from collections.abc import Callable

import pyarrow as pa

from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, syntax, unsupported
from local_workspace.sql.lake.words import Words

DEPTH = {"CATALOG": 1, "SCHEMA": 2, "DATABASE": 2, "VOLUME": 3, "TABLE": 3}
KIND = {"CATALOG": "catalog", "SCHEMA": "schema", "DATABASE": "schema", "VOLUME": "volume", "TABLE": "table"}

Command = Callable[[Lake, Words], pa.Table]


def strings(*names: str, rows: list[tuple]) -> pa.Table:
    """A result of string columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})


def properties_of(words: Words) -> dict[str, str]:
    words.expect("(")
    properties = {}
    while True:
        key = words.token().text
        while words.take("."):
            key += "." + words.token().text
        words.take("=")
        properties[key] = words.token().text
        if not words.take(","):
            break
    words.expect(")")
    return properties


def create(lake: Lake, words: Words) -> pa.Table:
    """CREATE CATALOG | SCHEMA | VOLUME [IF NOT EXISTS] name [COMMENT '…'] [WITH DBPROPERTIES (…)]."""
    words.expect("CREATE")
    kind = words.one_of("CATALOG", "SCHEMA", "DATABASE", "VOLUME")
    if_missing = words.take("IF", "NOT", "EXISTS")
    full_name = words.name(DEPTH[kind])
    parent, _, name = full_name.rpartition(".")
    body: dict = {"name": name}
    if parent:
        body["catalog_name"] = parent.split(".")[0]
    if KIND[kind] == "volume":
        body |= {"schema_name": parent.split(".")[1], "volume_type": "MANAGED"}
    while words.peek() not in ("", ";"):
        if words.take("COMMENT"):
            body["comment"] = words.string()
        elif words.take("WITH", "DBPROPERTIES") and KIND[kind] == "schema":
            body["properties"] = properties_of(words)
        elif words.peek() in ("MANAGED", "LOCATION", "DEFAULT", "OPTIONS", "USING"):
            raise unsupported(f"{words.peek()} in CREATE {kind}")
        else:
            words.end()
    words.end()
    try:
        lake.catalog.call("POST", f"{KIND[kind]}s", json=body)
    except SqlError as error:
        if not (if_missing and error.condition == f"{KIND[kind].upper()}_ALREADY_EXISTS"):
            raise
    return NOTHING


def drop(lake: Lake, words: Words) -> pa.Table:
    """DROP CATALOG | SCHEMA | VOLUME | TABLE [IF EXISTS] name [CASCADE | RESTRICT]."""
    words.expect("DROP")
    kind = words.one_of(*DEPTH)
    if_there = words.take("IF", "EXISTS")
    full_name = words.name(DEPTH[kind])
    force = words.take("CASCADE")
    if not force:
        words.take("RESTRICT")
    words.end()
    if if_there and lake.catalog.find(KIND[kind], full_name) is None:
        return NOTHING
    lake.catalog.call("DELETE", f"{KIND[kind]}s", full_name, params={"force": force})
    return NOTHING


def use(lake: Lake, words: Words) -> pa.Table:
    """USE [CATALOG | SCHEMA] name: checked, and without effect, as every statement has a session of its own."""
    words.expect("USE")
    if words.take("CATALOG"):
        kind, full_name = "catalog", words.name(1)
    else:
        words.take("SCHEMA") or words.take("DATABASE")
        kind, full_name = "schema", words.name(2)
    words.end()
    lake.catalog.call("GET", f"{kind}s", full_name)
    return NOTHING


def pattern(words: Words) -> Callable[[str], bool]:
    """`[LIKE] 'a*|b'` at the end of SHOW."""
    words.take("LIKE")
    if words.peek() in ("", ";"):
        words.end()
        return lambda _name: True
    patterns = words.string().lower().split("|")
    words.end()
    return lambda name: any(fnmatch.fnmatchcase(name, wanted) for wanted in patterns)


def namespace(words: Words, depth: int) -> str:
    if words.take("IN") or words.take("FROM"):
        return words.name(depth)
    return ".".join([words.catalog, words.schema][:depth])


def show_catalogs(lake: Lake, words: Words) -> pa.Table:
    """SHOW CATALOGS."""
    words.expect("SHOW", "CATALOGS")
    matches = pattern(words)
    found = lake.catalog.call("GET", "catalogs")["catalogs"]
    return strings("catalog", rows=[(record["name"],) for record in found if matches(record["name"])])


def show_schemas(lake: Lake, words: Words) -> pa.Table:
    """SHOW SCHEMAS [IN catalog]."""
    words.expect("SHOW")
    words.one_of("SCHEMAS", "DATABASES")
    catalog = namespace(words, 1)
    matches = pattern(words)
    found = lake.catalog.call("GET", "schemas", params={"catalog_name": catalog})["schemas"]
    return strings("databaseName", rows=[(record["name"],) for record in found if matches(record["name"])])


def _members(lake: Lake, words: Words, kind: str) -> list[tuple[str, str]]:
    catalog, schema = namespace(words, 2).split(".")
    matches = pattern(words)
    found = lake.catalog.call("GET", f"{kind}s", params={"catalog_name": catalog, "schema_name": schema})[f"{kind}s"]
    return [(schema, record["name"]) for record in found if matches(record["name"])]


def show_tables(lake: Lake, words: Words) -> pa.Table:
    """SHOW TABLES [IN schema]."""
    words.expect("SHOW", "TABLES")
    found = strings("database", "tableName", rows=_members(lake, words, "table"))
    return found.append_column("isTemporary", pa.array([False] * found.num_rows, pa.bool_()))


def show_volumes(lake: Lake, words: Words) -> pa.Table:
    """SHOW VOLUMES [IN schema]."""
    words.expect("SHOW", "VOLUMES")
    return strings("database", "volume_name", rows=_members(lake, words, "volume"))


def _securable(words: Words) -> tuple[str, str]:
    kind = words.one_of(*DEPTH) if words.peek() in DEPTH else "TABLE"
    return KIND[kind], words.name(DEPTH[kind])


def _privileges(words: Words) -> list[str]:
    privileges, current = [], [words.token().text.upper()]
    while words.peek() not in ("ON", ""):
        if words.take(","):
            privileges.append("_".join(current))
            current = []
        current.append(words.token().text.upper())
    return [*privileges, "_".join(current)]


def grant(lake: Lake, words: Words) -> pa.Table:
    """GRANT | REVOKE privileges ON securable TO | FROM principal: stored and shown, not enforced."""
    verb = words.one_of("GRANT", "REVOKE")
    privileges = _privileges(words)
    words.expect("ON")
    kind, full_name = _securable(words)
    words.expect("TO" if verb == "GRANT" else "FROM")
    change = {"principal": words.token().text, "add" if verb == "GRANT" else "remove": privileges}
    words.end()
    lake.catalog.call("PATCH", "permissions", kind, full_name, json={"changes": [change]})
    return NOTHING


def show_grants(lake: Lake, words: Words) -> pa.Table:
    """SHOW GRANTS ON securable."""
    words.expect("SHOW", "GRANTS", "ON")
    kind, full_name = _securable(words)
    words.end()
    found = lake.catalog.call("GET", "permissions", kind, full_name)["privilege_assignments"]
    rows = [
        (assignment["principal"], privilege.replace("_", " "), kind.upper(), full_name)
        for assignment in found
        for privilege in assignment["privileges"]
    ]
    return strings("Principal", "ActionType", "ObjectType", "ObjectKey", rows=rows)


def describe_securable(lake: Lake, words: Words) -> pa.Table:
    """DESCRIBE CATALOG | SCHEMA | VOLUME [EXTENDED] name."""
    words.one_of("DESCRIBE", "DESC")
    kind = words.one_of("CATALOG", "SCHEMA", "DATABASE", "VOLUME")
    words.take("EXTENDED")
    record = lake.catalog.call("GET", f"{KIND[kind]}s", words.name(DEPTH[kind]))
    words.end()
    shown = [(key, str(value)) for key, value in record.items() if isinstance(value, (str, int))]
    return strings("info_name", "info_value", rows=shown)


def refusal(words: tuple[str, ...], reason: str = "") -> Command:
    """A command the local workspace does not have: it raises SqlError with the command's name and the reason."""

    def refuse(_lake: Lake, _words: Words) -> pa.Table:
        raise unsupported(" ".join(words) + (f": {reason}" if reason else ""))

    return refuse


def empty(_lake: Lake, _words: Words) -> pa.Table:
    """A statement without a word. Raises SqlError."""
    raise syntax("the statement is empty.")

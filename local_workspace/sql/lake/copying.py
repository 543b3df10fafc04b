"""COPY INTO: files of a volume loaded once each, the record of it in the same Delta commit as their rows.

A file's record is an application transaction of the Delta log (`copy_into:/Volumes/…`): a kill leaves both the rows and
the record, or neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake.transaction import Transaction
from pyspark.errors import PySparkException
from pyspark.sql.connect.session import SparkSession

from local_workspace.sql.lake import files
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, from_sail, syntax, unsupported
from local_workspace.sql.lake.expansion import Expansion
from local_workspace.sql.lake.files import VolumeFile
from local_workspace.sql.lake.rewriting import quoted
from local_workspace.sql.lake.words import Words
from local_workspace.unity_catalog.columns import type_text

LOADED = "copy_into:"


@dataclass
class Copy:
    """What a COPY INTO says."""

    table: str
    query: str = "SELECT * FROM {}"
    """The query over the source, which is `{}` in it."""
    path: str = ""
    form: str = ""
    names: list[str] = field(default_factory=list)
    pattern: str | None = None
    format_options: dict[str, str] = field(default_factory=dict)
    copy_options: dict[str, str] = field(default_factory=dict)


def _options(words: Words) -> dict[str, str]:
    words.expect("(")
    options = {}
    while not words.take(")"):
        key = words.token().text.lower()
        words.take("=")
        options[key] = words.token().text
        words.take(",")
    return options


def _read(words: Words) -> Copy:
    words.expect("COPY", "INTO")
    copy = Copy(words.name(3).lower())
    if words.peek() == "(":
        raise unsupported("a column list in COPY INTO: name the columns in (SELECT … FROM '/Volumes/…')")
    words.expect("FROM")
    if words.take("("):
        _read_query(words, copy)
    else:
        copy.path = words.string()
    if words.take("WITH"):
        raise unsupported("WITH (CREDENTIAL …) in COPY INTO")
    words.expect("FILEFORMAT", "=")
    copy.form = words.token().text.lower()
    while words.peek() not in ("", ";"):
        if words.take("FILES", "="):
            words.expect("(")
            while not words.take(")"):
                copy.names.append(words.string())
                words.take(",")
        elif words.take("PATTERN", "="):
            copy.pattern = words.string()
        elif words.take("FORMAT_OPTIONS"):
            copy.format_options = _options(words)
        elif words.take("COPY_OPTIONS"):
            copy.copy_options = _options(words)
        elif words.peek() == "VALIDATE":
            raise unsupported("VALIDATE in COPY INTO")
        else:
            words.end()
    words.end()
    for option in copy.copy_options:
        if option not in ("force", "mergeschema"):
            raise unsupported(f"the COPY_OPTIONS {option}")
    return copy


def _read_query(words: Words, copy: Copy) -> None:
    """`SELECT … FROM '/Volumes/…' [WHERE …])`: the path is where the source's name goes."""
    start, depth = words.tokens[words.position].start, 1
    while depth:
        token = words.token()
        depth += (token.text == "(") - (token.text == ")")
        if token.text.upper() == "FROM" and depth == 1 and not copy.path:
            before = words.sql[start : token.end + 1]
            copy.path = words.string()
            start = words.tokens[words.position - 1].end + 1
    if not copy.path:
        raise syntax("FROM '/Volumes/…' is expected in the query of COPY INTO.")
    after = words.sql[start : words.tokens[words.position - 1].start]
    copy.query = f"{before} {{}} {after}"


def copy_into(lake: Lake, words: Words) -> pa.Table:
    """COPY INTO table FROM '/Volumes/…' | (SELECT … FROM '…') FILEFORMAT = CSV | JSON | PARQUET | TEXT …."""
    copy = _read(words)
    location = lake.location(copy.table)
    with lake.tables.lock(location):
        found = _chosen(lake, copy)
        table = lake.tables.open(location)
        if copy.copy_options.get("force", "").lower() != "true":
            found = [file for file in found if table.transaction_version(LOADED + file.path) is None]
        count = 0
        if found:
            with (
                lake.sail.session(words.catalog, words.schema) as session,
                Expansion(lake, session, words.catalog, words.schema) as expansion,
            ):
                rows = _rows(lake, session, expansion, copy, location, found)
            merge = copy.copy_options.get("mergeschema", "").lower() == "true"
            lake.tables.commit(location, rows, [Transaction(LOADED + file.path, 1) for file in found], merge=merge)
            count = rows.num_rows
            if merge:
                lake.refresh(copy.table, location)
    counts = {"num_affected_rows": count, "num_inserted_rows": count, "num_skipped_corrupt_files": 0}
    return pa.table({name: pa.array([value], pa.int64()) for name, value in counts.items()})


def _chosen(lake: Lake, copy: Copy) -> list[VolumeFile]:
    if copy.names:
        top = copy.path.rstrip("/")
        return [file for name in copy.names for file in files.listing(lake, f"{top}/{name}")]
    found = files.listing(lake, copy.path)
    return [file for file in found if files.matches(file, copy.pattern)] if copy.pattern else found


def _rows(
    lake: Lake, session: SparkSession, expansion: Expansion, copy: Copy, location: str, found: Sequence[VolumeFile]
) -> pa.Table:
    """The files' rows in the table's columns and types. Raises SqlError for a column the table has no place for."""
    options = dict(copy.format_options)
    if copy.form == "json":
        options.setdefault("inferschema", "true")
    options.pop("mergeschema", None)
    try:
        frame = files.rows_of(session, copy.form, options, found)
        selected = session.sql(expansion.expand(copy.query.format(expansion.relation(frame))))
        types = {f["name"].lower(): f for f in lake.tables.fields(location)}
        given = {name.lower(): name for name in selected.columns}
        unknown = sorted(set(given) - set(types))
        if unknown and copy.copy_options.get("mergeschema", "").lower() != "true":
            raise SqlError(
                "COPY_INTO_SCHEMA_MISMATCH_WITH_TARGET_TABLE",
                f"A schema mismatch was detected while copying into {copy.table}: it has no column `{unknown[0]}`. "
                "COPY_OPTIONS ('mergeSchema' = 'true') adds columns.",
                "42KDG",
            )
        chosen = [_cast(given.get(name), field) for name, field in types.items()]
        chosen += [quoted(given[name]) for name in unknown]
        return selected.selectExpr(*chosen).toArrow()
    except PySparkException as error:
        raise from_sail(error, [copy.table]) from error


def _cast(column: str | None, field: dict[str, Any]) -> str:
    kind = type_text(field["type"])
    if column is None:
        return f"CAST({field['metadata'].get('CURRENT_DEFAULT') or 'NULL'} AS {kind}) AS {quoted(field['name'])}"
    if field["type"] == "variant":
        return f"parse_json(CAST({quoted(column)} AS STRING)) AS {quoted(field['name'])}"
    return f"CAST({quoted(column)} AS {kind}) AS {quoted(field['name'])}"

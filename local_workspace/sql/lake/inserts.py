"""INSERT with a column list, or with VALUES of nested types: said in the way that Sail understands."""

from collections.abc import Sequence
from typing import Any

from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.rewriting import CLOSING, OPENING, quoted
from local_workspace.sql.lake.tokens import tokens_of
from local_workspace.sql.lake.words import Words
from local_workspace.unity_catalog.columns import type_text

Field = dict[str, Any]


def _with_inside(words: Words) -> Words:
    """`WITH … INSERT INTO t SELECT …` with its WITH where Sail reads it: before the query."""
    sql, depth, verb = words.sql, 0, None
    for token in words.tokens:
        depth += (token.token_type in OPENING) - (token.token_type in CLOSING)
        if depth == 0 and verb is None and token.text.upper() == "INSERT":
            verb = token
        elif (
            depth == 0
            and verb
            and token.text.upper() in ("SELECT", "VALUES", "FROM", "TABLE")
            and token.start > verb.end
        ):
            if token.text.upper() == "TABLE":
                continue
            text = f"{sql[verb.start : token.start]} {sql[: verb.start]} {sql[token.start :]}"
            return Words(text, tokens_of(text), words.catalog, words.schema)
    return words


def _default(field: Field) -> str:
    return field["metadata"].get("CURRENT_DEFAULT") or "NULL"


def rewritten(lake: Lake, words: Words) -> str:
    """The statement with its values in the order of the table's columns; what Sail understands stays as it is."""
    if words.peek() == "WITH":
        words = _with_inside(words)
    words.expect("INSERT")
    words.one_of("INTO", "OVERWRITE")
    words.take("TABLE")
    name = words.name(3)
    head = words.sql[: words.tokens[words.position - 1].end + 1]
    columns = _column_list(words)
    values = words.peek() == "VALUES"
    if not columns and not values:
        return words.sql
    source_at = words.position
    source = words.sql[words.tokens[source_at].start :].rstrip().rstrip(";")
    fields = {field["name"].lower(): field for field in lake.tables.fields(lake.location(name))}
    _check(columns, list(fields), name)
    given = [column.lower() for column in columns] or list(fields)
    rows = _rows(words.sql, words.tokens[source_at + 1 :]) if values else []
    defaults = any(value.strip().upper() == "DEFAULT" for row in rows for value in row)
    if values and (defaults or any(isinstance(fields[column]["type"], dict) for column in given)):
        selects = [_select(fields, given, row) for row in rows]
        return f"{head} {' UNION ALL '.join(selects)}"
    if not columns:
        return words.sql
    chosen = [
        f"s.{quoted(column)}"
        if column in given
        else f"CAST({_default(field)} AS {type_text(field['type'])}) AS {quoted(column)}"
        for column, field in fields.items()
    ]
    # The statement is the user's own; only column names are put around it.
    return f"{head} SELECT {', '.join(chosen)} FROM ({source}) AS s({', '.join(map(quoted, given))})"


def refuse_defaults(lake: Lake, words: Words) -> None:
    """Refuse DEFAULT in UPDATE and MERGE of a table that has defaults: Sail takes it for NULL. Raises SqlError."""
    neighbours = zip(words.tokens, [None, *words.tokens], [*words.tokens[1:], None], strict=False)
    if words.peek() == "DELETE" or not any(_is_default(*three) for three in neighbours):
        return
    words.token()
    words.take("INTO")
    fields = lake.tables.fields(lake.location(words.name(3)))
    if any(_default(field) != "NULL" for field in fields):
        raise unsupported("DEFAULT in UPDATE and MERGE: write the value")


def _is_default(token: Token, before: Token | None, after: Token | None) -> bool:
    """Whether it is the word DEFAULT, and no part of a name such as main.default.t."""
    if token.text.upper() != "DEFAULT" or token.token_type is TokenType.STRING:
        return False
    return not any(neighbour and neighbour.token_type is TokenType.DOT for neighbour in (before, after))


def _column_list(words: Words) -> list[str]:
    following = words.tokens[words.position : words.position + 2]
    if words.peek() != "(" or following[-1].text.upper() in ("SELECT", "WITH", "VALUES", "FROM", "TABLE", "("):
        return []
    words.expect("(")
    columns = [words.token().text]
    while words.take(","):
        columns.append(words.token().text)
    words.expect(")")
    return columns


def _check(columns: list[str], known: list[str], table: str) -> None:
    for column in columns:
        if column.lower() not in known:
            raise SqlError(
                "UNRESOLVED_COLUMN.WITH_SUGGESTION",
                f"A column with name `{column}` cannot be resolved in {table}. Its columns are {', '.join(known)}.",
                "42703",
            )
    if len({column.lower() for column in columns}) < len(columns):
        raise SqlError("COLUMN_ALREADY_EXISTS", f"The column list ({', '.join(columns)}) names one twice.", "42711")


def _select(fields: dict[str, Field], given: list[str], row: list[str]) -> str:
    if len(row) != len(given):
        raise SqlError(
            "INSERT_COLUMN_ARITY_MISMATCH", f"{len(given)} columns are named, but a row has {len(row)} values.", "21S01"
        )
    values = dict(zip(given, row, strict=True))
    for column, field in fields.items():
        if values.get(column, "DEFAULT").strip().upper() == "DEFAULT":
            values[column] = _default(field)
    casts = [
        f"CAST({values[column]} AS {type_text(field['type'])}) AS {quoted(column)}"
        if field["type"] != "variant" or values[column] == "NULL"
        else f"{values[column]} AS {quoted(column)}"
        for column, field in fields.items()
    ]
    return f"SELECT {', '.join(casts)}"


def _rows(sql: str, tokens: Sequence[Token]) -> list[list[str]]:
    """The expressions of each row of VALUES, as they are written."""
    rows: list[list[str]] = []
    depth, start = 0, 0
    for token in tokens:
        if token.token_type in OPENING:
            depth += 1
            if depth == 1:
                rows.append([])
                start = token.end + 1
        elif token.token_type in CLOSING:
            depth -= 1
            if depth == 0:
                rows[-1].append(sql[start : token.start])
        elif token.token_type is TokenType.COMMA and depth == 1:
            rows[-1].append(sql[start : token.start])
            start = token.end + 1
    return rows

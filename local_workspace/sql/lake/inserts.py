"""INSERT with a column list, or with VALUES of nested types: said in the way that Sail understands."""

from collections.abc import Sequence

from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.words import Words
from local_workspace.unity_catalog.columns import type_text

OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def rewritten(lake: Lake, words: Words) -> str:
    """The statement with its values in the order of the table's columns; what Sail understands stays as it is."""
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
    if values and any(isinstance(fields[column]["type"], dict) for column in given):
        rows = _rows(words.sql, words.tokens[source_at + 1 :])
        selects = [_select(fields, given, row) for row in rows]
        return f"{head} {' UNION ALL '.join(selects)}"
    if not columns:
        return words.sql
    chosen = [
        f"s.{_quoted(column)}" if column in given else f"CAST(NULL AS {type_text(field['type'])}) AS {_quoted(column)}"
        for column, field in fields.items()
    ]
    # The statement is the user's own; only column names are put around it.
    return f"{head} SELECT {', '.join(chosen)} FROM ({source}) AS s({', '.join(map(_quoted, given))})"  # noqa: S608


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


def _select(fields: dict[str, dict], given: list[str], row: list[str]) -> str:
    if len(row) != len(given):
        raise SqlError(
            "INSERT_COLUMN_ARITY_MISMATCH", f"{len(given)} columns are named, but a row has {len(row)} values.", "21S01"
        )
    values = dict(zip(given, row, strict=True))
    casts = [
        f"CAST({values.get(column, 'NULL')} AS {type_text(field['type'])}) AS {_quoted(column)}"
        if field["type"] != "variant" or column not in values
        else f"{values[column]} AS {_quoted(column)}"
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

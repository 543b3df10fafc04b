"""Named parameters of a statement, and what it can ask about its caller, put in as typed literals.

Sail takes arguments for queries only, not for INSERT, UPDATE, DELETE and MERGE. The markers are found by the
tokenizer, so that nothing inside strings, comments or `col:path` is touched.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.errors import SqlError

TYPE = re.compile(
    r"STRING|INT|INTEGER|BIGINT|LONG|SMALLINT|SHORT|TINYINT|BYTE|DOUBLE|FLOAT|REAL|BOOLEAN|DATE|TIMESTAMP|TIMESTAMP_NTZ"
    r"|BINARY|VOID|(DECIMAL|DEC|NUMERIC)(\(\s*\d{1,2}\s*(,\s*\d{1,2}\s*)?\))?"
)
WORD = re.compile(r"\w+")
ENDS_AN_EXPRESSION = (TokenType.IDENTIFIER, TokenType.R_PAREN, TokenType.R_BRACKET)


def string_literal(value: str) -> str:
    """A SQL string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def literal(parameter: dict[str, Any]) -> str:
    """A statement parameter `{"name", "value", "type"}` as SQL. Raises SqlError for an unknown type."""
    data_type = (parameter.get("type") or "STRING").upper().strip()
    if not TYPE.fullmatch(data_type):
        raise SqlError(
            "INVALID_PARAMETER_MARKER_VALUE",
            f"Parameter {parameter['name']} has the type {data_type}, which parameters cannot have.",
            "22023",
        )
    value = parameter.get("value")
    if value is None:
        return f"CAST(NULL AS {data_type})"
    if data_type == "STRING":
        return string_literal(value)
    if data_type == "VOID":
        return "NULL"
    return f"CAST({string_literal(value.strip())} AS {data_type})"


def colons(sql: str, tokens: Sequence[Token]) -> Iterator[tuple[Token, Token, bool]]:
    """Each colon right before a word, that word, and whether it is a path (`col:path`) rather than a marker."""
    for before, colon, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        if colon.token_type is TokenType.COLON and after.start == colon.end + 1 and WORD.fullmatch(_text(sql, after)):
            path = before is not None and before.end + 1 == colon.start and ends_an_expression(before)
            yield colon, after, path


def markers(sql: str, tokens: Sequence[Token]) -> list[tuple[int, int, str]]:
    """Where `:name` markers stand: start, end (exclusive) and name."""
    return [(colon.start, after.end + 1, _text(sql, after)) for colon, after, path in colons(sql, tokens) if not path]


def placed(sql: str, tokens: Sequence[Token], facts: dict[str, str]) -> str:
    """The statement with each call `fact()` replaced by its value: Sail knows no user and misnames the schema."""
    pieces, position = [], 0
    for before, name, opening, closing in zip([None, *tokens], tokens, tokens[1:], tokens[2:], strict=False):
        call = (opening.token_type, closing.token_type) == (TokenType.L_PAREN, TokenType.R_PAREN)
        quoted = name.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        if call and not quoted and name.text.lower() in facts and not (before and before.token_type is TokenType.DOT):
            pieces += [sql[position : name.start], string_literal(facts[name.text.lower()])]
            position = closing.end + 1
    return "".join([*pieces, sql[position:]])


def _text(sql: str, token: Token) -> str:
    return sql[token.start : token.end + 1]


def ends_an_expression(token: Token) -> bool:
    return token.token_type in ENDS_AN_EXPRESSION or WORD.fullmatch(token.text) is not None


def bind(sql: str, tokens: Sequence[Token], parameters: Sequence[dict[str, Any]]) -> str:
    """The statement with its parameters put in. Raises SqlError for a marker without a parameter."""
    given = {parameter["name"]: parameter for parameter in parameters}
    pieces, position = [], 0
    for start, end, name in markers(sql, tokens):
        if name not in given:
            raise SqlError(
                "UNBOUND_SQL_PARAMETER",
                f"Found the unbound parameter: {name}. Provide its value in `parameters`.",
                "42P02",
            )
        pieces += [sql[position:start], literal(given[name])]
        position = end
    return "".join([*pieces, sql[position:]])

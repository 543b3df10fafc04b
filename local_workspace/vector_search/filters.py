"""Filters of queries as safe SQL: columns checked against the index, values written as literals of their type."""

import re
from typing import Any

import sqlglot
from sqlglot import expressions as exp
from sqlglot import tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from local_workspace.errors import BadRequest
from local_workspace.vector_search.columns import Columns, ColumnType, element_type

KEY = re.compile(r"(?P<columns>.+?)(?:\s+(?P<operator><=|>=|<|>|NOT LIKE|NOT|LIKE))?", re.IGNORECASE)
ALLOWED_SQL = (
    *(exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between),
    *(exp.Like, exp.Is, exp.Null, exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Neg, exp.Array),
    *(exp.ArrayContains, exp.Cast, exp.DataType),
)


class _LanceSql(Dialect):
    """The SQL of LanceDB's filters: names in backticks."""

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS = ["`"]  # noqa: RUF012 - sqlglot's way


def from_dict(filters: Any, columns: Columns) -> str:
    """The filter of a standard endpoint, `{"price <": 200, "make": ["a", "b"]}`, as SQL. Raises BadRequest."""
    if isinstance(filters, list):
        parts = [from_dict(part, columns) for part in filters]
    elif isinstance(filters, dict):
        parts = [_condition(key, value, columns) for key, value in filters.items()]
    else:
        raise BadRequest('filters_json must be a JSON object such as {"price <": 200}')
    return " AND ".join(f"({part})" for part in parts if part)


def _condition(key: str, value: Any, columns: Columns) -> str:
    matched = KEY.fullmatch(key.strip())
    if not matched:
        raise BadRequest(f"filters: {key!r} is no column with an operator")
    operator = (matched["operator"] or "=").upper()
    names = re.split(r"\s+OR\s+", matched["columns"])
    if len(names) == 1:
        return _comparison(names[0], operator, value, columns)
    if not isinstance(value, list) or len(value) != len(names):
        raise BadRequest(f"filters: {key!r} needs a list of {len(names)} values, one for each column")
    return " OR ".join(f"({_comparison(n, operator, v, columns)})" for n, v in zip(names, value, strict=True))


def _comparison(name: str, operator: str, value: Any, columns: Columns) -> str:
    kind = columns.types.get(name)
    if kind is None:
        raise BadRequest(f"filters: the index has no column {name!r} to filter by; it has {', '.join(columns.types)}")
    try:
        return _sql(f"`{name}`", columns.type_names[name], kind, operator, value)
    except ValueError as error:
        raise BadRequest(f"filters: {name} {operator} {value!r}: {error}") from error


def _sql(column: str, type_name: str, kind: ColumnType, operator: str, value: Any) -> str:
    if operator in ("LIKE", "NOT LIKE"):
        condition = _like(column, kind, value)
        return f"NOT ({condition})" if operator == "NOT LIKE" else condition
    if operator in ("=", "NOT"):
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError("at least one value is needed")
        condition = " OR ".join(_equals(column, type_name, kind, item) for item in values)
        return f"NOT ({condition})" if operator == "NOT" else condition
    if isinstance(value, list):
        raise ValueError("one value is needed")
    return f"{column} {operator} {kind.sql(value)}"


def _equals(column: str, type_name: str, kind: ColumnType, value: Any) -> str:
    if value is None:
        return f"{column} IS NULL"
    if type_name.lower().startswith("array"):
        return f"array_has({column}, {element_type(type_name).sql(value)})"
    return f"{column} = {kind.sql(value)}"


def _like(column: str, kind: ColumnType, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("LIKE needs a string")
    if "%" in value:
        return f"{column} LIKE {kind.sql(value)}"
    # Without a wildcard, a standard endpoint's LIKE looks for a whole word.
    return f"strpos(concat(' ', {column}, ' '), {kind.sql(f' {value} ')}) > 0"


def from_sql(text: str, columns: Columns) -> str:
    """The filter of a storage-optimized endpoint, `price < 200 AND make = 'a'`, written anew. Raises BadRequest."""
    try:
        tree = sqlglot.parse_one(text, dialect=_LanceSql)
    except (SqlglotError, RecursionError) as error:
        raise BadRequest(f"filter_string: {str(error).splitlines()[0]}") from error
    for node in tree.walk():
        if not isinstance(node, ALLOWED_SQL):
            raise BadRequest(f"filter_string: {node.sql()[:80]!r} cannot be part of a filter")
        if isinstance(node, exp.Column) and (node.table or node.name not in columns.types):
            raise BadRequest(f"filter_string: the index has no column {node.sql()!r} to filter by")
    return tree.sql(dialect=_LanceSql, identify=True)

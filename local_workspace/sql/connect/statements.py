"""`spark.sql(…)`: queries stay plans for Sail, in words that it knows; all else is run by the lake at once."""

import dataclasses
from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql.connect.proto import base_pb2, commands_pb2, relations_pb2
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.connect import answers
from local_workspace.sql.connect.arguments import parameter
from local_workspace.sql.connect.namespaces import use_catalog, use_schema
from local_workspace.sql.connect.sessions import ClientSession
from local_workspace.sql.lake.commands import strings
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.parameters import literal, placed
from local_workspace.sql.lake.statements import Statement, run, tokens_of
from local_workspace.sql.lake.words import Words

QUERIES = ("SELECT", "WITH", "VALUES", "FROM", "TABLE", "(")
OF_THE_SESSION = ("CACHE", "UNCACHE", "CLEAR", "ADD")


def _sql_of(command: commands_pb2.SqlCommand) -> relations_pb2.SQL:
    relation = command.input
    if relation.HasField("with_relations"):
        relation = relation.with_relations.root
    return relation.sql


def _is_temporary(words: Sequence[str]) -> bool:
    """Whether a statement makes a temporary view: CREATE [OR REPLACE] [GLOBAL] TEMP[ORARY] VIEW."""
    return words[0] == "CREATE" and not {"TEMP", "TEMPORARY"}.isdisjoint(words[1:5])


def _filled(sql: relations_pb2.SQL, tokens: Sequence[Token]) -> str:
    """The text with its positional arguments in the places of `?`. Raises SqlError when there are too few."""
    arguments, pieces, position = iter(sql.pos_arguments), [], 0
    for token in tokens:
        if token.token_type is TokenType.PLACEHOLDER and token.text == "?":
            argument = next(arguments, None)
            if argument is None:
                raise SqlError(
                    "UNBOUND_SQL_PARAMETER", "Found an unbound parameter: give `args` a value for it.", "42P02"
                )
            pieces += [sql.query[position : token.start], literal(parameter("?", argument))]
            position = token.end + 1
    return "".join([*pieces, sql.query[position:]])


def _set(client: ClientSession, words: Words) -> pa.Table | None:
    """SET key = value and RESET key; None for SET without a value."""
    verb = words.one_of("SET", "RESET")
    key = words.token().text
    while words.take("."):
        key += "." + words.token().text
    if verb == "RESET":
        client.spark.conf.unset(key)
        return NOTHING
    if not words.take("="):
        return None
    value = words.sql[words.token().start :].strip().rstrip(";").strip("'\"")
    client.spark.conf.set(key, value)
    return strings("key", "value", rows=[(key, value)])


def _use(lake: Lake, client: ClientSession, words: Words) -> pa.Table:
    """USE [CATALOG | SCHEMA] name, and SET CATALOG name."""
    words.one_of("USE", "SET")
    if words.take("CATALOG"):
        name = words.name(1)
        words.end()
        use_catalog(lake, client, name)
    else:
        words.take("SCHEMA") or words.take("DATABASE")
        name = words.name(2)
        words.end()
        use_schema(lake, client, name)
    return NOTHING


def _temporary(client: ClientSession, words: Words) -> pa.Table | None:
    """What DROP VIEW and DESCRIBE [TABLE] give for a temporary view; None when there is none of that name."""
    if words.take("DROP", "VIEW"):
        words.take("IF", "EXISTS")
        return NOTHING if client.spark.catalog.dropTempView(words.token().text) else None
    if words.take("DESCRIBE") or words.take("DESC"):
        words.take("TABLE")
        name = words.token().text
        if not words.peek() and client.spark.catalog.tableExists(name):
            fields = client.spark.table(name).schema.fields
            return strings(
                "col_name", "data_type", "comment", rows=[(f.name, f.dataType.simpleString(), None) for f in fields]
            )
    return None


def answer(
    lake: Lake, client: ClientSession, user: str, command: commands_pb2.SqlCommand
) -> base_pb2.ExecutePlanResponse | None:
    """What `spark.sql` gives, or None when it is Sail's to run. Raises SqlError."""
    if command.sql:
        command.input.sql.query = command.sql
        command.ClearField("sql")
    sql = _sql_of(command)
    tokens = tokens_of(sql.query)
    leading = [token.text.upper() for token in tokens[:5]]
    words = Words(sql.query, tokens, client.catalog, client.schema)
    statement = Statement(sql.query, client.catalog, client.schema, user)
    if leading and (leading[0] in QUERIES or _is_temporary(leading)):
        sql.query = placed(sql.query, tokens, statement.facts())
        return None if _is_temporary(leading) else answers.command_result(command.input)
    if leading and leading[0] in OF_THE_SESSION:
        return None
    table = None
    if leading[:1] == ["USE"] or leading[:2] == ["SET", "CATALOG"]:
        table = _use(lake, client, words)
    elif len(leading) > 1 and leading[0] in ("SET", "RESET"):
        table = _set(client, words)
    if table is None:
        statement.sql = _filled(sql, tokens)
        statement.parameters = [parameter(name, argument) for name, argument in sql.named_arguments.items()]
        try:
            table = run(dataclasses.replace(lake, sail=client), statement)
        except SqlError as error:
            if error.condition != "TABLE_OR_VIEW_NOT_FOUND" or (table := _temporary(client, words)) is None:
                raise
    return answers.command_result(answers.local_relation(table))

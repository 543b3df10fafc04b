"""`spark.sql(…)`: queries stay plans for Sail, in words that it knows; all else is run by the lake at once."""

import dataclasses
from collections.abc import Callable, Sequence

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.connect.dataframe import DataFrame
from pyspark.sql.connect.proto import base_pb2, commands_pb2, relations_pb2
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.connect import answers
from local_workspace.sql.connect.arguments import parameter
from local_workspace.sql.connect.namespaces import use_catalog, use_schema
from local_workspace.sql.connect.sessions import ClientSession
from local_workspace.sql.connect.writing import Given
from local_workspace.sql.lake import paths
from local_workspace.sql.lake.commands import strings
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.definitions import full_name
from local_workspace.sql.lake.errors import SqlError, from_sail
from local_workspace.sql.lake.expansion import Expansion
from local_workspace.sql.lake.parameters import bind, literal, placed
from local_workspace.sql.lake.rewriting import parsed, tables
from local_workspace.sql.lake.statements import Statement, run
from local_workspace.sql.lake.tokens import tokens_of
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
    drop = words.take("DROP", "VIEW")
    if not drop and not (words.take("DESCRIBE") or words.take("DESC")):
        return None
    words.take("IF", "EXISTS") if drop else words.take("TABLE")
    name = words.token().text
    if words.peek() or not client.spark.catalog.tableExists(name):
        return None
    if drop:
        client.spark.catalog.dropTempView(name)
        return NOTHING
    fields = client.spark.table(name).schema.fields
    return strings("col_name", "data_type", "comment", rows=[(f.name, f.dataType.simpleString(), None) for f in fields])


def _refused(error: PySparkException, sql: str, client: ClientSession) -> SqlError:
    try:
        found = [full_name(table, client.catalog, client.schema) for table in tables(parsed(sql)) if table.name]
    except SqlError:
        found = []
    return from_sail(error, found)


def _settle(lake: Lake, client: ClientSession, statement: Statement, work: Callable[[str], object]) -> None:
    """Do `work` with the words of a statement that Sail knows. Raises SqlError.

    What stands for files, functions and the like are temporary views of the client's session: its data frames are
    computed later than this.
    """
    sql, tokens = statement.sql, tokens_of(statement.sql)
    expansion = Expansion(lake, client.spark, client.catalog, client.schema)
    refused: PySparkException | None = None
    try:
        if expansion.suspects(tokens):
            sql = expansion.expand(sql)
        told = placed(sql, tokens_of(sql), statement.facts())
        for reading in paths.readings(told, tokens_of(told)):
            try:
                work(reading)
            except PySparkException as error:
                if not paths.misread(error):
                    raise
                refused = error
            else:
                return
    except PySparkException as error:
        refused = error
    if refused is not None:
        raise _refused(refused, sql, client) from refused


def settled(lake: Lake, client: ClientSession, user: str, query: str) -> str:
    """A query in words that Sail knows. Raises SqlError."""
    texts: list[str] = []
    _settle(lake, client, Statement(query, client.catalog, client.schema, user), texts.append)
    return texts[0]


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
    if leading and leading[0] in QUERIES:

        def analyze(text: str) -> None:
            sql.query = text
            _ = DataFrame(Given(command.input), client.spark).schema

        _settle(lake, client, statement, analyze)
        return answers.command_result(command.input)
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
        table = _run(lake, client, statement, leading)
    return answers.command_result(answers.local_relation(table))


def _run(lake: Lake, client: ClientSession, statement: Statement, leading: Sequence[str]) -> pa.Table:
    if leading and _is_temporary(leading):
        statement.sql = bind(statement.sql, tokens_of(statement.sql), statement.parameters)
        _settle(lake, client, statement, client.spark.sql)
        return NOTHING
    try:
        return run(dataclasses.replace(lake, sail=client), statement)
    except SqlError as error:
        words = Words(statement.sql, tokens_of(statement.sql), client.catalog, client.schema)
        if error.condition != "TABLE_OR_VIEW_NOT_FOUND" or (table := _temporary(client, words)) is None:
            raise
        return table

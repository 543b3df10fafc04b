"""What a query names and Sail lacks, put in its place: views, functions, information_schema, files in volumes."""

import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake import ai, files, functions, information_schema, paths, searching
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, from_sail, not_a_table, syntax, unsupported
from local_workspace.sql.lake.rewriting import (
    Call,
    Edits,
    anonymous_calls,
    call_at,
    is_definition,
    is_target,
    outputs,
    parsed,
    quoted,
    table_span,
    tables,
)
from local_workspace.sql.lake.shorthand import written_out
from local_workspace.sql.lake.tokens import tokens_of

ROWS: dict[str, Callable[[Lake, SparkSession, Call], DataFrame | pa.Table]] = {
    "read_files": files.read_files,
    "vector_search": searching.vector_search,
}
TRIGGERS = {"information_schema", *ROWS, *ai.FUNCTIONS}
MAX_ROUNDS = 100


class Expansion:
    """Puts into statements what the catalog knows by name; what it made for one is dropped when the block ends."""

    def __init__(self, lake: Lake, session: SparkSession, catalog: str, schema: str, defining: str = ""):
        self._lake = lake
        self._session = session
        self._namespace = [catalog, schema]
        self._defining = defining
        self._relations: list[str] = []
        self._functions: set[str] = set()
        self._records: dict[tuple[str, str], dict[str, Any] | None] = {}

    def __enter__(self) -> "Expansion":
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        for name in self._relations:
            self._session.catalog.dropTempView(name)

    def suspects(self, tokens: Sequence[Token]) -> bool:
        """Whether a statement names something that is put in here, as far as its words tell."""
        words = {token.text.lower() for token in tokens}
        return not words.isdisjoint(TRIGGERS) or not words.isdisjoint(self._lake.names) or files.named_by_path(tokens)

    def expand(self, sql: str) -> str:
        """The statement in names that Sail has. Raises SqlError."""
        for _ in range(MAX_ROUNDS):
            sql = self._with_rows_of_functions(sql)
            edits, tree, tokens = Edits(sql), parsed(sql), tokens_of(sql)
            for table in tables(tree):
                if isinstance(table.this, exp.Identifier):
                    self._table(edits, table)
            unnamed = outputs(tree)
            for name, start in anonymous_calls(tree):
                if name not in self._functions:
                    self._call(edits, call_at(sql, tokens, start), start in unnamed)
            if (changed := edits.applied()) == sql:
                return sql
            sql = changed
        raise SqlError("VIEW_EXCEED_MAX_NESTED_DEPTH", f"Views are nested more than {MAX_ROUNDS} deep.", "54K00")

    def qualified(self, sql: str) -> str:
        """A query with the full names of its tables and functions, as a view keeps it."""
        edits, tree = Edits(sql), parsed(sql)
        for table in tables(tree):
            if isinstance(table.this, exp.Identifier) and len(table.parts) < 3 and not files.is_path(table):
                edits.replace(table_span(table), quoted(*self._full_name(table).split(".")))
        tokens = tokens_of(sql)
        for name, start in anonymous_calls(tree):
            if name.count(".") < 2 and self._record("function", self._completed(name)):
                call = call_at(sql, tokens, start)
                end = start + sql[start : call.span[1]].index("(")
                edits.replace((start, end), quoted(*self._completed(name).split(".")))
        return edits.applied()

    def relation(self, rows: DataFrame | pa.Table) -> str:
        """The name, for this statement alone, of rows."""
        name = f"local_{uuid.uuid4().hex}"
        frame = rows
        if isinstance(rows, pa.Table):
            # The schema goes along: of no rows none can be told.
            frame = self._session.createDataFrame(rows, from_arrow_schema(rows.schema))
        frame.createOrReplaceTempView(name)
        self._relations.append(name)
        return name

    def _completed(self, name: str) -> str:
        given = name.lower().split(".")
        return ".".join([*self._namespace[: 3 - len(given)], *given])

    def _full_name(self, table: exp.Table) -> str:
        return self._completed(".".join(part.name for part in table.parts))

    def _record(self, kind: str, full_name: str) -> dict[str, Any] | None:
        key = (kind, full_name)
        if key not in self._records:
            found = self._lake.catalog.find(kind, full_name) if full_name.count(".") == 2 else None
            if found and (kind == "function" or found["table_type"] == "VIEW"):
                self._lake.names.add(found["name"])
            self._records[key] = found
        return self._records[key]

    def _with_rows_of_functions(self, sql: str) -> str:
        """The statement with the rows of its table functions as relations: sqlglot has a grammar for some."""
        edits, tokens = Edits(sql), tokens_of(sql)
        for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
            rows = ROWS.get(token.text.lower()) if after.token_type is TokenType.L_PAREN else None
            if rows and not (before and before.token_type is TokenType.DOT):
                call = call_at(sql, tokens, token.start)
                edits.replace(call.span, self.relation(rows(self._lake, self._session, call)))
        return edits.applied()

    def _table(self, edits: Edits, table: exp.Table) -> None:
        if len(table.parts) == 1 and table.name in self._relations:
            return
        if files.is_path(table):
            frame = files.read_path(self._lake, self._session, table.db.lower(), table.name)
            self._put(edits, table, self.relation(frame))
            return
        full_name = self._full_name(table)
        if full_name.split(".")[1] == "information_schema":
            rows = information_schema.rows(self._lake, full_name.split(".")[0], table.name.lower())
            self._put(edits, table, self.relation(rows))
            return
        record = self._record("table", full_name)
        if not record or record["table_type"] != "VIEW" or is_definition(table):
            return
        if full_name == self._defining:
            raise SqlError("RECURSIVE_VIEW", f"The view {full_name} would contain itself.", "42K0H")
        if is_target(table):
            raise not_a_table(full_name)
        columns = [
            f"{quoted(source)} AS {quoted(field['name'])}"
            for source, field in zip(record["view"]["columns"], record["fields"], strict=True)
        ]
        # The statement is the view's own; only column names are put around it.
        self._put(edits, table, f"(SELECT {', '.join(columns)} FROM (\n{record['view']['query']}\n))")

    def _put(self, edits: Edits, table: exp.Table, text: str) -> None:
        if table.args.get("version"):
            raise unsupported(f"time travel on {table.name}: only tables have versions")
        named = table.args.get("alias") or files.is_path(table)
        alias = "" if named else f" AS {quoted(table.name)}"
        edits.replace(table_span(table), text + alias)

    def _call(self, edits: Edits, call: Call, unnamed: bool) -> None:
        """Put in what a call stands for; as a column it keeps the name that the call gives it."""
        name = call.name.lower()
        written = edits.sql[slice(*call.span)]
        if name in ai.FUNCTIONS:
            function, asked = ai.ai_query(self._lake, self._session, call)
            text = asked(self._registered(function))
        elif record := self._record("function", self._completed(name)):
            written = record["full_name"] + written[written.index("(") :]
            text = self._function(record, call)
        else:
            return
        edits.replace(call.span, f"{text} AS {quoted(written)}" if unnamed else text)

    def _function(self, record: dict[str, Any], call: Call) -> str:
        if record["routine_body"] == "EXTERNAL":
            arguments = ", ".join(functions.arguments(record, call))
            return f"{self._registered(functions.python_udf(record))}({arguments})"
        catalog, schema = (record.get("sql_path") or record["full_name"].rpartition(".")[0]).split(".")
        home = Expansion(self._lake, self._session, catalog, schema)
        return functions.inlined(record, call, home.qualified)

    def _registered(self, function: Any) -> str:
        name = f"local_{uuid.uuid4().hex}"
        self._session.udf.register(name, function)
        self._functions.add(name)
        return name


def analyzed(lake: Lake, query: str, catalog: str, schema: str, defining: str = "") -> list[dict[str, Any]]:
    """A query's columns as Delta schema fields. Raises SqlError, also for a view (`defining`) that contains itself."""
    if not isinstance(parsed(query), exp.Query):
        raise syntax("a query is expected.")
    with (
        lake.sail.session(catalog, schema) as session,
        Expansion(lake, session, catalog, schema, defining) as expansion,
    ):
        written = written_out(session, sql := expansion.expand(query), tokens_of(sql))
        for reading in paths.readings(written, tokens_of(written)):
            try:
                return session.sql(reading).schema.jsonValue()["fields"]
            except PySparkException as error:
                refused = error
                if not paths.misread(error):
                    break
    raise from_sail(refused, []) from refused

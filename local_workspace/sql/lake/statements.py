"""One SQL statement: told apart by sqlglot's Databricks tokens, then run by Sail, delta-rs or the catalog."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.errors import PySparkException
from pyspark.sql.connect.plan import SQL
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake import altering, definitions, files, inserts, paths
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.dispatch import command_of
from local_workspace.sql.lake.errors import SqlError, from_sail, unsupported
from local_workspace.sql.lake.expansion import Expansion
from local_workspace.sql.lake.parameters import bind, placed
from local_workspace.sql.lake.rewriting import DIALECT, parsed, tables
from local_workspace.sql.lake.shorthand import written_out
from local_workspace.sql.lake.tokens import explained, tokens_of
from local_workspace.sql.lake.words import Words

CONFLICT_SECONDS = 30.0
# What Sail says of names it does not know; the catalog may know them.
UNKNOWN = ("TABLE_OR_VIEW_NOT_FOUND", "UNRESOLVED_ROUTINE", "SCHEMA_NOT_FOUND")

# The metrics of a Delta commit that say how many rows a statement changed.
METRICS: dict[str, dict[str, tuple[str, ...]]] = {
    "UPDATE": {"num_affected_rows": ("numUpdatedRows",)},
    "DELETE": {"num_affected_rows": ("numDeletedRows",)},
    "MERGE": {
        "num_affected_rows": ("numTargetRowsUpdated", "numTargetRowsDeleted", "numTargetRowsInserted"),
        "num_updated_rows": ("numTargetRowsUpdated",),
        "num_deleted_rows": ("numTargetRowsDeleted",),
        "num_inserted_rows": ("numTargetRowsInserted",),
    },
}


@dataclass
class Statement:
    """A statement as it was sent."""

    sql: str
    catalog: str
    schema: str
    user: str
    parameters: list[dict[str, Any]] = field(default_factory=list)
    session: SparkSession | None = None
    """The session while Sail works on it: what `cancel` interrupts."""
    cancelled: bool = False
    explain: str = ""
    """EXPLAIN and its options, when a plan is asked for and not rows."""

    def facts(self) -> dict[str, str]:
        """What SQL functions without arguments tell about who asks, and where."""
        users = dict.fromkeys(("current_user", "session_user", "user"), self.user)
        schemas = dict.fromkeys(("current_schema", "current_database"), self.schema)
        return users | schemas | {"current_catalog": self.catalog}

    def cancel(self) -> None:
        """Interrupt it."""
        self.cancelled = True
        if self.session:
            self.session.interruptAll()


def run(lake: Lake, statement: Statement) -> pa.Table:
    """The result of a statement. Raises SqlError."""
    sql, tokens = statement.sql, tokens_of(statement.sql)
    bound = bind(sql, tokens, statement.parameters).rstrip().rstrip(";")
    if bound != sql:
        sql, tokens = bound, tokens_of(bound)
    try:
        if command := command_of([token.text.upper() for token in tokens[:4]]):
            return command(lake, Words(sql, tokens, statement.catalog, statement.schema))
        return _run_with_sail(lake, statement, sql, tokens)
    except (PySparkException, DeltaError) as error:
        raise from_sail(error, _table_names(sql, statement)) from error


def _run_with_sail(lake: Lake, statement: Statement, sql: str, tokens: list[Token]) -> pa.Table:
    namespace = [statement.catalog, statement.schema]
    if query := explained(sql, tokens):
        # Only the query that is explained has names, and sqlglot does not read EXPLAIN.
        statement.explain, sql = sql[:query], sql[query:]
        tokens = tokens_of(sql)
    with lake.sail.session(*namespace) as session, Expansion(lake, session, *namespace) as expansion:
        statement.session = session
        try:
            suspicious = expansion.suspects(tokens)
            try:
                ready = expansion.expand(sql) if suspicious else sql
                return _work(lake, statement, session, ready, tokens if ready == sql else tokens_of(ready))
            except PySparkException as error:
                if suspicious or from_sail(error, []).condition not in UNKNOWN:
                    raise
                expanded = expansion.expand(sql)
                if expanded == sql:
                    raise
                return _work(lake, statement, session, expanded, tokens_of(expanded))
        finally:
            statement.session = None


def _work(lake: Lake, statement: Statement, session: SparkSession, sql: str, tokens: list[Token]) -> pa.Table:
    """A statement whose names Sail knows, with the facts about who asks put in, and shorthand written out."""
    if files.named_by_path(tokens):
        raise unsupported("a file by its path (format.`path`) here: it can be read in FROM")
    told = placed(sql, tokens, statement.facts())
    if told != sql:
        sql, tokens = told, tokens_of(told)
    written = written_out(session, sql, tokens)
    if written != sql:
        sql, tokens = written, tokens_of(written)
    namespace = [statement.catalog, statement.schema]
    for reading in paths.readings(sql, tokens):
        try:
            read = tokens if reading == sql else tokens_of(reading)
            return _run(lake, statement, session, Words(reading, read, *namespace))
        except PySparkException as error:
            if not paths.misread(error):
                raise
            refused = error
    raise refused


def _run(lake: Lake, statement: Statement, session: SparkSession, words: Words) -> pa.Table:
    if statement.explain:
        return _query(session, statement.explain + words.sql)
    verb = words.verb()
    namespace = [statement.catalog, statement.schema]
    if verb == "CREATE":
        words = definitions.without_deep(words)
        statement_tree = _parsed(words.sql, exp.Create, "TABLE")
        return definitions.create_table(lake, statement_tree, _query_of(words, statement_tree), session, namespace)
    if verb == "ALTER":
        return altering.alter_table(lake, words, session)
    if verb == "INSERT":
        sql = inserts.rewritten(lake, words)
        count = _again_after_conflicts(statement, lambda: session.sql(sql).toArrow())["count"].to_pylist()
        return _counts({"num_affected_rows": sum(count), "num_inserted_rows": sum(count)})
    if verb in METRICS:
        inserts.refuse_defaults(lake, words)
        return _rewrite(lake, statement, words.sql, verb, session)
    return _query(session, words.sql)


def _query(session: SparkSession, sql: str) -> pa.Table:
    # One round trip; `session.sql(…).toArrow()` takes two.
    rows, _schema, _info = session.client.to_table(SQL(sql).to_proto(session.client), {})
    return rows


def _rewrite(lake: Lake, statement: Statement, sql: str, verb: str, session: SparkSession) -> pa.Table:
    """UPDATE, DELETE or MERGE: one at a time for a table; the row counts come from its commit."""
    name = definitions.full_name(_parsed(sql, exp.Expression).this, statement.catalog, statement.schema)
    location = lake.location(name)
    with lake.tables.lock(location):
        before = lake.tables.open(location).version()
        _again_after_conflicts(statement, lambda: session.sql(sql).toArrow())
        commits = lake.tables.open(location).history(20)
    metrics = next(
        (c.get("operationMetrics") or {} for c in commits if c["version"] > before and c.get("operation") == verb), {}
    )
    return _counts({name: sum(int(metrics.get(key, 0)) for key in keys) for name, keys in METRICS[verb].items()})


def _again_after_conflicts(statement: Statement, work: Callable[[], pa.Table]) -> pa.Table:
    """Run again what lost a race against another writer, until a deadline."""
    deadline = time.monotonic() + CONFLICT_SECONDS
    pause = 0.01
    while True:
        try:
            return work()
        except PySparkException as error:
            conflict = from_sail(error, []).condition == "DELTA_CONCURRENT_WRITE"
            if not conflict or statement.cancelled or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 (jitter)
            pause = min(pause * 2, 1.0)


def _counts(counts: dict[str, int]) -> pa.Table:
    return pa.table({name: pa.array([count], pa.int64()) for name, count in counts.items()})


def _parsed(sql: str, kind: type[exp.Expression], what: str = "") -> Any:
    tree = parsed(sql)
    if not isinstance(tree, kind) or (what and (tree.args.get("kind") or "").upper() != what):
        raise unsupported(" ".join(sql.split()[:3]).upper())
    return tree


def _query_of(words: Words, tree: exp.Create) -> str:
    """The text after AS in CREATE TABLE … AS, exactly as written."""
    if tree.expression is None:
        return ""
    depth = 0
    for token, after in zip(words.tokens, words.tokens[1:], strict=False):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0 and token.text.upper() == "AS":
            return words.sql[after.start :]
    # AS may be left out.
    return tree.expression.sql(DIALECT)


def _table_names(sql: str, statement: Statement) -> list[str]:
    try:
        found = list(tables(parsed(sql)))
    except SqlError:
        return []
    return [definitions.full_name(table, statement.catalog, statement.schema) for table in found if table.name]

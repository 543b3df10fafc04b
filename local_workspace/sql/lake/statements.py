"""One SQL statement: told apart by sqlglot's Databricks tokens, then run by Sail, delta-rs or the catalog."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import sqlglot
from pyspark.errors import PySparkException
from pyspark.sql.connect.plan import SQL
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp
from sqlglot.dialects import Databricks
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake import commands, definitions, inserts, maintenance
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import from_sail, syntax, unsupported
from local_workspace.sql.lake.parameters import bind, paths, placed
from local_workspace.sql.lake.words import Words

DIALECT = "databricks"
CONFLICT_SECONDS = 30.0

COMMANDS: dict[tuple[str, ...], commands.Command] = {
    (): commands.empty,
    ("CREATE", "CATALOG"): commands.create,
    ("CREATE", "SCHEMA"): commands.create,
    ("CREATE", "DATABASE"): commands.create,
    ("CREATE", "VOLUME"): commands.create,
    ("DROP", "CATALOG"): commands.drop,
    ("DROP", "SCHEMA"): commands.drop,
    ("DROP", "DATABASE"): commands.drop,
    ("DROP", "VOLUME"): commands.drop,
    ("DROP", "TABLE"): commands.drop,
    ("USE",): commands.use,
    ("COMMENT", "ON"): commands.comment,
    ("GRANT",): commands.grant,
    ("REVOKE",): commands.grant,
    ("SHOW", "CATALOGS"): commands.show_catalogs,
    ("SHOW", "SCHEMAS"): commands.show_schemas,
    ("SHOW", "DATABASES"): commands.show_schemas,
    ("SHOW", "TABLES"): commands.show_tables,
    ("SHOW", "VOLUMES"): commands.show_volumes,
    ("SHOW", "GRANTS"): commands.show_grants,
    ("SHOW", "COLUMNS"): maintenance.show_columns,
    ("SHOW", "TBLPROPERTIES"): maintenance.show_properties,
    ("OPTIMIZE",): maintenance.optimize,
    ("VACUUM",): maintenance.vacuum,
    ("RESTORE",): maintenance.restore,
    ("TRUNCATE", "TABLE"): maintenance.truncate,
} | {
    (describe, *what): command
    for describe in ("DESCRIBE", "DESC")
    for what, command in {
        (): maintenance.describe_table,
        ("HISTORY",): maintenance.describe_history,
        ("DETAIL",): maintenance.describe_detail,
        ("CATALOG",): commands.describe_securable,
        ("SCHEMA",): commands.describe_securable,
        ("DATABASE",): commands.describe_securable,
        ("VOLUME",): commands.describe_securable,
        ("QUERY",): commands.refuse,
        ("FUNCTION",): commands.refuse,
    }.items()
}
REFUSED = {
    "CREATE": ("VIEW", "FUNCTION", "EXTERNAL", "MATERIALIZED", "STREAMING", "TEMPORARY", "TEMP"),
    "DROP": ("VIEW", "FUNCTION", "MATERIALIZED"),
    "ALTER": ("CATALOG", "SCHEMA", "DATABASE", "VOLUME", "VIEW"),
    "SHOW": ("CREATE", "VIEWS", "PARTITIONS"),
    "COPY": ("INTO",),
}
REFUSED_VERBS = ("SET", "CACHE", "UNCACHE", "REFRESH", "ANALYZE", "MSCK", "CALL", "LIST", "DECLARE", "EXECUTE", "BEGIN")
COMMANDS |= {(verb, what): commands.refuse for verb, whats in REFUSED.items() for what in whats}
COMMANDS |= {("CREATE", "OR", "REPLACE", what): commands.refuse for what in REFUSED["CREATE"]}
COMMANDS |= {(verb,): commands.refuse for verb in REFUSED_VERBS}

FILE_FORMATS = ("text", "csv", "json", "parquet", "delta", "orc", "avro", "binaryfile")

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


class Tokenizer(Databricks.Tokenizer):
    """Databricks tokens, all of them: sqlglot's own leaves what follows OPTIMIZE or SHOW in one piece."""

    COMMANDS: ClassVar[set[TokenType]] = set()


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


def tokens_of(sql: str) -> list[Token]:
    """The tokens of exactly one statement, its last `;` left out. Raises SqlError."""
    try:
        tokens = Tokenizer(dialect=DIALECT).tokenize(sql)
    except SqlglotError as error:
        raise syntax(str(error).splitlines()[0]) from error
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        raise syntax("only one statement can be run at a time.")
    return tokens


def run(lake: Lake, statement: Statement) -> pa.Table:
    """The result of a statement. Raises SqlError."""
    tokens = tokens_of(statement.sql)
    sql = placed(statement.sql, tokens, statement.facts())
    if sql != statement.sql:
        tokens = tokens_of(sql)
    bound = bind(sql, tokens, statement.parameters).rstrip().rstrip(";")
    if bound != sql:
        sql, tokens = bound, tokens_of(bound)
    if _names_a_file(tokens):
        raise unsupported("reading files by path (format.`path`): they lie outside the catalog")
    words = Words(sql, tokens, statement.catalog, statement.schema)
    leading = [token.text.upper() for token in tokens[:4]]
    for length in range(len(leading), -1, -1):
        if (length or not leading) and (command := COMMANDS.get(tuple(leading[:length]))):
            return command(lake, words)
    try:
        return _run_with_sail(lake, statement, words, leading[0])
    except PySparkException as error:
        failure = from_sail(error, _table_names(sql, statement))
        if failure.condition == "PARSE_SYNTAX_ERROR" and paths(sql, tokens):
            raise unsupported("the path syntax col:path (use variant_get or get_json_object)") from error
        raise failure from error


def _names_a_file(tokens: list[Token]) -> bool:
    return any(
        form.text.lower() in FILE_FORMATS and dot.token_type is TokenType.DOT and "/" in path.text
        for form, dot, path in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


def _run_with_sail(lake: Lake, statement: Statement, words: Words, verb: str) -> pa.Table:
    namespace = [statement.catalog, statement.schema]
    with lake.sail.session(*namespace) as session:
        statement.session = session
        try:
            if verb == "CREATE":
                parsed = _parsed(words.sql, exp.Create, "TABLE")
                return definitions.create_table(lake, parsed, _query_of(words, parsed), session, namespace)
            if verb == "ALTER":
                return definitions.alter_table(lake, _parsed(words.sql, exp.Alter, "TABLE"), namespace)
            if verb == "INSERT":
                sql = inserts.rewritten(lake, words)
                count = _again_after_conflicts(statement, lambda: session.sql(sql).toArrow())["count"].to_pylist()
                return _counts({"num_affected_rows": sum(count), "num_inserted_rows": sum(count)})
            if verb in METRICS:
                return _rewrite(lake, statement, words.sql, verb, session)
            return _query(session, words.sql)
        finally:
            statement.session = None


def _query(session: SparkSession, sql: str) -> pa.Table:
    # One round trip; `session.sql(…).toArrow()` takes two.
    rows, _schema, _info = session.client.to_table(SQL(sql).to_proto(session.client), {})
    return rows


def _rewrite(lake: Lake, statement: Statement, sql: str, verb: str, session: SparkSession) -> pa.Table:
    """UPDATE, DELETE or MERGE: one at a time for a table; the row counts come from its commit."""
    parsed = _parsed(sql, exp.Expression)
    name = definitions.full_name(parsed.this, statement.catalog, statement.schema)
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
    try:
        parsed = sqlglot.parse_one(sql, dialect=DIALECT)
    except SqlglotError as error:
        raise syntax(str(error).splitlines()[0]) from error
    if not isinstance(parsed, kind) or (what and (parsed.args.get("kind") or "").upper() != what):
        raise unsupported(" ".join(sql.split()[:3]).upper())
    return parsed


def _query_of(words: Words, parsed: exp.Create) -> str:
    """The text after AS in CREATE TABLE … AS, exactly as written."""
    if parsed.expression is None:
        return ""
    depth = 0
    for token, after in zip(words.tokens, words.tokens[1:], strict=False):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if depth == 0 and token.text.upper() == "AS":
            return words.sql[after.start :]
    # AS may be left out.
    return parsed.expression.sql(DIALECT)


def _table_names(sql: str, statement: Statement) -> list[str]:
    try:
        found = sqlglot.parse_one(sql, dialect=DIALECT).find_all(exp.Table)
    except SqlglotError:
        return []
    return [definitions.full_name(table, statement.catalog, statement.schema) for table in found if table.name]

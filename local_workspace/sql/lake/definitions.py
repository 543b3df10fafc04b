"""CREATE TABLE: parsed by sqlglot, done by delta-rs, registered in the catalog.

Sail lacks OR REPLACE and CLUSTER BY, and cannot make a managed table from a query.
Constraints other than NOT NULL and CHECK, and generated columns are refused by name.
"""

import json
import shutil
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp

from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.maintenance import CLUSTERING
from local_workspace.sql.lake.tables import path_of
from local_workspace.sql.lake.tokens import tokens_of
from local_workspace.sql.lake.types import delta_type
from local_workspace.sql.lake.words import Words

CONSTRAINT = "delta.constraints."


def full_name(table: exp.Table, catalog: str, schema: str) -> str:
    """A parsed table name, completed."""
    if not isinstance(table, exp.Table) or not table.name:
        raise unsupported(f"{table.sql('databricks')} as a table name here")
    return f"{table.catalog or catalog}.{table.db or schema}.{table.name}".lower()


def column_field(column: exp.ColumnDef) -> dict[str, Any]:
    """A parsed column as a Delta schema field. Raises SqlError for constraints there are not."""
    field: dict[str, Any] = {
        "name": column.name,
        "type": delta_type(column.args["kind"]),
        "nullable": True,
        "metadata": {},
    }
    for constraint in column.args.get("constraints") or []:
        if isinstance(constraint.kind, exp.NotNullColumnConstraint):
            field["nullable"] = bool(constraint.kind.args.get("allow_null"))
        elif isinstance(constraint.kind, exp.CommentColumnConstraint):
            field["metadata"]["comment"] = constraint.kind.name
        elif isinstance(constraint.kind, exp.DefaultColumnConstraint):
            field["metadata"]["CURRENT_DEFAULT"] = constraint.kind.this.sql("databricks")
        else:
            raise unsupported(f"{constraint.kind.sql('databricks')} of the column {column.name}")
    if column.args.get("position"):
        raise unsupported(f"the position of the column {column.name}")
    return field


def check_default(properties: dict[str, str], column: str) -> None:
    """Refuse a column's default in a table that does not allow defaults."""
    if properties.get("delta.feature.allowColumnDefaults") not in ("supported", "enabled"):
        raise SqlError(
            "WRONG_COLUMN_DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED",
            f"The default of {column} needs the table property 'delta.feature.allowColumnDefaults' = 'supported'.",
            "0AKDE",
        )


def column_names(expressions: list[exp.Expression]) -> list[str]:
    """The names in a list of columns. Raises SqlError for anything else."""
    if any(not isinstance(e, (exp.Identifier, exp.Column)) for e in expressions):
        raise unsupported(f"the column list ({', '.join(e.sql('databricks') for e in expressions)}) here")
    return [e.name for e in expressions]


def property_of(prop: exp.Expression) -> tuple[str, str]:
    """A table property's name and value."""
    key, value = prop.this, prop.args["value"]
    name = key.name if isinstance(key, (exp.Literal, exp.Identifier, exp.Var)) else key.sql("databricks")
    return name, value.name if isinstance(value, exp.Literal) else value.sql("databricks").lower()


class Definition:
    """What a CREATE TABLE says."""

    def __init__(self, statement: exp.Create):
        self.fields: list[dict[str, Any]] = []
        self.properties: dict[str, str] = {}
        self.comment: str | None = None
        self.partition_by: list[str] = []
        self.checks: dict[str, str] = {}
        self.like: exp.Table | None = None
        target = statement.this
        if isinstance(target, exp.Schema):
            for column in target.expressions:
                self._read_column(column)
        properties = statement.args.get("properties")
        for prop in properties.expressions if properties else []:
            self._read(prop)

    def _read_column(self, column: exp.Expression) -> None:
        if isinstance(column, exp.ColumnDef):
            self.fields.append(column_field(column))
        elif isinstance(column, exp.Constraint) and isinstance(column.expressions[0], exp.CheckColumnConstraint):
            self.checks[column.name.lower()] = column.expressions[0].this.sql("databricks")
        else:
            raise unsupported(f"{column.sql('databricks')} in CREATE TABLE")

    def copy(self, lake: Lake, location: str) -> None:
        """Take over the columns, partitions and properties of another table."""
        metadata = lake.tables.open(location).metadata()
        # Physical names are the other table's own.
        own = ("delta.columnMapping.physicalName", "delta.columnMapping.id")
        self.fields = [
            field | {"metadata": {key: value for key, value in field["metadata"].items() if key not in own}}
            for field in lake.tables.fields(location)
        ]
        self.partition_by = metadata.partition_columns
        for key, value in metadata.configuration.items():
            if key.startswith(CONSTRAINT):
                self.checks[key.removeprefix(CONSTRAINT)] = value
            elif key != "delta.columnMapping.maxColumnId":
                self.properties.setdefault(key, value)
        self.comment = self.comment or metadata.description

    def _read(self, prop: exp.Expression) -> None:
        if isinstance(prop, exp.FileFormatProperty):
            if prop.name.upper() != "DELTA":
                raise unsupported(f"USING {prop.name.upper()}: tables are Delta here")
        elif isinstance(prop, exp.SchemaCommentProperty):
            self.comment = prop.name
        elif isinstance(prop, exp.PartitionedByProperty):
            self.partition_by = column_names(prop.this.expressions)
        elif isinstance(prop, exp.ClusterProperty):
            if columns := column_names(prop.expressions):
                self.properties[CLUSTERING] = json.dumps(columns)
        elif isinstance(prop, exp.LikeProperty):
            self.like = prop.this
        elif type(prop) is exp.Property:
            name, value = property_of(prop)
            self.properties[name] = value
        else:
            raise unsupported(f"{prop.sql('databricks')} in CREATE TABLE")

    def check(self) -> None:
        """Refuse unknown columns in PARTITIONED BY and CLUSTER BY, and columns named twice."""
        names = [field["name"].lower() for field in self.fields]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise SqlError("COLUMN_ALREADY_EXISTS", f"The column {', '.join(sorted(doubled))} already exists.", "42711")
        for column in [*self.partition_by, *json.loads(self.properties.get(CLUSTERING, "[]"))]:
            if column.lower() not in names:
                raise SqlError("UNRESOLVED_COLUMN", f"A column with name `{column}` cannot be resolved.", "42703")
        for field in self.fields:
            if "CURRENT_DEFAULT" in field["metadata"]:
                check_default(self.properties, field["name"])


def _cloned(statement: exp.Create) -> exp.Table | None:
    """The table that a CREATE TABLE … CLONE copies."""
    if clone := statement.args.get("clone"):
        if clone.args.get("shallow"):
            raise unsupported("SHALLOW CLONE: a table's files are its own here. DEEP CLONE copies them")
        return clone.this
    return None


def without_deep(words: Words) -> Words:
    """`CREATE TABLE … DEEP CLONE` as sqlglot reads it: a clone is deep unless it says SHALLOW."""
    for token, after in zip(words.tokens, words.tokens[1:], strict=False):
        if (token.text.upper(), after.text.upper()) == ("DEEP", "CLONE"):
            sql = words.sql[: token.start] + words.sql[after.start :]
            return Words(sql, tokens_of(sql), words.catalog, words.schema)
    return words


def create_table(
    lake: Lake, statement: exp.Create, query: str, session: SparkSession, namespace: list[str]
) -> pa.Table:
    """CREATE [OR REPLACE] TABLE [IF NOT EXISTS] …, with `query` as its rows if there is one."""
    definition = Definition(statement)
    target = statement.this.this if isinstance(statement.this, exp.Schema) else statement.this
    name = full_name(target, *namespace)
    replace, if_missing = bool(statement.args.get("replace")), bool(statement.args.get("exists"))
    found = lake.catalog.find("table", name)
    if found and if_missing:
        return NOTHING
    if found and not replace:
        raise SqlError(
            "TABLE_OR_VIEW_ALREADY_EXISTS",
            f"Cannot create table or view {name} because it already exists. Use IF NOT EXISTS or OR REPLACE.",
            "42P07",
        )
    rows = None
    if source := definition.like or _cloned(statement):
        definition.copy(lake, lake.location(full_name(source, *namespace)))
        query = f"TABLE {source.sql('databricks')}" if definition.like is None else ""
    if query:
        # Read before the table is replaced: the query may select from it.
        frame = session.sql(query)
        rows = frame.toArrow()
        if definition.fields and not source:
            raise unsupported("a column list with AS SELECT")
        definition.fields = definition.fields or [
            {"name": f["name"], "type": f["type"], "nullable": True, "metadata": {}}
            for f in frame.schema.jsonValue()["fields"]
        ]
    if not definition.fields:
        raise unsupported("a table without columns")
    definition.check()
    if found:
        _write(lake, found["storage_location"], definition, rows, replace=True)
        changes = {"comment": definition.comment or ""}
        lake.refresh(name, found["storage_location"], **changes)
    else:
        _create_new(lake, name, definition, rows, if_missing)
    return NOTHING


def _write(lake: Lake, location: str, definition: Definition, rows: pa.Table | None, replace: bool) -> None:
    try:
        with lake.tables.lock(location):
            lake.tables.create(
                location,
                definition.fields,
                properties=definition.properties,
                comment=definition.comment,
                partition_by=definition.partition_by,
                replace=replace,
            )
            if definition.checks:
                lake.tables.open(location).alter.add_constraint(definition.checks)
    except DeltaError as error:
        raise SqlError("DELTA_CREATE_TABLE_FAILED", str(error), "42000") from error
    if rows is not None and rows.num_rows:
        lake.tables.append(location, rows)


def _create_new(lake: Lake, name: str, definition: Definition, rows: pa.Table | None, if_missing: bool) -> None:
    catalog, schema, table = name.split(".")
    body: dict[str, Any] = {"catalog_name": catalog, "schema_name": schema, "name": table}
    location = lake.catalog.engine("POST", "staging-tables", json=body)["staging_location"]
    try:
        _write(lake, location, definition, rows, replace=False)
        lake.catalog.engine(
            "POST",
            "tables",
            json=body
            | {
                "fields": lake.tables.fields(location),
                "storage_location": location,
                "comment": definition.comment,
                "properties": lake.tables.open(location).metadata().configuration,
            },
        )
    except SqlError as error:
        shutil.rmtree(path_of(location), ignore_errors=True)
        if not (if_missing and error.condition == "TABLE_OR_VIEW_ALREADY_EXISTS"):
            raise

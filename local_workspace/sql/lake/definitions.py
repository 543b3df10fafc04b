"""CREATE TABLE and ALTER TABLE: parsed by sqlglot, done by delta-rs, registered in the catalog.

Sail lacks OR REPLACE, CLUSTER BY and most of ALTER, and cannot make a managed table from a query.
Constraints other than NOT NULL, defaults and generated columns are refused by name.
"""

import json
import shutil
from typing import Any

import pyarrow as pa
from deltalake import Field as DeltaField
from deltalake.exceptions import DeltaError
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp

from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.maintenance import CLUSTERING
from local_workspace.sql.lake.tables import path_of
from local_workspace.sql.lake.types import delta_type


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
            field["metadata"] = {"comment": constraint.kind.name}
        else:
            raise unsupported(f"{constraint.kind.sql('databricks')} of the column {column.name}")
    if column.args.get("position"):
        raise unsupported(f"the position of the column {column.name}")
    return field


def _columns(expressions: list[exp.Expression]) -> list[str]:
    if any(not isinstance(e, (exp.Identifier, exp.Column)) for e in expressions):
        raise unsupported(f"the column list ({', '.join(e.sql('databricks') for e in expressions)}) here")
    return [e.name for e in expressions]


def _property(prop: exp.Property) -> tuple[str, str]:
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
        target = statement.this
        if statement.args.get("clone"):
            raise unsupported("CREATE TABLE … CLONE")
        if isinstance(target, exp.Schema):
            for column in target.expressions:
                if not isinstance(column, exp.ColumnDef):
                    raise unsupported(f"{column.sql('databricks')} in CREATE TABLE")
                self.fields.append(column_field(column))
        properties = statement.args.get("properties")
        for prop in properties.expressions if properties else []:
            self._read(prop)

    def _read(self, prop: exp.Expression) -> None:
        if isinstance(prop, exp.FileFormatProperty):
            if prop.name.upper() != "DELTA":
                raise unsupported(f"USING {prop.name.upper()}: tables are Delta here")
        elif isinstance(prop, exp.SchemaCommentProperty):
            self.comment = prop.name
        elif isinstance(prop, exp.PartitionedByProperty):
            self.partition_by = _columns(prop.this.expressions)
        elif isinstance(prop, exp.ClusterProperty):
            if columns := _columns(prop.expressions):
                self.properties[CLUSTERING] = json.dumps(columns)
        elif type(prop) is exp.Property:
            name, value = _property(prop)
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
    if query:
        # Read before the table is replaced: the query may select from it.
        frame = session.sql(query)
        rows = frame.toArrow()
        if definition.fields:
            raise unsupported("a column list with AS SELECT")
        definition.fields = [
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
                "fields": definition.fields,
                "storage_location": location,
                "comment": definition.comment,
                "properties": definition.properties,
            },
        )
    except SqlError as error:
        shutil.rmtree(path_of(location), ignore_errors=True)
        if not (if_missing and error.condition == "TABLE_OR_VIEW_ALREADY_EXISTS"):
            raise


def alter_table(lake: Lake, statement: exp.Alter, namespace: list[str]) -> pa.Table:
    """ALTER TABLE … ADD COLUMN(S) | SET TBLPROPERTIES | CLUSTER BY | ALTER COLUMN … COMMENT."""
    name = full_name(statement.this, *namespace)
    location = lake.location(name)
    with lake.tables.lock(location):
        for action in statement.args["actions"]:
            _alter(lake, location, action)
        lake.refresh(name, location)
    return NOTHING


def _alter(lake: Lake, location: str, action: exp.Expression) -> None:
    alter = lake.tables.open(location).alter
    if isinstance(action, (exp.Schema, exp.ColumnDef)):
        columns = action.expressions if isinstance(action, exp.Schema) else [action]
        _add_columns(lake, location, columns)
    elif isinstance(action, exp.AlterSet) and isinstance(action.expressions[0], exp.Properties):
        properties = dict(_property(prop) for prop in action.expressions[0].expressions)
        alter.set_table_properties(properties, raise_if_not_exists=False)
    elif isinstance(action, exp.ClusterProperty):
        clustering = json.dumps(_columns(action.expressions))
        alter.set_table_properties({CLUSTERING: clustering}, raise_if_not_exists=False)
    elif isinstance(action, exp.AlterColumn) and action.args.get("comment"):
        alter.set_column_metadata(action.name, {"comment": action.args["comment"].name})
    else:
        raise unsupported(f"ALTER TABLE … {action.sql('databricks')}")


def _add_columns(lake: Lake, location: str, columns: list[exp.ColumnDef]) -> None:
    present = {field["name"].lower() for field in lake.tables.fields(location)}
    added = []
    for column in columns:
        field = column_field(column)
        if field["name"].lower() in present:
            if column.args.get("exists"):
                continue
            raise SqlError(
                "FIELD_ALREADY_EXISTS", f"Cannot add column, because {field['name']} already exists.", "42710"
            )
        if not field["nullable"]:
            raise unsupported(f"NOT NULL for the new column {field['name']}: rows that are there have no value for it")
        added.append(DeltaField.from_json(json.dumps(field)))
    if added:
        lake.tables.open(location).alter.add_columns(added)

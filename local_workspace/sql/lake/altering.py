"""ALTER TABLE: parsed by sqlglot where it can be, done by delta-rs or by a commit of the table's metadata."""

import json
from typing import Any

import pyarrow as pa
from deltalake import Field as DeltaField
from deltalake.exceptions import DeltaError
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp

from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.definitions import (
    CONSTRAINT,
    check_default,
    column_field,
    column_names,
    full_name,
    property_of,
)
from local_workspace.sql.lake.delta_log import MODE, Metadata, change_metadata
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.maintenance import CLUSTERING
from local_workspace.sql.lake.rewriting import parsed, quoted
from local_workspace.sql.lake.securables import owned, tagged
from local_workspace.sql.lake.tables import inert
from local_workspace.sql.lake.views import rename, unset_names
from local_workspace.sql.lake.words import Words


def alter_table(lake: Lake, words: Words, session: SparkSession) -> pa.Table:
    """ALTER TABLE name …. Raises SqlError, with its documented class where column mapping is needed."""
    words.expect("ALTER", "TABLE")
    name = words.name(3).lower()
    location = lake.location(name)
    if owned(lake, words, "table", name) or tagged(lake, words, "table", name):
        return NOTHING
    target = Target(lake, session, name, location)
    with lake.tables.lock(location):
        if words.take("UNSET", "TBLPROPERTIES"):
            names = unset_names(words)
            words.end()
            target.change("UNSET TBLPROPERTIES", lambda m: [m.properties.pop(key, None) for key in names])
        else:
            tree = parsed(words.sql)
            if not isinstance(tree, exp.Alter):
                raise unsupported(f"ALTER TABLE … {words.peek()}")
            if isinstance(action := tree.args["actions"][0], exp.AlterRename):
                rename(lake, name, full_name(action.this, words.catalog, words.schema))
                return NOTHING
            for action in tree.args["actions"]:
                target.alter(action)
        lake.refresh(name, location)
    return NOTHING


class Target:
    """The table that is altered."""

    def __init__(self, lake: Lake, session: SparkSession, name: str, location: str):
        self._lake = lake
        self._session = session
        self._name = name
        self._location = location

    @property
    def _table(self) -> Any:
        return self._lake.tables.open(self._location)

    def change(self, operation: str, change: Any) -> None:
        """Commit a change of the table's metadata."""
        change_metadata(self._table, operation, change)

    def alter(self, action: exp.Expression) -> None:
        """Do one action. Raises SqlError."""
        kind = str(action.args.get("kind")).upper()
        if isinstance(action, (exp.Schema, exp.ColumnDef)):
            self._add_columns(action.expressions if isinstance(action, exp.Schema) else [action])
        elif isinstance(action, exp.AlterSet) and action.expressions:
            self._set_properties(dict(property_of(prop) for prop in action.expressions[0].expressions))
        elif isinstance(action, exp.ClusterProperty):
            clustering = json.dumps(column_names(action.expressions))
            self._table.alter.set_table_properties({CLUSTERING: clustering}, raise_if_not_exists=False)
        elif isinstance(action, exp.AlterColumn):
            self._alter_column(action)
        elif isinstance(action, exp.RenameColumn):
            self._rename_column(action.this.name, action.args["to"].name)
        elif isinstance(action, exp.Drop) and kind in ("COLUMN", "COLUMNS"):
            self._drop_columns(action)
        elif isinstance(action, exp.AddConstraint):
            for constraint in action.expressions:
                self._add_constraint(constraint)
        elif isinstance(action, exp.Drop) and kind == "CONSTRAINT":
            self._drop_constraint(action)
        else:
            raise unsupported(f"ALTER TABLE … {action.sql('databricks')}")

    def _set_properties(self, properties: dict[str, str]) -> None:
        mode = properties.pop(MODE, None)
        if mode not in (None, "name"):
            raise unsupported(f"the column mapping mode {mode!r}: there is 'name'")
        if mode:
            table = self._table
            self.change("SET TBLPROPERTIES", lambda metadata: metadata.map_columns(table))
        # The protocol's versions follow from the features.
        kept = {k: v for k, v in properties.items() if k not in ("delta.minReaderVersion", "delta.minWriterVersion")}
        if kept:
            self._table.alter.set_table_properties(inert(kept), raise_if_not_exists=False)

    def _add_columns(self, columns: list[exp.ColumnDef]) -> None:
        present = {field["name"].lower() for field in self._lake.tables.fields(self._location)}
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
                raise unsupported(
                    f"NOT NULL for the new column {field['name']}: rows that are there have no value for it"
                )
            if "CURRENT_DEFAULT" in field["metadata"]:
                raise SqlError(
                    "WRONG_COLUMN_DEFAULTS_FOR_DELTA_ALTER_TABLE_ADD_COLUMN_NOT_SUPPORTED",
                    f"Cannot add the column {field['name']} with a default: add it, then ALTER COLUMN … SET DEFAULT.",
                    "0AKDC",
                )
            added.append(field)
        if Metadata.of(self._table).mapped:
            self.change("ADD COLUMNS", lambda metadata: metadata.add(added))
        elif added:
            self._table.alter.add_columns([DeltaField.from_json(json.dumps(field)) for field in added])

    def _alter_column(self, action: exp.AlterColumn) -> None:
        name = self._lake.tables.column(self._location, action.name)
        if action.args.get("comment"):
            self._table.alter.set_column_metadata(name, {"comment": action.args["comment"].name})
        elif default := action.args.get("default"):
            text = default.sql("databricks")
            check_default(self._table.metadata().configuration, name)
            self._session.sql(f"SELECT {text}").schema  # noqa: B018 (Sail refuses what is no expression)
            self._table.alter.set_column_metadata(name, {"CURRENT_DEFAULT": text})
        elif action.args.get("allow_null") is False:
            self._refuse_rows(name, "IS NULL", "DELTA_NEW_NOT_NULL_VIOLATION", f"NOT NULL of {name}")
            self.change("CHANGE COLUMN", lambda metadata: metadata.column(name).update(nullable=False))
        elif action.args.get("allow_null"):
            self.change("CHANGE COLUMN", lambda metadata: metadata.column(name).update(nullable=True))
        elif action.args.get("drop"):
            self.change(
                "CHANGE COLUMN", lambda metadata: metadata.column(name)["metadata"].pop("CURRENT_DEFAULT", None)
            )
        elif action.args.get("dtype"):
            raise SqlError(
                "DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP",
                f"ALTER TABLE CHANGE COLUMN is not supported for changing the type of {name}.",
                "0AKDC",
            )
        else:
            raise unsupported(f"ALTER TABLE … {action.sql('databricks')}")

    def _refuse_rows(self, expression: str, test: str, condition: str, what: str) -> None:
        column = expression if test == "" else f"{quoted(expression)} {test}"
        # Names and the user's own expression.
        query = f"SELECT count(*) AS n FROM {quoted(*self._name.split('.'))} WHERE {column}"
        if count := self._session.sql(query).toArrow()["n"].to_pylist()[0]:
            raise SqlError(condition, f"{count} rows in {self._name} violate the new {what}.", "23512")

    def _mapped_column(self, name: str, condition: str, verb: str) -> str:
        column = self._lake.tables.column(self._location, name)
        if not Metadata.of(self._table).mapped:
            raise SqlError(
                condition,
                f"Column {verb} is not supported for your Delta table. Enable column mapping first: "
                f"ALTER TABLE {self._name} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name').",
                "0AKDC",
            )
        if column in self._table.metadata().partition_columns:
            raise SqlError(condition, f"Column {verb} is not supported for the partition column {column}.", "0AKDC")
        for key, check in self._table.metadata().configuration.items():
            used = {c.name.lower() for c in parsed(f"SELECT {check}").find_all(exp.Column)}
            if key.startswith(CONSTRAINT) and column.lower() in used:
                raise SqlError(
                    "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE",
                    f"Cannot change the column {column}: the check constraint {key.removeprefix(CONSTRAINT)} uses it.",
                    "42K09",
                )
        return column

    def _rename_column(self, name: str, to: str) -> None:
        column = self._mapped_column(name, "DELTA_UNSUPPORTED_RENAME_COLUMN", "rename")
        if to.lower() in {field["name"].lower() for field in self._lake.tables.fields(self._location)}:
            raise SqlError("FIELD_ALREADY_EXISTS", f"Cannot rename column, because {to} already exists.", "42710")

        def renamed(metadata: Metadata) -> None:
            metadata.column(column)["name"] = to
            if clustering := metadata.properties.get(CLUSTERING):
                names = [to if clustered == column else clustered for clustered in json.loads(clustering)]
                metadata.properties[CLUSTERING] = json.dumps(names)

        self.change("RENAME COLUMN", renamed)

    def _drop_columns(self, action: exp.Drop) -> None:
        dropped = []
        for target in action.args["tables"]:
            for column in target.expressions if isinstance(target, exp.Schema) else [target]:
                dropped.append(self._mapped_column(column.name, "DELTA_UNSUPPORTED_DROP_COLUMN", "drop"))

        def without(metadata: Metadata) -> None:
            metadata.fields = [field for field in metadata.fields if field["name"] not in dropped]

        if len(dropped) >= len(self._lake.tables.fields(self._location)):
            raise unsupported("a table without columns")
        self.change("DROP COLUMNS", without)

    def _add_constraint(self, constraint: exp.Expression) -> None:
        checks = [c for c in constraint.expressions if isinstance(c, exp.CheckColumnConstraint)]
        if not checks:
            raise unsupported(f"the constraint {constraint.sql('databricks')}: there is CHECK and NOT NULL")
        name, check = constraint.name.lower(), checks[0].this.sql("databricks")
        if CONSTRAINT + name in self._table.metadata().configuration:
            raise SqlError("DELTA_CONSTRAINT_ALREADY_EXISTS", f"Constraint {name} already exists.", "42710")
        self._refuse_rows(f"NOT ({check})", "", "DELTA_NEW_CHECK_CONSTRAINT_VIOLATION", f"constraint {name} ({check})")
        try:
            self._table.alter.add_constraint({name: check})
        except DeltaError as error:
            raise unsupported(f"the check {check}: {error}") from error

    def _drop_constraint(self, action: exp.Drop) -> None:
        name = action.args["tables"][0].name.lower()
        if CONSTRAINT + name in self._table.metadata().configuration:
            self._table.alter.drop_constraint(name)
        elif not action.args.get("exists"):
            raise SqlError("DELTA_CONSTRAINT_DOES_NOT_EXIST", f"There is no constraint {name}.", "42704")

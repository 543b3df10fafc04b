"""Rows of a data frame on their way into one Delta table: computed by Sail, written piece by piece by delta-rs.

A new table appears in the catalog once its rows are there, or not at all.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.errors import PySparkException
from pyspark.sql.connect.client import SparkConnectClient
from pyspark.sql.connect.dataframe import DataFrame
from pyspark.sql.connect.plan import LogicalPlan
from pyspark.sql.connect.proto import relations_pb2

from local_workspace.sql.connect.sessions import ClientSession
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, from_sail, unsupported
from local_workspace.sql.lake.maintenance import CLUSTERING
from local_workspace.sql.lake.tables import COMMIT_RETRIES, inert, path_of
from local_workspace.unity_catalog.columns import type_text


class Given(LogicalPlan):
    """A client's relation as a plan of pyspark's own."""

    def __init__(self, relation: relations_pb2.Relation):
        super().__init__(None)
        self._relation = relation

    def plan(self, session: SparkConnectClient) -> relations_pb2.Relation:
        """The relation."""
        return self._relation


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except (PySparkException, DeltaError, pa.ArrowException) as error:
        raise from_sail(error, []) from error


@dataclass
class Writing:
    """The rows, and the table they are for."""

    lake: Lake
    client: ClientSession
    relation: relations_pb2.Relation
    name: str
    partition_by: list[str] = field(default_factory=list)
    cluster_by: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    @cached_property
    def frame(self) -> DataFrame:
        """The rows, not yet computed."""
        return DataFrame(Given(self.relation), self.client.spark)

    @cached_property
    def fields(self) -> list[dict[str, Any]]:
        """The columns as Delta schema fields; all of them may be null, as in tables that Spark makes."""
        fields = self.frame.schema.jsonValue()["fields"]
        return [{"name": f["name"], "type": f["type"], "nullable": True, "metadata": {}} for f in fields]

    @property
    def configuration(self) -> dict[str, str]:
        """The properties that the table is made with."""
        return self.properties | ({CLUSTERING: json.dumps(self.cluster_by)} if self.cluster_by else {})

    def create(self) -> None:
        """Make the table. Raises SqlError, and nothing is left of it."""
        catalog, schema, table = self.name.split(".")
        body: dict[str, Any] = {"catalog_name": catalog, "schema_name": schema, "name": table}
        location = self.lake.catalog.engine("POST", "staging-tables", json=body)["staging_location"]
        try:
            with _failures_named():
                self._check()
                self.lake.tables.create(
                    location, self.fields, properties=self.configuration, partition_by=self.partition_by
                )
                self._write(location, mode="append")
            new = {"fields": self.fields, "storage_location": location, "properties": self.configuration}
            self.lake.catalog.engine("POST", "tables", json=body | new)
        except BaseException:
            shutil.rmtree(path_of(location), ignore_errors=True)
            raise

    def overwrite(self, location: str, *, schema_too: bool, where: str | None) -> None:
        """Put the rows in the place of the table's, or of those that fit a predicate, in one commit.

        Raises SqlError.
        """
        with _failures_named():
            self._check()
            if not schema_too:
                self._compare(self.lake.tables.fields(location))
                self._write(location, mode="overwrite", predicate=where)
                return
            if any("variant" in json.dumps(field["type"]) for field in self.fields):
                raise unsupported("another schema with VARIANT for a table that is there: drop the table first")
            self._write(location, mode="overwrite", schema_mode="overwrite", partition_by=self.partition_by)
            if self.configuration:
                alter = self.lake.tables.open(location).alter
                alter.set_table_properties(inert(self.configuration), raise_if_not_exists=False)
        self.lake.refresh(self.name, location)

    def append_with_new_columns(self, location: str) -> None:
        """Append the rows; columns the table lacks are added to it. Raises SqlError."""
        with _failures_named():
            self._write(location, mode="append", schema_mode="merge")
        self.lake.refresh(self.name, location)

    def _check(self) -> None:
        names = [field["name"].lower() for field in self.fields]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise SqlError("COLUMN_ALREADY_EXISTS", f"The column {', '.join(sorted(doubled))} already exists.", "42711")
        for column in [*self.partition_by, *self.cluster_by]:
            if column.lower() not in names:
                raise SqlError("UNRESOLVED_COLUMN", f"A column with name `{column}` cannot be resolved.", "42703")

    def _compare(self, there: list[dict[str, Any]]) -> None:
        columns, given = ({f["name"].lower(): type_text(f["type"]) for f in fields} for fields in (there, self.fields))
        if columns != given:
            raise SqlError(
                "DELTA_METADATA_MISMATCH",
                f"{self.name} has the columns {columns}, the data frame {given}: "
                "the option overwriteSchema replaces them.",
                "42KDG",
            )

    def _write(self, location: str, **how: Any) -> None:
        schema, batches = self._batches()
        if schema is None:
            schema = self.lake.tables.arrow_schema(location)
        write_deltalake(
            self.lake.tables.open(location),
            pa.RecordBatchReader.from_batches(schema, batches),
            commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
            **how,
        )

    def _batches(self) -> tuple[pa.Schema | None, Iterator[pa.RecordBatch]]:
        """The computed rows piece by piece, and their schema; None when there are no rows."""
        client = self.client.spark.client
        pieces = client.to_table_as_iterator(self.frame._plan.to_proto(client), {})
        tables = (piece for piece in pieces if isinstance(piece, pa.Table))
        first = next(tables, None)

        def batches() -> Iterator[pa.RecordBatch]:
            if first is not None:
                yield from first.to_batches()
            for table in tables:
                yield from table.to_batches()

        return (None if first is None else first.schema), batches()

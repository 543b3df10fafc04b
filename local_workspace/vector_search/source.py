"""The Delta table that an index follows: its columns, its rows, and what changed since a version."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError

from local_workspace.errors import BadRequest
from local_workspace.vector_search.columns import column_type, is_vector_type

CHANGE_DATA_FEED = "delta.enableChangeDataFeed"
COLUMN_MAPPING = "delta.columnMapping.mode"
KEY_TYPES = ("string", "long", "integer", "short", "byte")
COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Changes:
    """Rows that were written, in pieces, and the primary keys of those that were in files that are gone."""

    rows: Iterator[pa.Table]
    taken_out: set[Any]


class Source:
    """One version of the table, the newest when it was opened. Raises BadRequest when there is none."""

    def __init__(self, location: str, name: str):
        self.name = name
        self._folder = location.removeprefix("file://")
        try:
            self._table = DeltaTable(self._folder)
        except (DeltaError, OSError) as error:
            raise BadRequest(f"source_table {name!r} cannot be read: {str(error).splitlines()[0]}") from error
        self.version: int = self._table.version()

    @property
    def has_feed(self) -> bool:
        """Whether its owner has turned the Change Data Feed on; Delta takes the property in any case of letters."""
        properties = {key.lower(): value.lower() for key, value in self._table.metadata().configuration.items()}
        return properties.get(CHANGE_DATA_FEED.lower()) == "true"

    @property
    def types(self) -> dict[str, str]:
        """Its columns and their types, written as a schema of an index writes them."""
        return {field.name: _type_name(field.type) for field in self._table.schema().fields}

    def rows(self, columns: list[str]) -> Iterator[pa.Table]:
        """All rows, in pieces."""
        names = ", ".join(f'"{column}"' for column in columns)
        query = f"SELECT {names} FROM source"
        reader = QueryBuilder().register("source", self._table).execute(query)
        for batch in reader:
            yield pa.Table.from_batches([pa.record_batch(batch)]).cast(self._schema(columns))

    def changes(self, since: int, key: str, columns: list[str]) -> Changes | None:
        """What happened after version `since`, by the data files of both; None when those do not tell.

        Most writers record no row-by-row feed even where one is wanted, and files say the same: a row of a new file
        was written or moved, a key that was in a removed file and is in no new one is gone.
        """
        try:
            before = DeltaTable(self._folder, version=since)
        except DeltaError:
            return None  # its log has been cleaned away
        if not (_plain(before) and _plain(self._table)):
            return None
        old, new = _files(before), _files(self._table)
        try:
            removed = self._dataset(old - new, self._schema([key]))
            taken_out = set(removed.to_table()[key].to_pylist())
        except (OSError, pa.ArrowInvalid):
            return None  # vacuumed
        added = self._dataset(new - old, self._schema(columns))
        return Changes((pa.Table.from_batches([batch]) for batch in added.to_batches()), taken_out)

    def _schema(self, columns: list[str]) -> pa.Schema:
        schema = pa.schema(self._table.schema().to_arrow())
        return pa.schema([schema.field(column) for column in columns])

    def _dataset(self, files: set[str], schema: pa.Schema) -> ds.Dataset:
        return ds.dataset([f"{self._folder}/{file}" for file in sorted(files)], schema, format="parquet")


def _plain(table: DeltaTable) -> bool:
    """Whether the files hold exactly the rows and columns of the table."""
    metadata = table.metadata()
    mapped = metadata.configuration.get(COLUMN_MAPPING, "none") != "none"
    features = table.protocol().reader_features or []
    return not mapped and not metadata.partition_columns and "deletionVectors" not in features


def _files(table: DeltaTable) -> set[str]:
    return {unquote(path) for path in pa.table(table.get_add_actions())["path"].to_pylist()}


def _type_name(kind: Any) -> str:
    """A Delta type as text; what is neither a primitive nor an array of them is refused by the name it gives."""
    described = json.loads(kind.to_json())
    if isinstance(described, dict) and isinstance(described.get("elementType"), str):
        return f"array<{described['elementType']}>"
    return described if isinstance(described, str) else described["type"]


def checked_columns(source: Source, key: str, wanted: list[str] | None, needed: str, vector: str) -> dict[str, str]:
    """The columns of an index on the table: those wanted, its key and the one that `needed` names, or all.

    `vector` is the one that holds the vectors. Raises BadRequest naming the column that is missing or unfit.
    """
    types = source.types
    for column in [key, needed, *(wanted or [])]:
        if column not in types:
            raise BadRequest(f"source_table {source.name!r} has no column {column!r}; it has {', '.join(types)}")
    if types[key] not in KEY_TYPES:
        raise BadRequest(f"primary_key {key!r} has the type {types[key]}; it must be a string or an integer")
    if needed == vector and not is_vector_type(types[vector]):
        raise BadRequest(f"embedding_vector_columns: {vector!r} has the type {types[vector]}; use array<float>")
    if needed != vector and types[needed] != "string":
        raise BadRequest(f"embedding_source_columns: {needed!r} has the type {types[needed]}; use string")
    names = [name for name in types if name in {key, needed, *wanted}] if wanted else list(types)
    for name in names:
        try:
            if not COLUMN.fullmatch(name):
                raise ValueError("its name must consist of letters, digits and underscores")
            column_type(types[name])
        except ValueError as error:
            problem = f"the column {name!r} of {source.name!r}: {error}. Leave it out: columns_to_sync"
            raise BadRequest(problem) from error
    return {name: types[name] for name in names}

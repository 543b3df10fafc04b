"""Bringing an index to a version of its source table: what has changed is written, what is gone is deleted.

Each step is whole, and taking all of them again gives the same: a sync that was cut short is simply run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local_workspace.errors import BadRequest
from local_workspace.vector_search.index import Index
from local_workspace.vector_search.source import Source

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Managed:
    """The column whose text is embedded, and what embeds it."""

    text: str
    embed: Callable[[list[str]], list[list[float]]]


def follow(index: Index, source: Source, since: int | None, managed: Managed | None) -> None:
    """Make the index show the source's version; `since` is the version that it shows in full. Raises ApiError."""
    columns = index.columns
    read = [name for name in columns.type_names if managed is None or name != columns.vector]
    if missing := [name for name in read if name not in source.types]:
        raise BadRequest(f"source_table {source.name!r} no longer has the column {missing[0]!r}")
    if since == source.version:
        return
    changes = source.changes(since, columns.primary_key, read) if since is not None else None
    there: set[Any] = set()
    for piece in changes.rows if changes else source.rows(read):
        there.update(_write(index, piece, managed))
    # What is there already keeps its files, or is among the pieces: all else that was in a removed file is gone.
    gone = list((changes.taken_out if changes else index.keys()) - there)
    for start in range(0, len(gone), ROWS_AT_ONCE):
        index.delete(gone[start:][:ROWS_AT_ONCE])


def _write(index: Index, rows: pa.Table, managed: Managed | None) -> list[Any]:
    """Write the rows that have a key and a vector, and give their keys; a row that has none now is deleted."""
    key = index.columns.primary_key
    needed = managed.text if managed else index.columns.vector
    fit = pc.and_(rows[key].is_valid(), rows[needed].is_valid())
    index.delete(rows.filter(pc.invert(fit))[key].drop_null().to_pylist())
    rows = _last_of_each_key(rows.filter(fit), key)
    for start in range(0, rows.num_rows, ROWS_AT_ONCE):
        piece = rows.slice(start, ROWS_AT_ONCE)
        vectors = _embedded(index, piece, managed) if managed else piece[index.columns.vector]
        index.write(_fitted(index, piece, vectors))
    return rows[key].to_pylist()


def _last_of_each_key(rows: pa.Table, key: str) -> pa.Table:
    last = {value: position for position, value in enumerate(rows[key].to_pylist())}
    return rows if len(last) == rows.num_rows else rows.take(list(last.values()))


def _embedded(index: Index, rows: pa.Table, managed: Managed) -> pa.Array:
    """A vector for each row's text; the ones there are for the same text are not made anew."""
    key, vector = index.columns.primary_key, index.columns.vector
    keys, texts = rows[key].to_pylist(), rows[managed.text].to_pylist()
    stored = index.rows(keys, [key, managed.text, vector])
    known = dict(
        zip(zip(stored[key].to_pylist(), stored[managed.text].to_pylist(), strict=True), stored[vector], strict=True)
    )
    new = list(dict.fromkeys(text for row_key, text in zip(keys, texts, strict=True) if (row_key, text) not in known))
    made = dict(zip(new, managed.embed(new), strict=True))
    values = [
        made[text] if text in made else known[row_key, text].as_py() for row_key, text in zip(keys, texts, strict=True)
    ]
    return pa.chunked_array([pa.array(values, pa.list_(pa.float32()))])


def _fitted(index: Index, rows: pa.Table, vectors: pa.ChunkedArray) -> pa.Table:
    """The rows in the index's own types. Raises BadRequest naming the row whose vector does not fit."""
    columns = index.columns
    lists = vectors.cast(pa.list_(pa.float32())).combine_chunks()
    numbers = lists.flatten()
    same_length = pc.all(pc.equal(pc.list_value_length(lists), columns.dimension)).as_py() is not False
    # A null among the numbers is not finite here either.
    if not same_length or not np.isfinite(numbers.to_numpy(zero_copy_only=False)).all():
        for row_key, vector in zip(rows[columns.primary_key].to_pylist(), lists.to_pylist(), strict=True):
            try:
                columns.vector_of(vector)
            except ValueError as error:
                raise BadRequest(f"the row with primary key {row_key!r}: {error}") from error
    arrays = [
        pa.FixedSizeListArray.from_arrays(numbers, columns.dimension)
        if field.name == columns.vector
        else rows[field.name].cast(field.type).combine_chunks()
        for field in columns.arrow()
    ]
    return pa.Table.from_arrays(arrays, schema=columns.arrow())

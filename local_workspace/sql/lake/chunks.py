"""Results written in chunks, each a file: JSON_ARRAY, ARROW_STREAM or CSV, as the statement API has them."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from local_workspace.sql.lake.errors import SqlError
from local_workspace.sql.lake.results import strings
from local_workspace.sql.lake.types import manifest_column

CHUNK_ROWS = 10_000
CHUNK_BYTES = 4 * 2**20
INLINE_BYTES = 25 * 2**20
SUFFIXES = {"JSON_ARRAY": "json", "ARROW_STREAM": "arrow", "CSV": "csv"}

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Wanted:
    """How much of a result is wanted, and in which form."""

    format: str = "JSON_ARRAY"
    inline: bool = True
    row_limit: int | None = None
    byte_limit: int | None = None

    def allowance(self, total: int) -> int:
        """How many bytes may be written of `total`. Raises SqlError when a result is too long to be sent inline."""
        limit = self.byte_limit if self.byte_limit is not None else total
        if not self.inline or min(limit, total) <= INLINE_BYTES:
            return limit
        raise SqlError(
            "INLINE_BYTE_LIMIT_EXCEEDED",
            f"Statements with disposition=INLINE can have a result of at most {INLINE_BYTES} bytes: "
            "select less, or take the disposition EXTERNAL_LINKS.",
            "54000",
        )


@dataclass(frozen=True)
class Chunk:
    """Some rows in the form of a file."""

    rows: int
    content: bytes


def _json_row(row: Row) -> bytes:
    return orjson.dumps(row)


def _csv_row(row: Sequence[str | None]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(["null" if value is None else value for value in row])
    return line.getvalue().encode()


def _text_chunks(
    table: pa.Table, wanted: Wanted, encode: Callable[[Row], bytes], whole: Callable[[list[bytes], int], bytes]
) -> Iterator[Chunk]:
    columns = [strings(column) for column in table.columns]
    encoded = [encode(row) for row in zip(*columns, strict=True)]
    left = wanted.allowance(sum(map(len, encoded)))
    start = 0
    while start < len(encoded) or not start:
        size, end = 0, start
        for row in encoded[start : start + CHUNK_ROWS]:
            if (end > start and size + len(row) > CHUNK_BYTES) or len(row) > left:
                break
            size, left, end = size + len(row), left - len(row), end + 1
        yield Chunk(end - start, whole(encoded[start:end], start))
        if end == start or (end < len(encoded) and len(encoded[end]) > left):
            return
        start = end


def _arrow_chunks(table: pa.Table, wanted: Wanted) -> Iterator[Chunk]:
    size = max(table.nbytes, 1)
    taken = min(table.num_rows, table.num_rows * wanted.allowance(size) // size)
    step = max(1, table.num_rows * CHUNK_BYTES // size)
    for start in range(0, max(taken, 1), step):
        rows = table.slice(start, min(step, taken - start))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        yield Chunk(rows.num_rows, sink.getvalue().to_pybytes())


def _chunks(table: pa.Table, wanted: Wanted) -> Iterator[Chunk]:
    if wanted.format == "ARROW_STREAM":
        return _arrow_chunks(table, wanted)
    if wanted.format == "CSV":
        header = _csv_row(table.column_names)
        return _text_chunks(table, wanted, _csv_row, lambda rows, start: b"".join(rows if start else [header, *rows]))
    return _text_chunks(table, wanted, _json_row, lambda rows, _start: b"[" + b",".join(rows) + b"]")


def write_chunks(table: pa.Table, folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Write the rows to `folder` as `0.json`, `1.json`, … and give the manifest. Raises SqlError if too long."""
    columns = [manifest_column(field, position) for position, field in enumerate(table.schema)]
    whole = table
    if wanted.row_limit is not None:
        table = table.slice(0, wanted.row_limit)
    chunks: list[dict[str, int]] = []
    start = 0
    for index, chunk in enumerate(_chunks(table, wanted)):
        (folder / f"{index}.{SUFFIXES[wanted.format]}").write_bytes(chunk.content)
        facts = {"chunk_index": index, "row_offset": start, "row_count": chunk.rows, "byte_count": len(chunk.content)}
        chunks.append(facts)
        start += chunk.rows
    return {
        "format": wanted.format,
        "schema": {"column_count": len(columns), "columns": columns},
        "total_chunk_count": len(chunks),
        "chunks": chunks,
        "total_row_count": start,
        "total_byte_count": sum(chunk["byte_count"] for chunk in chunks),
        "truncated": start < whole.num_rows,
    }

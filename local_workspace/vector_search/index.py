"""One vector index as a LanceDB table: upsert, delete, scan, and the upkeep that keeps searches fast.

Every vector is looked at. Measured on 100,000 vectors of 384 numbers, two cores, milliseconds at best and recall@10:
the table as it is 85, 1.0; HNSW over 8-bit codes 6, 0.95 of clustered vectors, 0.03 of random ones, 60 s to build;
8-bit codes one after the other, the best rescored exactly, 6, 1.0, 0.7 s to build; the vectors themselves likewise 10,
1.0; numpy over a copy in memory 8 for the distances alone. So: 8-bit codes, unless they fail a test on the rows
themselves (0.1 was measured where vectors differ in scale by a thousand): then the vectors themselves. The time of a
search grows with the number of rows, and no filter or change makes it miss any.
"""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import lancedb
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import FTS, IvfFlat, IvfSq

from local_workspace.errors import BadRequest
from local_workspace.vector_search.columns import Columns

EVERY_PARTITION = 1_000_000
"""As many as there may be: LanceDB splits partitions when it merges rows in, and all of them are searched."""
LEAST_INDEXED = 4096
"""Rows that are as fast to read from the table; with more than these, or a twentieth, not indexed yet, they are."""
WRITES_PER_UPKEEP, MOST_WRITES = 32, 256
QUIET_SECONDS = 2.0
MOST_REFINED = 200
OLD_VERSIONS_KEPT = timedelta(minutes=1)
"""Longer than any query that may still read one."""

SAMPLE, NEIGHBOURS, ENOUGH = 8, 10, 0.98
"""The codes must find this share of the nearest rows of so many rows, chosen evenly."""
TEST_AGAIN = 0.25
"""Once this share of the rows was written since. The test reads every vector eight times."""

log = logging.getLogger(__name__)


class Index:
    """A table with one vector column. Every write is one LanceDB version: there in full or not at all."""

    def __init__(self, table: Any, upkeep: ThreadPoolExecutor):
        self.table = table
        # What LanceDB's synchronous table wraps. Awaited itself, it takes 2 ms of 8 less: no thread hands calls over.
        self.reads: lancedb.AsyncTable = table._table
        self.columns = Columns.read(table.schema)
        self._writing = threading.Lock()
        self._upkeep = upkeep
        self._upkeep_due = False
        self._writes = 0
        self._written_at = 0.0
        self._codes_fit = True
        self._untested_rows = 0
        self._vector_indexed = self.columns.vector in self._indexed()
        self._new_rows, self._new_rows_allowed = self._unindexed_rows(), LEAST_INDEXED
        self._keep_up()

    @classmethod
    def create(cls, database: lancedb.DBConnection, name: str, columns: Columns, upkeep: ThreadPoolExecutor) -> "Index":
        """An index of that name, new and empty unless there is one."""
        index = cls(database.create_table(name, schema=columns.arrow(), exist_ok=True), upkeep)
        for text in set(index.columns.texts) - index._indexed():
            index.table.create_index(text, config=FTS())
        return index

    def count(self) -> int:
        """Its number of rows."""
        return self.table.count_rows()

    def upsert(self, values: Any) -> int:
        """Write all rows, over those with their primary keys, and return how many; or none. Raises BadRequest."""
        if not isinstance(values, list):
            raise BadRequest("inputs_json must be a JSON array of objects")
        rows: dict[Any, dict[str, Any]] = {}
        problems = []
        for position, value in enumerate(values):
            try:
                row = self.columns.row(value)
            except ValueError as error:
                key = value.get(self.columns.primary_key) if isinstance(value, dict) else None
                problems.append(f"row {position} (primary key {key!r}): {error}")
            else:
                rows[row[self.columns.primary_key]] = row
        if problems:
            more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise BadRequest(f"no row was written, {len(problems)} are wrong: {'; '.join(problems[:20])}{more}")
        if rows:
            self.write(self.columns.table(list(rows.values())))
        return len(values)

    def write(self, rows: pa.Table) -> None:
        """Write rows of distinct primary keys in one step, over those that have them."""
        merge = self.table.merge_insert(self.columns.primary_key)
        with self._writing:
            merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
            self._writes, self._written_at = self._writes + 1, time.monotonic()
            self._new_rows += rows.num_rows
            self._keep_up()

    def delete(self, keys: Any) -> int:
        """Delete rows by primary key; returns how many there were. Raises BadRequest."""
        if not isinstance(keys, list):
            raise BadRequest("primary_keys must be an array")
        try:
            condition = self._among(self._key(key) for key in keys)
        except ValueError as error:
            raise BadRequest(f"primary_keys: {error}") from error
        if not keys:
            return 0
        with self._writing:
            before = self.table.count_rows()
            self.table.delete(condition)
            deleted = before - self.table.count_rows()
            self._writes, self._written_at = self._writes + 1, time.monotonic()
            self._keep_up()
        return deleted

    def keys(self) -> set[Any]:
        """Every primary key."""
        key = self.columns.primary_key
        return set(self.table.search().select([key]).to_arrow()[key].to_pylist())

    def rows(self, keys: list[Any], columns: list[str]) -> pa.Table:
        """Those of the rows with these primary keys that there are."""
        return self.table.search().where(self._among(keys)).select(columns).limit(len(keys)).to_arrow()

    def nearest(self, vector: Any, limit: int) -> Any:
        """A search by vector, to be completed and awaited: the squared distance is in `_distance`."""
        near = self.reads.query().nearest_to(vector).column(self.columns.vector).distance_type("l2")
        return near.nprobes(EVERY_PARTITION).refine_factor(4 if limit <= MOST_REFINED else 1).limit(limit)

    def scan(self, limit: int, after: Any) -> list[dict[str, Any]]:
        """The rows that follow a primary key, in its order. Raises BadRequest."""
        key = self.columns.primary_key
        kind = self.columns.types[key]
        found = self.table.search()
        if after is not None:
            try:
                found = found.where(f"`{key}` > {kind.sql(self._key(after))}")
            except ValueError as error:
                raise BadRequest(f"last_primary_key: {error}") from error
        keys = found.select([key]).to_arrow()[key]
        first = keys.take(pc.sort_indices(keys)[:limit]).to_pylist()
        if not first:
            return []
        ordered = self.rows(first, list(self.columns.type_names)).sort_by(key).to_pylist()
        return [{name: plain(row[name]) for name in self.columns.type_names} for row in ordered]

    def _among(self, keys: Any) -> str:
        kind = self.columns.types[self.columns.primary_key]
        return f"`{self.columns.primary_key}` IN ({', '.join(sorted({kind.sql(key) for key in keys}))})"

    def _key(self, value: Any) -> Any:
        # A key may come as text, in a URL: an integer is meant where the column has integers.
        is_integer = pa.types.is_integer(self.columns.types[self.columns.primary_key].arrow)
        return int(value) if is_integer and isinstance(value, str) else value

    def _indexed(self) -> set[str]:
        return {column for index in self.table.list_indices() for column in index.columns}

    def _unindexed_rows(self) -> int:
        stats = self.table.index_stats(f"{self.columns.vector}_idx") if self._vector_indexed else None
        return stats.num_unindexed_rows if stats else self.table.count_rows()

    def _keep_up(self) -> None:
        due = self._writes >= WRITES_PER_UPKEEP or self._new_rows >= self._new_rows_allowed
        if due and not self._upkeep_due:
            self._upkeep_due = True
            self._upkeep.submit(self._maintain)

    def _is_being_written(self) -> bool:
        # While rows are loaded, upkeep would take longer than the loading: only what would slow down searches is done.
        recent = time.monotonic() - self._written_at < QUIET_SECONDS
        return recent and self._writes < MOST_WRITES and self._new_rows < 8 * self._new_rows_allowed

    def _maintain(self) -> None:
        """Merge small files and old versions away, and take new rows into the indexes. Rows are searched either way."""
        while self._is_being_written():
            time.sleep(QUIET_SECONDS / 4)
        with self._writing:  # LanceDB gives merging up when a write comes in between
            rows, new_rows = self.table.count_rows(), self._new_rows
            self._untested_rows += new_rows
            self._upkeep_due, self._writes, self._new_rows = False, 0, 0
            self._new_rows_allowed = max(LEAST_INDEXED, rows // 20)
            try:
                if rows >= LEAST_INDEXED and (new_rows or not self._vector_indexed):
                    self._index_vectors(rows)
                self.table.optimize(cleanup_older_than=OLD_VERSIONS_KEPT)
            except RuntimeError:
                log.exception("upkeep of index %s; the next writes will try again", self.table.name)

    def _index_vectors(self, rows: int) -> None:
        # Made anew each time: codes are of the range that the vectors had when they were made.
        if self._codes_fit:
            self.table.create_index(self.columns.vector, config=IvfSq(distance_type="l2", num_partitions=1))
            if self._untested_rows >= TEST_AGAIN * rows:
                self._codes_fit, self._untested_rows = asyncio.run(self._finds_neighbours()), 0
        if not self._codes_fit:
            self.table.create_index(self.columns.vector, config=IvfFlat(distance_type="l2", num_partitions=1))
        self._vector_indexed = True

    async def _finds_neighbours(self) -> bool:
        """Whether the index finds what looking at the vectors themselves finds, for a sample of the rows."""
        key, vector = self.columns.primary_key, self.columns.vector
        rows = self.table.count_rows()
        offsets = [position * rows // SAMPLE for position in range(SAMPLE)]
        found = 0
        for value in (await self.reads.take_offsets(offsets).select([vector]).to_arrow())[vector].to_pylist():
            near = self.nearest(value, NEIGHBOURS).select([key, "_distance"])
            fast = await near.to_arrow()
            true = await near.bypass_vector_index().to_arrow()
            found += len(set(fast[key].to_pylist()) & set(true[key].to_pylist()))
        return found >= ENOUGH * SAMPLE * NEIGHBOURS


def plain(value: Any) -> Any:
    """A stored value as JSON has it: dates and times as ISO text."""
    return value.isoformat() if hasattr(value, "isoformat") else value

"""One vector index as a LanceDB table: upsert, delete, search, scan."""

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lancedb
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import FTS
from lancedb.query import FullTextOperator, MultiMatchQuery

from local_workspace.errors import BadRequest
from local_workspace.vector_search import filters
from local_workspace.vector_search.columns import Columns

WRITES_PER_COMPACTION = 32
OLD_VERSIONS_KEPT = timedelta(minutes=1)
"""Longer than any query that may still read one."""
RRF_K = 60
MAX_ANN, MAX_TEXT = 10_000, 200


@dataclass(frozen=True)
class Query:
    """A search: by vector, by text, or by both."""

    columns: list[str]
    vector: list[float] | None
    text: str | None
    query_type: str
    where: str
    limit: int
    score_threshold: float


class Index:
    """A table with one vector column. Every write is one LanceDB version: there in full or not at all."""

    def __init__(self, table: lancedb.table.Table):
        self._table = table
        self.columns = Columns.read(table.schema)
        self._writing = threading.Lock()
        self._writes = 0

    @classmethod
    def create(cls, database: lancedb.DBConnection, name: str, columns: Columns) -> "Index":
        """A new, empty index."""
        table = database.create_table(name, schema=columns.arrow(), mode="overwrite")
        for text in columns.texts:
            table.create_index(text, config=FTS())
        return cls(table)

    def count(self) -> int:
        """Its number of rows."""
        return self._table.count_rows()

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
            batch = pa.Table.from_pylist(list(rows.values()), self.columns.arrow())
            merge = self._table.merge_insert(self.columns.primary_key)
            with self._writing:
                merge.when_matched_update_all().when_not_matched_insert_all().execute(batch)
                self._compact_now_and_then()
        return len(values)

    def delete(self, keys: Any) -> int:
        """Delete rows by primary key; returns how many there were. Raises BadRequest."""
        if not isinstance(keys, list):
            raise BadRequest("primary_keys must be an array")
        kind = self.columns.types[self.columns.primary_key]
        try:
            literals = sorted({kind.sql(self._key(key)) for key in keys})
        except ValueError as error:
            raise BadRequest(f"primary_keys: {error}") from error
        if not literals:
            return 0
        with self._writing:
            before = self._table.count_rows()
            self._table.delete(f"`{self.columns.primary_key}` IN ({', '.join(literals)})")
            deleted = before - self._table.count_rows()
            self._compact_now_and_then()
        return deleted

    def search(self, query: Query) -> list[list[Any]]:
        """Rows of the asked columns with their score last, best first. Raises BadRequest."""
        if query.query_type == "FULL_TEXT":
            found = self._filtered(self._table.search(self._text(query), query_type="fts"), query)
            scores = found["_score"].to_pylist()
        elif query.query_type == "HYBRID":
            vector = self._vector(query)
            hybrid: Any = self._table.search(query_type="hybrid", vector_column_name=self.columns.vector)
            found = self._filtered(hybrid.vector(vector).text(self._text(query)).distance_type("l2"), query)
            # Reciprocal rank fusion, scaled so that first in both lists is 1.
            scores = [score * (RRF_K + 1) / 2 for score in found["_relevance_score"].to_pylist()]
        else:
            near: Any = self._table.search(self._vector(query), vector_column_name=self.columns.vector)
            found = self._filtered(near.distance_type("l2"), query)
            # LanceDB's l2 is the squared distance; Databricks documents the score as 1 / (1 + distance²).
            scores = [1 / (1 + distance) for distance in found["_distance"].to_pylist()]
        rows = found.select(query.columns).to_pylist()
        return [
            [*(plain(row[name]) for name in query.columns), score]
            for row, score in zip(rows, scores, strict=True)
            if score >= query.score_threshold
        ]

    def scan(self, limit: int, after: Any) -> list[dict[str, Any]]:
        """The rows that follow a primary key, in its order. Raises BadRequest."""
        key = self.columns.primary_key
        kind = self.columns.types[key]
        rows = self._table.search()
        if after is not None:
            try:
                rows = rows.where(f"`{key}` > {kind.sql(self._key(after))}")
            except ValueError as error:
                raise BadRequest(f"last_primary_key: {error}") from error
        keys = rows.select([key]).to_arrow()[key]
        first = keys.take(pc.sort_indices(keys)[:limit]).to_pylist()
        if not first:
            return []
        wanted = ", ".join(kind.literal(value) for value in first)
        found = self._table.search().where(f"`{key}` IN ({wanted})").limit(len(first)).to_arrow()
        ordered = found.sort_by(key).to_pylist()
        return [{name: plain(row[name]) for name in self.columns.type_names} for row in ordered]

    def where(self, filters_json: Any, filter_string: str | None) -> str:
        """A query's filter as SQL. Raises BadRequest."""
        if filter_string:
            return filters.from_sql(filter_string, self.columns)
        return filters.from_dict(filters_json, self.columns) if filters_json else ""

    def _key(self, value: Any) -> Any:
        # A key may come as text, in a URL: an integer is meant where the column has integers.
        is_integer = pa.types.is_integer(self.columns.types[self.columns.primary_key].arrow)
        return int(value) if is_integer and isinstance(value, str) else value

    def _vector(self, query: Query) -> list[float]:
        if query.vector is None:
            raise BadRequest(f"query_vector is needed for query_type {query.query_type}")
        try:
            return self.columns.vector_of(query.vector)
        except ValueError as error:
            raise BadRequest(f"query_vector: {error}") from error

    def _text(self, query: Query) -> MultiMatchQuery:
        if not query.text:
            raise BadRequest(f"query_text is needed for query_type {query.query_type}")
        if not self.columns.texts:
            raise BadRequest("the index has no string column to search for query_text")
        return MultiMatchQuery(query.text, self.columns.texts, boosts=None, operator=FullTextOperator.OR)

    def _filtered(self, builder: Any, query: Query) -> pa.Table:
        limited = builder.limit(query.limit)
        if not query.where:
            return limited.to_arrow()
        try:
            return limited.where(query.where, prefilter=True).to_arrow()
        except ValueError as error:
            # The names and the syntax were checked: what is left are types that cannot be compared.
            raise BadRequest(f"the filter does not fit the columns: {str(error).partition(', /')[0]}") from error

    def _compact_now_and_then(self) -> None:
        self._writes += 1
        if self._writes % WRITES_PER_COMPACTION == 0:
            self._table.optimize(cleanup_older_than=OLD_VERSIONS_KEPT)


def plain(value: Any) -> Any:
    """A stored value as JSON has it: dates and times as ISO text."""
    return value.isoformat() if hasattr(value, "isoformat") else value

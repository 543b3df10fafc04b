"""Searching an index: by vector, by text, or by both; filtered; best first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.query import FullTextOperator, MultiMatchQuery

from local_workspace.errors import BadRequest
from local_workspace.vector_search import filters
from local_workspace.vector_search.index import Index, plain

RRF_K = 60
MAX_ANN, MAX_TEXT = 10_000, 200


@dataclass(frozen=True)
class Query:
    """What is searched for, and which columns of the rows found are wanted."""

    columns: list[str]
    limit: int
    query_type: str = "ANN"
    vector: list[float] | None = None
    text: str | None = None
    text_columns: list[str] | None = None
    where: str = ""
    score_threshold: float = 0.0


def where(index: Index, filters_json: Any, filter_string: str | None) -> str:
    """A query's filter as SQL. Raises BadRequest."""
    if filter_string:
        return filters.from_sql(filter_string, index.columns)
    return filters.from_dict(filters_json, index.columns) if filters_json else ""


async def search(index: Index, query: Query) -> list[list[Any]]:
    """Rows of the asked columns with their score last, best first. Raises BadRequest."""
    if query.query_type == "FULL_TEXT":
        found = await _filtered(index.reads.query().nearest_to_text(_text(index, query)), query, "_score")
        scores = found["_score"].to_pylist()
    elif query.query_type == "HYBRID":
        near = index.nearest(_vector(index, query), query.limit)
        found = await _filtered(near.nearest_to_text(_text(index, query)), query)
        # Reciprocal rank fusion, scaled so that first in both lists is 1.
        scores = [score * (RRF_K + 1) / 2 for score in found["_relevance_score"].to_pylist()]
    else:
        found = await _filtered(index.nearest(_vector(index, query), query.limit), query, "_distance")
        # LanceDB's l2 is the squared distance; Databricks documents the score as 1 / (1 + distance²).
        scores = [1 / (1 + distance) for distance in found["_distance"].to_pylist()]
    rows: list[Mapping[str, Any]] = found.select(query.columns).to_pylist()
    return [
        [*(plain(row[name]) for name in query.columns), score]
        for row, score in zip(rows, scores, strict=True)
        if score >= query.score_threshold
    ]


def _vector(index: Index, query: Query) -> np.ndarray:
    if query.vector is None:
        raise BadRequest(f"query_vector is needed for query_type {query.query_type}")
    try:
        return index.columns.vector_of(query.vector)
    except ValueError as error:
        raise BadRequest(f"query_vector: {error}") from error


def _text(index: Index, query: Query) -> MultiMatchQuery:
    if not query.text:
        raise BadRequest(f"query_text is needed for query_type {query.query_type}")
    texts = index.columns.texts
    if not texts:
        raise BadRequest("the index has no string column to search for query_text")
    if unknown := [name for name in query.text_columns or [] if name not in texts]:
        raise BadRequest(f"query_columns: the index has no text column {unknown[0]!r}; it has {', '.join(texts)}")
    return MultiMatchQuery(query.text, query.text_columns or texts, boosts=None, operator=FullTextOperator.OR)


async def _filtered(builder: Any, query: Query, score: str | None = None) -> pa.Table:
    # Without a score's name all columns are read: LanceDB fuses two lists by what both of them have.
    limited = builder.limit(query.limit)
    if score:
        limited = limited.select([*dict.fromkeys(query.columns), score])
    if not query.where:
        return await limited.to_arrow()
    try:
        return await limited.where(query.where).to_arrow()
    except (ValueError, RuntimeError) as error:
        # The names and the syntax were checked: what is left are types that cannot be compared.
        raise BadRequest(f"the filter does not fit the columns: {str(error).partition(', /')[0]}") from error

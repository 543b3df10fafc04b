"""A query as it came: read, checked, searched, and answered page by page."""

import time
from typing import Any, Literal

import orjson
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError, field_validator

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.vector_search import paging
from local_workspace.vector_search.embedder import Embedder
from local_workspace.vector_search.index import Index
from local_workspace.vector_search.inputs import parsed
from local_workspace.vector_search.search import MAX_ANN, MAX_TEXT, Query, search, where

PAGE = 1000
"""Databricks gives the rows of one query in pages of this size."""
REFUSED = ("reranker", "columns_to_rerank", "facets", "sort_columns", "query_experiment_config")


class Asked(BaseModel):
    """A query, with the endpoint that embeds its text if the index has one, and the page that is wanted."""

    model_config = ConfigDict(extra="ignore")

    columns: list[StrictStr] = Field(min_length=1)
    num_results: StrictInt = Field(10, ge=1, le=MAX_ANN)
    query_type: Literal["ANN", "HYBRID", "FULL_TEXT"] = "ANN"
    query_vector: list[Any] | None = None
    query_text: StrictStr | None = None
    query_columns: list[StrictStr] | None = None
    filters_json: StrictStr | None = None
    filter_string: StrictStr | None = None
    score_threshold: StrictFloat | StrictInt = 0.0
    debug_level: StrictInt = 0
    embedder: str | None = None
    offset: StrictInt = Field(0, ge=0)

    @field_validator("query_type", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


def read(content: bytes, storage_optimized: bool, embedder: str | None) -> Asked:
    """The query of a request to an index. Raises BadRequest, NotImplementedHere, RequestValidationError."""
    body = parsed(content, "the body")
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    for option in REFUSED:
        if body.get(option):
            raise NotImplementedHere(f"{option} is not available in the local workspace")
    given = {name: value for name, value in body.items() if value is not None}
    try:
        asked = Asked(**given | {"offset": 0, "embedder": embedder})
    except ValidationError as error:
        raise RequestValidationError(
            [problem | {"loc": ("body", *problem["loc"])} for problem in error.errors()]
        ) from None
    if asked.filter_string and not storage_optimized:
        raise BadRequest('filter_string is for STORAGE_OPTIMIZED endpoints; use filters_json, {"price <": 200}')
    if asked.filters_json and storage_optimized:
        raise BadRequest("filters_json is for STANDARD endpoints; use filter_string, price < 200")
    if asked.query_text is not None and asked.query_vector is not None and asked.query_type == "ANN":
        raise BadRequest("query_type ANN takes query_vector or query_text, not both")
    if asked.query_text is not None and asked.query_vector is None and asked.query_type != "FULL_TEXT" and not embedder:
        raise BadRequest(
            "query_text needs an embedding model, and the index was created without embedding_source_columns: "
            "send query_vector"
        )
    return asked


def read_next(content: bytes) -> Asked:
    """The query that a page token goes on with. Raises BadRequest."""
    body = parsed(content, "the body")
    try:
        return Asked(**paging.query(body.get("page_token") if isinstance(body, dict) else None))
    except ValidationError as error:
        raise BadRequest("page_token is none that query or query-next-page gave") from error


async def answer(index: Index, embedder: Embedder, asked: Asked) -> bytes:
    """The page that is asked for, as JSON. Raises ApiError."""
    begin = time.perf_counter()
    if unknown := [column for column in asked.columns if column not in index.columns.type_names]:
        known = ", ".join(index.columns.type_names)
        raise BadRequest(f"columns: the index has no {', '.join(map(repr, unknown))}; it has {known}")
    if asked.query_type != "ANN" and asked.num_results > MAX_TEXT:
        raise BadRequest(f"num_results: query_type {asked.query_type} gives at most {MAX_TEXT}")
    filters = parsed(asked.filters_json, "filters_json") if asked.filters_json else None
    vector = asked.query_vector
    if vector is None and asked.query_text and asked.embedder and asked.query_type != "FULL_TEXT":
        vector = (await run_in_threadpool(embedder.embed, asked.embedder, [asked.query_text]))[0]
    rows = await search(
        index,
        Query(
            columns=asked.columns,
            limit=asked.num_results,
            query_type=asked.query_type,
            vector=vector,
            text=asked.query_text,
            text_columns=asked.query_columns,
            where=where(index, filters, asked.filter_string),
            score_threshold=asked.score_threshold,
        ),
    )
    page = rows[asked.offset :][:PAGE]
    names = [*asked.columns, "score"]
    shown: dict[str, Any] = {
        "manifest": {"column_count": len(names), "columns": [{"name": name} for name in names]},
        "result": {"row_count": len(page), "data_array": page},
    }
    if len(rows) > asked.offset + PAGE:
        again = asked.model_dump(exclude_defaults=True) | {"query_vector": vector}
        shown["next_page_token"] = paging.token(again, asked.offset + PAGE)
    if asked.debug_level > 0:
        shown["debug_info"] = {"response_time": round((time.perf_counter() - begin) * 1000, 3)}
    return orjson.dumps(shown)

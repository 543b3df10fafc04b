"""The `vectors` engine: vector indexes in a LanceDB folder. `python -m … FOLDER`."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lancedb
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from local_workspace.child import serve
from local_workspace.errors import BadRequest, NotFound, install
from local_workspace.vector_search import queries, sync_routes
from local_workspace.vector_search.columns import Columns, column_type
from local_workspace.vector_search.embedder import Embedder
from local_workspace.vector_search.index import Index
from local_workspace.vector_search.inputs import parsed
from local_workspace.vector_search.search import MAX_ANN

INDEX_CACHE, METADATA_CACHE = 256 * 2**20, 64 * 2**20
"""Bytes; the codes of 100,000 vectors of 384 numbers are 40 MB. Without a bound LanceDB keeps gigabytes of old ones."""


class NewIndex(BaseModel):
    """The columns of a new index."""

    primary_key: str
    vector: str
    dimension: int
    type_names: dict[str, str]


class ScanBody(BaseModel):
    """Where a scan goes on, and how far."""

    model_config = ConfigDict(extra="ignore")

    num_results: StrictInt = Field(10, ge=1, le=MAX_ANN)
    last_primary_key: StrictStr | StrictInt | None = None


class Indexes:
    """The indexes of the folder, opened once."""

    def __init__(self, folder: str):
        caches = lancedb.Session(index_cache_size_bytes=INDEX_CACHE, metadata_cache_size_bytes=METADATA_CACHE)
        self._database: Any = lancedb.connect(folder, session=caches)
        self._open: dict[str, Index] = {}
        self._opening = threading.Lock()
        self._upkeep = ThreadPoolExecutor(1, "upkeep")

    def create(self, name: str, columns: Columns) -> Index:
        """An index of that name, new unless there is one."""
        with self._opening:
            if name not in self._open:
                self._open[name] = Index.create(self._database, name, columns, self._upkeep)
            return self._open[name]

    def get(self, name: str) -> Index:
        """An index. Raises NotFound."""
        with self._opening:
            if name not in self._open:
                try:
                    self._open[name] = Index(self._database.open_table(name), self._upkeep)
                except (ValueError, FileNotFoundError) as error:
                    raise NotFound(f"the vector engine has no index {name}") from error
            return self._open[name]

    def keep(self, names: list[str]) -> None:
        """Drop the data of every other index, unless it was opened since."""
        with self._opening:
            for name in set(self._database.table_names(limit=10**6)) - {*names, *self._open}:
                self._database.drop_table(name)

    def drop(self, name: str) -> None:
        """Forget an index and its data."""
        with self._opening:
            self._open.pop(name, None)
            self._database.drop_table(name, ignore_missing=True)


def create_app(indexes: Indexes, embedder: Embedder) -> FastAPI:
    """The engine's API."""
    app = FastAPI(openapi_url=None)
    install(app)
    app.include_router(sync_routes.router(indexes, embedder))

    @app.post("/keep")
    def keep(names: list[str]) -> dict:
        indexes.keep(names)
        return {}

    @app.put("/indexes/{name}")
    def create(name: str, body: NewIndex) -> dict:
        for column, text in body.type_names.items():
            try:
                column_type(text)
            except ValueError as error:
                raise BadRequest(f"schema_json: column {column!r}: {error}") from error
        indexes.create(name, Columns(**body.model_dump()))
        return {}

    @app.delete("/indexes/{name}")
    def drop(name: str) -> dict:
        indexes.drop(name)
        return {}

    @app.get("/indexes/{name}")
    def describe(name: str) -> dict:
        return {"indexed_row_count": indexes.get(name).count()}

    @app.post("/indexes/{name}/upsert")
    async def upsert(name: str, request: Request) -> dict:
        content = await request.body()
        return await run_in_threadpool(_upsert, name, content)

    def _upsert(name: str, content: bytes) -> dict:
        body = parsed(content, "the body")
        inputs = body.get("inputs_json") if isinstance(body, dict) else None
        if not isinstance(inputs, str):
            raise BadRequest("inputs_json: a string with a JSON array of rows is needed")
        written = indexes.get(name).upsert(parsed(inputs, "inputs_json"))
        return {"status": "SUCCESS", "result": {"success_row_count": written, "failed_primary_keys": []}}

    @app.post("/indexes/{name}/delete")
    def delete(name: str, body: dict[str, Any]) -> dict:
        deleted = indexes.get(name).delete(body.get("primary_keys"))
        return {"status": "SUCCESS", "result": {"success_row_count": deleted, "failed_primary_keys": []}}

    @app.post("/indexes/{name}/query")
    async def query(
        name: str, request: Request, storage_optimized: bool = False, embedding_endpoint: str | None = None
    ) -> Response:
        return await _answer(name, queries.read(await request.body(), storage_optimized, embedding_endpoint))

    @app.post("/indexes/{name}/query-next-page")
    async def next_page(name: str, request: Request) -> Response:
        return await _answer(name, queries.read_next(await request.body()))

    async def _answer(name: str, asked: queries.Asked) -> Response:
        index = await run_in_threadpool(indexes.get, name)
        return Response(await queries.answer(index, embedder, asked), media_type="application/json")

    @app.post("/indexes/{name}/scan")
    def scan(name: str, body: ScanBody) -> dict:
        index = indexes.get(name)
        rows = index.scan(body.num_results, body.last_primary_key)
        answer: dict[str, Any] = {"data": [_struct(row) for row in rows]}
        if rows:
            answer["last_primary_key"] = str(rows[-1][index.columns.primary_key])
        return answer

    return app


def _struct(row: dict[str, Any]) -> dict:
    return {"fields": [{"key": name, "value": _value(value)} for name, value in row.items()]}


def _value(value: Any) -> dict:
    match value:
        case None:
            return {}
        case bool():
            return {"bool_value": value}
        case int() | float():
            return {"number_value": value}
        case list():
            return {"list_value": {"values": [_value(item) for item in value]}}
        case _:
            return {"string_value": str(value)}


if __name__ == "__main__":
    workspace = Embedder(os.environ["LOCAL_WORKSPACE_HOST"], os.environ["LOCAL_WORKSPACE_TOKEN"])
    serve(create_app(Indexes(sys.argv[1]), workspace))

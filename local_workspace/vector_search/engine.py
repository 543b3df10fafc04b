"""The `vectors` engine: vector indexes in a LanceDB folder. `python -m … FOLDER`."""

import json
import sys
import threading
from typing import Any, Literal

import lancedb
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from local_workspace.child import serve
from local_workspace.errors import BadRequest, NotFound, install
from local_workspace.vector_search.columns import Columns, column_type
from local_workspace.vector_search.index import MAX_ANN, MAX_TEXT, Index, Query


class NewIndex(BaseModel):
    """The columns of a new index."""

    primary_key: str
    vector: str
    dimension: int
    type_names: dict[str, str]


class QueryBody(BaseModel):
    """A query as it came, and the vector of its text when the parent has made one."""

    model_config = ConfigDict(extra="ignore")

    columns: list[StrictStr] = Field(min_length=1)
    num_results: StrictInt = Field(10, ge=1, le=MAX_ANN)
    query_type: Literal["ANN", "HYBRID", "FULL_TEXT"] = "ANN"
    query_vector: list[Any] | None = None
    query_text: StrictStr | None = None
    filters_json: StrictStr | None = None
    filter_string: StrictStr | None = None
    score_threshold: StrictFloat = 0.0


class ScanBody(BaseModel):
    """Where a scan goes on, and how far."""

    model_config = ConfigDict(extra="ignore")

    num_results: StrictInt = Field(10, ge=1, le=MAX_ANN)
    last_primary_key: StrictStr | StrictInt | None = None


class Indexes:
    """The indexes of the folder, opened once."""

    def __init__(self, folder: str):
        self._database: Any = lancedb.connect(folder)
        self._open: dict[str, Index] = {}
        self._opening = threading.Lock()

    def create(self, name: str, columns: Columns) -> None:
        """A new index; an unfinished one of that name is overwritten."""
        with self._opening:
            self._open[name] = Index.create(self._database, name, columns)

    def get(self, name: str) -> Index:
        """An index. Raises NotFound."""
        with self._opening:
            if name not in self._open:
                try:
                    self._open[name] = Index(self._database.open_table(name))
                except (ValueError, FileNotFoundError) as error:
                    raise NotFound(f"the vector engine has no index {name}") from error
            return self._open[name]

    def drop(self, name: str) -> None:
        """Forget an index and its data."""
        with self._opening:
            self._open.pop(name, None)
            self._database.drop_table(name, ignore_missing=True)


def parsed(text: str, field: str) -> Any:
    """JSON within JSON. Raises BadRequest."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{field} is not JSON: {error}") from error


def create_app(indexes: Indexes) -> FastAPI:
    """The engine's API."""
    app = FastAPI(openapi_url=None)
    install(app)

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
        body = parsed(content.decode(errors="replace"), "the body")
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
    def query(name: str, body: QueryBody) -> dict:
        index = indexes.get(name)
        if unknown := [column for column in body.columns if column not in index.columns.type_names]:
            known = ", ".join(index.columns.type_names)
            raise BadRequest(f"columns: the index has no {', '.join(map(repr, unknown))}; it has {known}")
        if body.query_type != "ANN" and body.num_results > MAX_TEXT:
            raise BadRequest(f"num_results: query_type {body.query_type} gives at most {MAX_TEXT}")
        filters = parsed(body.filters_json, "filters_json") if body.filters_json else None
        rows = index.search(
            Query(
                columns=body.columns,
                vector=body.query_vector,
                text=body.query_text,
                query_type=body.query_type,
                where=index.where(filters, body.filter_string),
                limit=body.num_results,
                score_threshold=body.score_threshold,
            )
        )
        names = [*body.columns, "score"]
        return {
            "manifest": {"column_count": len(names), "columns": [{"name": name} for name in names]},
            "result": {"row_count": len(rows), "data_array": rows},
        }

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
    serve(create_app(Indexes(sys.argv[1])))

"""Vector indexes of a workspace: their names and specifications here, their vectors in the engine."""

import asyncio
import json
import re
import uuid
from contextlib import suppress
from typing import Any

from local_workspace.engine import Engine
from local_workspace.errors import AlreadyExists, ApiError, BadRequest, NotImplementedHere, Unavailable
from local_workspace.serving.models import EMBEDDINGS
from local_workspace.serving.service import Serving
from local_workspace.unity_catalog.store import CatalogStore
from local_workspace.vector_search.store import VectorStore

COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VECTOR_TYPES = ("array<float>", "array<double>")
REFUSED = ("reranker", "columns_to_rerank", "facets", "sort_columns", "query_columns", "query_experiment_config")


class VectorSearch:
    """Direct-access indexes over the engine; text is embedded by a serving endpoint."""

    def __init__(self, store: VectorStore, engine: Engine, catalog: CatalogStore, serving: Serving):
        self.store = store
        self._engine = engine
        self._catalog = catalog
        self._serving = serving
        self._warming: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """After a restart: start the engine if there are indexes, so that the first query need not wait for it."""
        if self.store.any_index():
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def stop(self) -> None:
        """Stop the engine."""
        if self._warming:
            self._warming.cancel()
        await self._engine.stop()

    async def _warm(self) -> None:
        with suppress(ApiError):  # the first query tries again, and says it
            await self._engine.client()

    async def create(self, endpoint: str, body: dict[str, Any], creator: str) -> dict[str, Any]:
        """A new direct-access index. Raises ApiError."""
        name = _text(body, "name").lower()
        if name.count(".") != 2:
            raise BadRequest(f"name: {name!r} must be catalog.schema.index")
        if body.get("index_type") != "DIRECT_ACCESS":
            if body.get("index_type") == "DELTA_SYNC" or "delta_sync_index_spec" in body:
                raise NotImplementedHere("index_type DELTA_SYNC is not available in the local workspace")
            raise BadRequest("index_type must be DIRECT_ACCESS or DELTA_SYNC")
        if body.get("index_subtype") not in (None, "HYBRID"):
            raise NotImplementedHere(f"index_subtype {body['index_subtype']} is not available in the local workspace")
        self.store.endpoint(endpoint)
        self._catalog.get("schema", name.rpartition(".")[0])
        spec = body.get("direct_access_index_spec")
        if not isinstance(spec, dict):
            raise BadRequest("direct_access_index_spec is required")
        columns = _columns(_text(body, "primary_key"), spec)
        if self.store.has_index(name):
            raise AlreadyExists(f"Vector index {name!r} already exists")
        index_id = uuid.uuid4().hex
        await self._engine.call("PUT", f"/indexes/{index_id}", json=columns)
        self.store.add_index(name, index_id, endpoint, creator, columns["primary_key"], spec)
        return self.store.index(name)

    async def row_count(self, index: dict[str, Any]) -> int:
        """The rows of an index."""
        answer = await self._engine.call("GET", f"/indexes/{index['id']}")
        return answer.json()["indexed_row_count"]

    async def delete(self, index: dict[str, Any]) -> None:
        """Forget an index and its vectors."""
        self.store.delete_index(index["name"])
        await self._engine.call("DELETE", f"/indexes/{index['id']}")

    async def write(self, index: dict[str, Any], operation: str, content: bytes) -> bytes:
        """Hand a request for `upsert` or `delete` on as it came; the engine reads and checks it."""
        headers = {"content-type": "application/json"}
        path = f"/indexes/{index['id']}/{operation}"
        return (await self._engine.call("POST", path, content=content, headers=headers)).content

    async def query(self, index: dict[str, Any], body: dict[str, Any]) -> bytes:
        """The rows nearest to a vector or text. Raises ApiError."""
        for option in REFUSED:
            if body.get(option):
                raise NotImplementedHere(f"{option} is not available in the local workspace")
        storage_optimized = self.store.endpoint(index["endpoint"])["endpoint_type"] == "STORAGE_OPTIMIZED"
        if body.get("filter_string") and not storage_optimized:
            raise BadRequest('filter_string is for STORAGE_OPTIMIZED endpoints; use filters_json, {"price <": 200}')
        if body.get("filters_json") and storage_optimized:
            raise BadRequest("filters_json is for STANDARD endpoints; use filter_string, price < 200")
        kind = str(body.get("query_type") or "ANN").upper()
        text, vector = body.get("query_text"), body.get("query_vector")
        if kind == "ANN" and text is not None and vector is not None:
            raise BadRequest("query_type ANN takes query_vector or query_text, not both")
        if text is not None and vector is None and kind != "FULL_TEXT":
            vector = await self._embed(index, text)
        request = {name: value for name, value in body.items() if value is not None}
        request |= {"query_type": kind} | ({"query_vector": vector} if vector is not None else {})
        return (await self._engine.call("POST", f"/indexes/{index['id']}/query", json=request)).content

    async def scan(self, index: dict[str, Any], body: dict[str, Any]) -> bytes:
        """Rows in the order of their primary keys."""
        return (await self._engine.call("POST", f"/indexes/{index['id']}/scan", json=body)).content

    async def _embed(self, index: dict[str, Any], text: Any) -> list[float]:
        sources = index["spec"].get("embedding_source_columns") or [{}]
        source = sources[0]
        endpoint = source.get("model_endpoint_name_for_query") or source.get("embedding_model_endpoint_name")
        if not endpoint:
            raise BadRequest(
                f"query_text needs an embedding model, and index {index['name']!r} was created without "
                "embedding_source_columns: send query_vector"
            )
        model = self._serving.destination(endpoint).model
        if model.task != EMBEDDINGS:
            raise BadRequest(f"the index's embedding endpoint {endpoint!r} has the task {model.task}")
        answer = await model.send({"input": text})
        content = await answer.aread()
        await answer.aclose()
        if answer.is_error:
            raise Unavailable(f"the embedding endpoint {endpoint!r} answered {answer.status_code}")
        return json.loads(content)["data"][0]["embedding"]


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{field} is required")
    return value


def _columns(primary_key: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the engine needs to know of an index's columns. Raises BadRequest."""
    try:
        schema = json.loads(_text(spec, "schema_json"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"schema_json is not JSON: {error}") from error
    if not isinstance(schema, dict) or not all(isinstance(text, str) for text in schema.values()):
        raise BadRequest('schema_json must be an object of column types such as {"id": "string"}')
    if wrong := [name for name in schema if not COLUMN.fullmatch(name)]:
        raise BadRequest(f"schema_json: {wrong[0]!r} is no column name: letters, digits and underscores are")
    vectors = spec.get("embedding_vector_columns")
    if not isinstance(vectors, list) or len(vectors) != 1 or not isinstance(vectors[0], dict):
        raise BadRequest("embedding_vector_columns must name one column")
    vector, dimension = vectors[0].get("name"), vectors[0].get("embedding_dimension")
    if vector not in schema or schema[vector].lower().replace(" ", "") not in VECTOR_TYPES:
        raise BadRequest(f"embedding_vector_columns: {vector!r} must be in schema_json with type array<float>")
    if not isinstance(dimension, int) or not 1 <= dimension <= 4096:
        raise BadRequest("embedding_dimension must be a number from 1 to 4096")
    if primary_key not in schema:
        raise BadRequest(f"primary_key {primary_key!r} is not in schema_json")
    if schema[primary_key].lower() not in ("string", "int", "integer", "long", "bigint", "short", "byte"):
        raise BadRequest(f"primary_key {primary_key!r} must be a string or an integer")
    return {"primary_key": primary_key, "vector": vector, "dimension": dimension, "type_names": schema}

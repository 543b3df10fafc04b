"""Vector indexes of a workspace: their names and specifications here, their vectors in the engine."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from local_workspace.engine import Engine
from local_workspace.errors import AlreadyExists, ApiError, BadRequest, NotFound, NotImplementedHere
from local_workspace.serving.service import Serving
from local_workspace.unity_catalog.store import CatalogStore
from local_workspace.vector_search import specs
from local_workspace.vector_search.pipelines import Pipelines, status
from local_workspace.vector_search.store import VectorStore
from local_workspace.vector_search.syncs import Syncs

JSON = {"content-type": "application/json"}
SHORT_SYNC_SECONDS = 2.0
"""So long an answer waits for a sync that is nearly done: the client library would look again in half a minute."""


class VectorSearch:
    """Direct-access and delta-sync indexes over the engine; text is embedded by a serving endpoint."""

    def __init__(self, store: VectorStore, syncs: Syncs, engine: Engine, catalog: CatalogStore, serving: Serving):
        self.store = store
        self.pipelines = Pipelines(syncs, store, engine, catalog)
        self._syncs = syncs
        self._engine = engine
        self._catalog = catalog
        self._serving = serving
        self._warming: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """After a restart: go on with syncs, and start the engine if there are indexes: no first query waits for it."""
        self.pipelines.start()
        if self.store.any_index():
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def stop(self) -> None:
        """Stop the syncs and the engine."""
        if self._warming:
            self._warming.cancel()
        await self.pipelines.stop()
        await self._engine.stop()

    async def _warm(self) -> None:
        with suppress(ApiError):  # the first query tries again, and says it
            await self._engine.call("POST", "/keep", json=self.store.ids())

    async def create(self, endpoint: str, body: dict[str, Any], creator: str) -> dict[str, Any]:
        """A new index; one that follows a table is not ready yet. Raises ApiError."""
        name = specs.text(body, "name").lower()
        if name.count(".") != 2:
            raise BadRequest(f"name: {name!r} must be catalog.schema.index")
        if body.get("index_subtype") not in (None, "HYBRID"):
            raise NotImplementedHere(f"index_subtype {body['index_subtype']} is not available in the local workspace")
        if body.get("payload_logging_enabled"):
            raise NotImplementedHere("payload_logging_enabled is not available in the local workspace")
        kind = body.get("index_type")
        field = {"DIRECT_ACCESS": "direct_access_index_spec", "DELTA_SYNC": "delta_sync_index_spec"}.get(str(kind))
        if field is None:
            raise BadRequest("index_type must be DIRECT_ACCESS or DELTA_SYNC")
        spec, primary_key = body.get(field), specs.text(body, "primary_key")
        if not isinstance(spec, dict):
            raise BadRequest(f"{field} is required")
        standard = self.store.endpoint(endpoint)["endpoint_type"] == "STANDARD"
        self._catalog.get("schema", name.rpartition(".")[0])
        self._forget_if_its_schema_went(name)
        if self.store.has_index(name):
            raise AlreadyExists(f"Vector index {name!r} already exists")
        if self._catalog.find("table", name):
            raise AlreadyExists(f"{name!r} is a table")
        index_id = uuid.uuid4().hex
        if kind == "DIRECT_ACCESS":
            await self._engine.call("PUT", f"/indexes/{index_id}", json=specs.direct_access(primary_key, spec))
            self.store.add_index(name, index_id, endpoint, creator, primary_key, spec)
        else:
            columns = await self._checked_source(primary_key, spec, standard)
            with self.store.transaction():
                self.store.add_index(name, index_id, endpoint, creator, primary_key, spec)
                self._syncs.add(name, columns, spec["pipeline_type"], str(uuid.uuid4()))
            self.pipelines.begin(name)
        return self.index(name)

    async def _checked_source(self, primary_key: str, spec: dict[str, Any], standard: bool) -> dict[str, Any]:
        columns = specs.delta_sync(primary_key, spec)
        location = self.pipelines.location(columns["source_table"])
        if columns["embedder"]:
            for endpoint in {columns["embedder"], self._embedder(spec)}:
                self._serving.store.get(endpoint)
        request = columns | {"location": location, "needs_feed": standard}
        types: dict[str, str] = (await self._engine.call("POST", "/sources", json=request)).json()["type_names"]
        if columns["text"]:
            types |= {columns["vector"]: "array<float>"}
        return columns | {"type_names": types}

    def index(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """An index, of the given endpoint if one is given. Raises NotFound."""
        self._forget_if_its_schema_went(name.lower())
        return self.store.index(name, endpoint)

    def indexes(self, endpoint: str) -> list[dict[str, Any]]:
        """The indexes of an endpoint. Raises NotFound."""
        for row in self.store.indexes(self.store.endpoint(endpoint)["name"]):
            self._forget_if_its_schema_went(row["name"])
        return self.store.indexes(endpoint)

    def _forget_if_its_schema_went(self, name: str) -> None:
        # DROP SCHEMA … CASCADE takes indexes along; their vectors go at the next start.
        if self._catalog.find("schema", name.rpartition(".")[0]) is None:
            self.store.delete_index(name)

    def pipeline_id(self, index: dict[str, Any]) -> str | None:
        """The id of the pipeline of a delta-sync index."""
        sync = self._syncs.get(index["name"])
        return sync.pipeline_id if sync else None

    async def status(self, index: dict[str, Any], wait: float) -> dict[str, Any]:
        """How an index is; for a sync that ends within `wait` seconds is waited. Raises ApiError."""
        name = index["name"]
        await self.pipelines.wait(name, wait)
        count = await self._row_count(index)
        if sync := self._syncs.get(name):
            return status(sync, count)
        message = "Index is ready for direct access."
        shown = {"ready": True, "detailed_state": "ONLINE_DIRECT_ACCESS", "message": message}
        return shown | {"indexed_row_count": count}

    async def _row_count(self, index: dict[str, Any]) -> int:
        try:
            answer = await self._engine.call("GET", f"/indexes/{index['id']}")
        except ApiError as error:
            if error.error_code == NotFound.error_code and self._syncs.get(index["name"]):
                return 0  # it is made by its first sync
            raise
        return answer.json()["indexed_row_count"]

    async def sync(self, index: dict[str, Any]) -> None:
        """Bring a triggered index to its table's version, in the background. Raises BadRequest for any other."""
        sync = self._syncs.get(index["name"])
        if sync is None:
            raise BadRequest(
                f"Index {index['name']!r} is a direct-access index: there is nothing to sync, use upsert-data"
            )
        if sync.continuous:
            raise BadRequest(
                f"Index {index['name']!r} has the pipeline_type CONTINUOUS: it follows its table by itself"
            )
        self.pipelines.begin(index["name"])

    async def delete(self, index: dict[str, Any]) -> None:
        """Forget an index and its vectors."""
        await self.pipelines.forget(index["name"])
        self.store.delete_index(index["name"])
        await self._engine.call("DELETE", f"/indexes/{index['id']}")

    async def write(self, index: dict[str, Any], operation: str, content: bytes | AsyncIterator[bytes]) -> bytes:
        """Hand a request for `upsert` or `delete` on as it comes; the engine reads and checks it. Raises ApiError."""
        if self._syncs.get(index["name"]):
            raise BadRequest(f"Index {index['name']!r} is a delta-sync index: write to its source table instead")
        return await self._post(index, operation, content)

    async def query(self, index: dict[str, Any], content: bytes) -> bytes:
        """The rows nearest to a vector or text; the engine reads and checks the request. Raises ApiError."""
        facts = {"storage_optimized": str(index["endpoint_type"] == "STORAGE_OPTIMIZED")}
        if embedder := self._embedder(index["spec"]):
            facts["embedding_endpoint"] = embedder
        return await self._read(index, f"query?{urlencode(facts)}", content)

    async def next_page(self, index: dict[str, Any], content: bytes) -> bytes:
        """More rows of a query. Raises ApiError."""
        return await self._read(index, "query-next-page", content)

    async def scan(self, index: dict[str, Any], content: bytes) -> bytes:
        """Rows in the order of their primary keys. Raises ApiError."""
        return await self._read(index, "scan", content)

    async def _read(self, index: dict[str, Any], operation: str, content: bytes) -> bytes:
        if (sync := self._syncs.get(index["name"])) and sync.version is None:
            shown = status(sync, 0)
            message = f"Index {index['name']!r} is not ready: {shown['detailed_state']}. {shown['message']}"
            raise BadRequest(message, error_code="INVALID_STATE")
        return await self._post(index, operation, content)

    async def _post(self, index: dict[str, Any], operation: str, content: bytes | AsyncIterator[bytes]) -> bytes:
        path = f"/indexes/{index['id']}/{operation}"
        return (await self._engine.call("POST", path, content=content, headers=JSON)).content

    @staticmethod
    def _embedder(spec: dict[str, Any]) -> str | None:
        source = (spec.get("embedding_source_columns") or [{}])[0]
        return source.get("model_endpoint_name_for_query") or source.get("embedding_model_endpoint_name")

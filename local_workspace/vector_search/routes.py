"""The vector search API, `/indexes/{name}` and, as the client library says, `/endpoints/{endpoint}/indexes/{name}`."""

import json
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from local_workspace.auth import Principal
from local_workspace.bodies import read, read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest

BASE = "/api/2.0/vector-search"
INDEX_PATHS = (BASE + "/indexes/{name}", BASE + "/endpoints/{endpoint}/indexes/{name}")


class CreateEndpoint(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,48}$")
    endpoint_type: Literal["STANDARD", "STORAGE_OPTIMIZED"] = "STANDARD"


def router(ws: LocalWorkspace) -> APIRouter:
    """The vector search API."""
    api = APIRouter()
    vectors = ws.vectors
    store = vectors.store

    @api.post(BASE + "/endpoints")
    async def create_endpoint(body: CreateEndpoint, request: Request) -> dict:
        return _endpoint(store.create_endpoint(body.name, body.endpoint_type, _caller(request)))

    @api.get(BASE + "/endpoints")
    async def list_endpoints() -> dict:
        return {"endpoints": [_endpoint(row) for row in store.endpoints()]}

    @api.get(BASE + "/endpoints/{endpoint}")
    async def get_endpoint(endpoint: str) -> dict:
        return _endpoint(store.endpoint(endpoint))

    @api.delete(BASE + "/endpoints/{endpoint}")
    async def delete_endpoint(endpoint: str) -> dict:
        store.delete_endpoint(endpoint)
        return {}

    @api.post(BASE + "/indexes")
    @api.post(BASE + "/endpoints/{endpoint}/indexes")
    async def create_index(request: Request, endpoint: str | None = None) -> dict:
        body = await read_object(request)
        endpoint = endpoint or body.get("endpoint_name")
        if not isinstance(endpoint, str):
            raise BadRequest("endpoint_name is required")
        return _index(await vectors.create(endpoint, body, _caller(request)), 0)

    @api.get(BASE + "/indexes")
    async def list_indexes(endpoint_name: str) -> dict:
        return {"vector_indexes": [_mini(row) for row in store.indexes(store.endpoint(endpoint_name)["name"])]}

    @api.get(BASE + "/endpoints/{endpoint}/indexes")
    async def list_indexes_of(endpoint: str) -> dict:
        return await list_indexes(endpoint)

    async def get_index(name: str, endpoint: str | None = None) -> dict:
        index = store.index(name, endpoint)
        return _index(index, await vectors.row_count(index))

    async def delete_index(name: str, endpoint: str | None = None) -> dict:
        await vectors.delete(store.index(name, endpoint))
        return {}

    async def upsert(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.write(store.index(name, endpoint), "upsert", await read(request)))

    async def delete_data(name: str, request: Request, endpoint: str | None = None) -> Response:
        index = store.index(name, endpoint)
        keys = request.query_params.getlist("primary_keys")
        content = json.dumps({"primary_keys": keys}).encode() if keys else await read(request)
        return _raw(await vectors.write(index, "delete", content))

    async def query(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.query(store.index(name, endpoint), await read_object(request)))

    async def scan(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.scan(store.index(name, endpoint), await read_object(request)))

    async def sync(name: str, endpoint: str | None = None) -> dict:
        store.index(name, endpoint)
        raise BadRequest(f"Index {name!r} is a direct-access index: there is nothing to sync, use upsert-data")

    for path in INDEX_PATHS:
        api.add_api_route(path, get_index, methods=["GET"])
        api.add_api_route(path, delete_index, methods=["DELETE"])
        api.add_api_route(path + "/upsert-data", upsert, methods=["POST"])
        api.add_api_route(path + "/delete-data", delete_data, methods=["DELETE", "POST"])
        api.add_api_route(path + "/query", query, methods=["GET", "POST"])
        api.add_api_route(path + "/scan", scan, methods=["GET", "POST"])
        api.add_api_route(path + "/sync", sync, methods=["POST"])
    return api


def _caller(request: Request) -> str:
    principal: Principal = request.state.principal
    return principal.name


def _raw(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _endpoint(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "id": row["id"],
        "creator": row["creator"],
        "creation_timestamp": row["created_at"],
        "last_updated_timestamp": row["created_at"],
        "endpoint_type": row["endpoint_type"],
        "endpoint_status": {"state": "ONLINE"},
        "num_indexes": row["num_indexes"],
    }


def _mini(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "endpoint_name": row["endpoint"],
        "primary_key": row["primary_key"],
        "index_type": "DIRECT_ACCESS",
        "creator": row["creator"],
    }


def _index(row: dict[str, Any], row_count: int) -> dict[str, Any]:
    status = {
        "ready": True,
        "detailed_state": "ONLINE_DIRECT_ACCESS",
        "message": "Index is ready for direct access.",
        "indexed_row_count": row_count,
    }
    return _mini(row) | {"id": row["id"], "direct_access_index_spec": row["spec"], "status": status}

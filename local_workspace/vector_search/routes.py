"""The vector search API, `/indexes/{name}` and, as the client library says, `/endpoints/{endpoint}/indexes/{name}`."""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from local_workspace.auth import Principal
from local_workspace.bodies import read, read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.parity import differs
from local_workspace.vector_search.service import SHORT_SYNC_SECONDS

BASE = "/api/2.0/vector-search"
MAX_UPSERT_BYTES = 64 * 1024 * 1024
INDEX_PATHS = (BASE + "/indexes/{name}", BASE + "/endpoints/{endpoint}/indexes/{name}")


class CreateEndpoint(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,48}$")
    endpoint_type: Literal["STANDARD", "STORAGE_OPTIMIZED"] = "STANDARD"
    budget_policy_id: StrictStr | None = None
    usage_policy_id: StrictStr | None = None
    target_qps: StrictInt | None = Field(None, ge=1)


class ChangeEndpoint(BaseModel):
    """What can be changed of an endpoint."""

    model_config = ConfigDict(extra="forbid")

    target_qps: StrictInt | None = Field(None, ge=1)


class BudgetPolicy(BaseModel):
    """The policy that an endpoint's usage is billed by."""

    budget_policy_id: StrictStr


class Tag(BaseModel):
    """A key with or without a value."""

    key: StrictStr
    value: StrictStr | None = None


class Tags(BaseModel):
    """All tags of an endpoint: they replace those it has."""

    custom_tags: list[Tag]


def router(ws: LocalWorkspace) -> APIRouter:
    """The vector search API."""
    api = APIRouter()
    vectors = ws.vectors
    store = vectors.store

    @api.post(BASE + "/endpoints")
    @differs("It is online at once; policies and target_qps are stored and change nothing; both types search alike.")
    async def create_endpoint(body: CreateEndpoint, request: Request) -> dict:
        if body.target_qps is not None and body.endpoint_type == "STORAGE_OPTIMIZED":
            raise BadRequest("target_qps is for STANDARD endpoints")
        settings = body.model_dump(exclude={"name", "endpoint_type"}, exclude_none=True)
        return _endpoint(store.create_endpoint(body.name, body.endpoint_type, _caller(request), settings))

    @api.get(BASE + "/endpoints")
    async def list_endpoints() -> dict:
        return {"endpoints": [_endpoint(row) for row in store.endpoints()]}

    @api.get(BASE + "/endpoints/{endpoint}")
    async def get_endpoint(endpoint: str) -> dict:
        return _endpoint(store.endpoint(endpoint))

    @api.patch(BASE + "/endpoints/{endpoint}")
    @differs("target_qps is stored and shown; nothing is scaled by it.")
    async def update_endpoint(endpoint: str, body: ChangeEndpoint) -> dict:
        if store.endpoint(endpoint)["endpoint_type"] == "STORAGE_OPTIMIZED":
            raise BadRequest("target_qps is for STANDARD endpoints")
        return _endpoint(store.change_endpoint(endpoint, body.model_dump(exclude_none=True)))

    @api.patch(BASE + "/endpoints/{endpoint}/budget-policy")
    @differs("The policy is stored and shown; nothing is billed by it.")
    async def update_budget_policy(endpoint: str, body: BudgetPolicy) -> dict:
        store.change_endpoint(endpoint, body.model_dump())
        return {"budget_policy_id": body.budget_policy_id, "effective_budget_policy_id": body.budget_policy_id}

    @api.patch(BASE + "/endpoints/{endpoint}/tags")
    async def update_tags(endpoint: str, body: Tags) -> dict:
        settings = store.change_endpoint(endpoint, body.model_dump(exclude_none=True))["settings"]
        return {"name": endpoint, "custom_tags": settings["custom_tags"]}

    @api.delete(BASE + "/endpoints/{endpoint}")
    async def delete_endpoint(endpoint: str) -> dict:
        vectors.indexes(endpoint)
        store.delete_endpoint(endpoint)
        return {}

    @api.post(BASE + "/indexes")
    @api.post(BASE + "/endpoints/{endpoint}/indexes")
    @differs("Rows of a source table whose text or vector is NULL are not indexed; search is exact.")
    async def create_index(request: Request, endpoint: str | None = None) -> dict:
        body = await read_object(request)
        endpoint = endpoint or body.get("endpoint_name")
        if not isinstance(endpoint, str):
            raise BadRequest("endpoint_name is required")
        return await described(await vectors.create(endpoint, body, _caller(request)), wait=0)

    @api.get(BASE + "/indexes")
    async def list_indexes(endpoint_name: str) -> dict:
        endpoint = store.endpoint(endpoint_name)
        return {"vector_indexes": [_mini(row, endpoint) for row in vectors.indexes(endpoint_name)]}

    @api.get(BASE + "/endpoints/{endpoint}/indexes")
    async def list_indexes_of(endpoint: str) -> dict:
        return await list_indexes(endpoint)

    async def described(index: dict[str, Any], wait: float) -> dict:
        endpoint = store.endpoint(index["endpoint"])
        return _index(index, endpoint, vectors.pipeline_id(index), await vectors.status(index, wait))

    @differs("An answer that would say that a sync runs waits for its end, two seconds at most.")
    async def get_index(name: str, endpoint: str | None = None) -> dict:
        return await described(vectors.index(name, endpoint), SHORT_SYNC_SECONDS)

    async def delete_index(name: str, endpoint: str | None = None) -> dict:
        await vectors.delete(vectors.index(name, endpoint))
        return {}

    async def upsert(name: str, request: Request, endpoint: str | None = None) -> Response:
        index = vectors.index(name, endpoint)
        return _raw(await vectors.write(index, "upsert", _bounded(request.stream())))

    async def delete_data(name: str, request: Request, endpoint: str | None = None) -> Response:
        index = vectors.index(name, endpoint)
        keys = request.query_params.getlist("primary_keys")
        body = json.dumps({"primary_keys": keys}).encode() if keys else await read(request)
        return _raw(await vectors.write(index, "delete", body))

    @differs("reranker, facets and sort_columns are refused by name.")
    async def query(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.query(vectors.index(name, endpoint), await read(request)))

    async def next_page(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.next_page(vectors.index(name, endpoint), await read(request)))

    async def scan(name: str, request: Request, endpoint: str | None = None) -> Response:
        return _raw(await vectors.scan(vectors.index(name, endpoint), await read(request)))

    async def sync(name: str, endpoint: str | None = None) -> dict:
        await vectors.sync(vectors.index(name, endpoint))
        return {}

    for path in INDEX_PATHS:
        api.add_api_route(path, get_index, methods=["GET"])
        api.add_api_route(path, delete_index, methods=["DELETE"])
        api.add_api_route(path + "/upsert-data", upsert, methods=["POST"])
        api.add_api_route(path + "/delete-data", delete_data, methods=["DELETE", "POST"])
        api.add_api_route(path + "/query", query, methods=["GET", "POST"])
        api.add_api_route(path + "/query-next-page", next_page, methods=["GET", "POST"])
        api.add_api_route(path + "/scan", scan, methods=["GET", "POST"])
        api.add_api_route(path + "/sync", sync, methods=["POST"])
    return api


def _caller(request: Request) -> str:
    principal: Principal = request.state.principal
    return principal.name


async def _bounded(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > MAX_UPSERT_BYTES:
            raise BadRequest(
                f"inputs_json: the request has more than {MAX_UPSERT_BYTES} bytes; send fewer rows at once"
            )
        yield chunk


def _raw(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _endpoint(row: dict[str, Any]) -> dict[str, Any]:
    settings = dict(row["settings"])
    shown: dict[str, Any] = {
        "name": row["name"],
        "id": row["id"],
        "creator": row["creator"],
        "creation_timestamp": row["created_at"],
        "last_updated_timestamp": row["created_at"],
        "last_updated_user": row["creator"],
        "endpoint_type": row["endpoint_type"],
        "endpoint_status": {"state": "ONLINE"},
        "num_indexes": row["num_indexes"],
    }
    if qps := settings.pop("target_qps", None):
        shown["scaling_info"] = {"requested_target_qps": qps}
    if policy := settings.get("budget_policy_id"):
        shown["effective_budget_policy_id"] = policy
    return shown | settings


def _mini(row: dict[str, Any], endpoint: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "endpoint_name": row["endpoint"],
        "endpoint_id": endpoint["id"],
        "primary_key": row["primary_key"],
        "index_type": "DELTA_SYNC" if "source_table" in row["spec"] else "DIRECT_ACCESS",
        "index_subtype": "HYBRID",
        "creator": row["creator"],
    }


def _index(
    row: dict[str, Any], endpoint: dict[str, Any], pipeline_id: str | None, status: dict[str, Any]
) -> dict[str, Any]:
    shown = _mini(row, endpoint) | {"id": row["id"], "status": status}
    if pipeline_id:
        return shown | {"delta_sync_index_spec": row["spec"] | {"pipeline_id": pipeline_id}}
    return shown | {"direct_access_index_spec": row["spec"]}

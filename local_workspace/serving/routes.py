"""The serving endpoints API: management under `/api/2.0`, the data plane in `invocations`."""

import asyncio
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from local_workspace.auth import Principal
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound
from local_workspace.parity import differs
from local_workspace.serving import invocations, refused
from local_workspace.serving.gateway.wire import AiGateway, RateLimits
from local_workspace.serving.openapi import document
from local_workspace.serving.store import Endpoint
from local_workspace.serving.views import detailed, summary
from local_workspace.serving.wire import CreateEndpoint, EndpointConfig, Notifications, TagsPatch

ENDPOINTS = "/api/2.0/serving-endpoints"
ENDPOINT = ENDPOINTS + "/{name}"
LOG_BYTES = 64 * 1024
SIZES = (
    "Workload sizes and types, throughput and concurrency are stored and shown: a model runs in one process of this "
    "machine. Custom models run in the workspace's own Python environment; the build log says how it meets theirs."
)


def router(ws: LocalWorkspace) -> APIRouter:
    """The serving API."""
    api = APIRouter()
    api.include_router(refused.router())
    api.include_router(invocations.router(ws))
    serving = ws.serving

    @api.post(ENDPOINTS)
    @differs(SIZES)
    async def create(body: CreateEndpoint, request: Request) -> dict:
        principal: Principal = request.state.principal
        return detailed(serving, await serving.create(body, principal.name))

    @api.get(ENDPOINTS)
    async def list_endpoints() -> dict:
        return {"endpoints": [summary(serving, endpoint) for endpoint in serving.store.all()]}

    @api.get(ENDPOINT)
    async def get(name: str) -> dict:
        return detailed(serving, serving.store.get(name))

    @api.delete(ENDPOINT)
    async def delete(name: str) -> dict:
        await serving.delete(name)
        return {}

    @api.put(ENDPOINT + "/config")
    @differs(SIZES)
    async def update_config(name: str, body: EndpointConfig) -> dict:
        return detailed(serving, serving.update(name, body))

    @api.put(ENDPOINT + "/ai-gateway")
    @differs(
        "Guardrails know keywords alone; the payload table has a row within seconds of an answer, written again if the "
        "workspace was killed between writing and forgetting it; usage is tracked in the table "
        "main.system_serving.endpoint_usage, with usage_context as JSON text."
    )
    async def put_ai_gateway(name: str, body: AiGateway) -> dict:
        return await serving.set_ai_gateway(name, body)

    @api.put(ENDPOINT + "/rate-limits")
    async def put_rate_limits(name: str, body: RateLimits) -> dict:
        serving.store.get(name)
        limits = [limit.model_dump(exclude_none=True) for limit in body.rate_limits or []]
        serving.store.set(name, "rate_limits", limits)
        serving.changed(name)
        return {"rate_limits": limits}

    @api.patch(ENDPOINT + "/notifications")
    @differs("Stored and shown; the local workspace sends no mail.")
    async def update_notifications(name: str, body: Notifications) -> dict:
        serving.store.get(name)
        told = body.email_notifications.model_dump(exclude_none=True) if body.email_notifications else {}
        serving.store.set(name, "email_notifications", told)
        return {"name": name, "email_notifications": told}

    @api.patch(ENDPOINT + "/tags")
    async def patch_tags(name: str, body: TagsPatch) -> dict:
        tags = {tag["key"]: tag for tag in serving.store.get(name).tags}
        for key in body.delete_tags or []:
            tags.pop(key, None)
        tags |= {tag.key: tag.model_dump(exclude_none=True) for tag in body.add_tags or []}
        serving.store.set_tags(name, list(tags.values()))
        return {"tags": list(tags.values())}

    @api.get(ENDPOINT + "/metrics")
    @differs("Counted since the workspace started; the load is that of the endpoint's processes on this machine.")
    def metrics(name: str) -> Response:
        endpoint = serving.store.get(name)
        processes = [serving.models.process(name, entity) for entity in _entities(endpoint)]
        pids = [process.engine.pid for process in processes if process and process.engine.pid]
        return PlainTextResponse(serving.metrics(name).text(pids), media_type=CONTENT_TYPE_LATEST)

    @api.get(ENDPOINT + "/openapi")
    async def openapi(name: str) -> Response:
        endpoint = serving.store.get(name)
        config = endpoint.config or endpoint.pending or {}
        entity = config["served_entities"][0]
        signature = None if config.get("task") else serving.models.signature(entity).get("signature")
        shown = document(name, ws.host, config.get("task"), signature)
        return PlainTextResponse(json.dumps(shown), media_type="application/json")

    @api.get(ENDPOINT + "/served-models/{entity}/logs")
    @differs("Models of `system.ai` run once for all endpoints: their log is that of all.")
    async def logs(name: str, entity: str) -> dict:
        endpoint = serving.store.get(name)
        return {"logs": await asyncio.to_thread(_tail, serving.models.log(name, _entity(endpoint, entity)))}

    @api.get(ENDPOINT + "/served-models/{entity}/build-logs")
    @differs("Nothing is built: it says how the model's requirements are met here, and how it was loaded.")
    async def build_logs(name: str, entity: str) -> dict:
        endpoint = serving.store.get(name)
        path = serving.models.build_log(name, _entity(endpoint, entity))
        return {"logs": await asyncio.to_thread(_tail, path)}

    return api


def _entities(endpoint: Endpoint) -> list[dict[str, Any]]:
    pending = endpoint.pending["served_entities"] if endpoint.pending else []
    return [*(endpoint.config["served_entities"] if endpoint.config else []), *pending]


def _entity(endpoint: Endpoint, name: str) -> dict[str, Any]:
    entities = _entities(endpoint)
    for entity in reversed(entities):
        if entity["name"] == name:
            return entity
    known = ", ".join(sorted({entity["name"] for entity in entities}))
    raise NotFound(f"Endpoint '{endpoint.name}' has no served entity {name!r}; it has {known}.")


def _tail(path: Path | None) -> str:
    if path is None:
        raise BadRequest("this served entity has no such log: it runs in no process of this endpoint")
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace")

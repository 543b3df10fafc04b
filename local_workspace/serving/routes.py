"""The serving endpoints API: management under `/api/2.0`, the data plane in `invocations`."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request

from local_workspace.auth import Principal
from local_workspace.context import LocalWorkspace
from local_workspace.serving import invocations
from local_workspace.serving.service import Serving
from local_workspace.serving.store import IN_PROGRESS, UPDATE_FAILED, Endpoint
from local_workspace.serving.wire import AiGateway, CreateEndpoint, EndpointConfig, TagsPatch

ENDPOINTS = "/api/2.0/serving-endpoints"
SUMMARY = ("name", "entity_name", "entity_version", "external_model")
DEPLOYMENTS = {IN_PROGRESS: "DEPLOYMENT_CREATING", UPDATE_FAILED: "DEPLOYMENT_FAILED"}


def router(ws: LocalWorkspace) -> APIRouter:
    """The serving API."""
    api = APIRouter()
    api.include_router(invocations.router(ws))
    serving = ws.serving

    @api.post(ENDPOINTS)
    async def create(body: CreateEndpoint, request: Request) -> dict:
        principal: Principal = request.state.principal
        return _detailed(serving, serving.create(body, principal.name))

    @api.get(ENDPOINTS)
    async def list_endpoints() -> dict:
        return {"endpoints": [_summary(serving, endpoint) for endpoint in serving.store.all()]}

    @api.get(ENDPOINTS + "/{name}")
    async def get(name: str) -> dict:
        return _detailed(serving, serving.store.get(name))

    @api.delete(ENDPOINTS + "/{name}")
    async def delete(name: str) -> dict:
        serving.delete(name)
        return {}

    @api.put(ENDPOINTS + "/{name}/config")
    async def update_config(name: str, body: EndpointConfig) -> dict:
        return _detailed(serving, serving.update(name, body))

    @api.put(ENDPOINTS + "/{name}/ai-gateway")
    async def put_ai_gateway(name: str, body: AiGateway) -> dict:
        serving.store.get(name)
        body.refuse_what_is_on()
        settings = body.model_dump(exclude_none=True)
        serving.store.set_ai_gateway(name, settings)
        return settings

    @api.patch(ENDPOINTS + "/{name}/tags")
    async def patch_tags(name: str, body: TagsPatch) -> dict:
        tags = {tag["key"]: tag for tag in serving.store.get(name).tags}
        for key in body.delete_tags:
            tags.pop(key, None)
        tags |= {tag.key: tag.model_dump(exclude_none=True) for tag in body.add_tags}
        serving.store.set_tags(name, list(tags.values()))
        return {"tags": list(tags.values())}

    return api


def _summary(serving: Serving, endpoint: Endpoint) -> dict[str, Any]:
    config = endpoint.config or endpoint.pending or {"served_entities": []}
    entities = [
        {field: value for field, value in entity.items() if field in SUMMARY}
        for entity in _entities(config["served_entities"])
    ]
    return {
        "name": endpoint.name,
        "id": endpoint.id,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_at,
        "last_updated_timestamp": endpoint.updated_at,
        "description": endpoint.description or "",
        "state": {"ready": "READY" if endpoint.config else "NOT_READY", "config_update": endpoint.config_update},
        "config": {"served_entities": entities},
        "tags": endpoint.tags,
        "task": serving.task(endpoint),
        **({"ai_gateway": endpoint.ai_gateway} if endpoint.ai_gateway else {}),
    }


def _detailed(serving: Serving, endpoint: Endpoint) -> dict[str, Any]:
    answer = _summary(serving, endpoint) | {"permission_level": "CAN_MANAGE", "route_optimized": False}
    del answer["config"]
    if endpoint.config:
        answer["config"] = _config(endpoint, endpoint.config, "DEPLOYMENT_READY", "", endpoint.config_version)
    if endpoint.pending:
        deployment = DEPLOYMENTS[endpoint.config_update]
        pending = _config(endpoint, endpoint.pending, deployment, endpoint.message, endpoint.config_version + 1)
        answer["pending_config"] = pending | {"start_time": endpoint.updated_at}
    return answer


def _config(endpoint: Endpoint, config: dict[str, Any], deployment: str, message: str, version: int) -> dict[str, Any]:
    facts = {
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_at,
        "state": {"deployment": deployment, "deployment_state_message": message},
    }
    entities = [entity | facts for entity in _entities(config["served_entities"])]
    return config | {"served_entities": entities, "config_version": version}


def _entities(entities: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The served entities without the keys they were given in plain text."""
    for entity in entities:
        if external := entity.get("external_model"):
            shown = {k: v for k, v in external["openai_config"].items() if not k.endswith("_plaintext")}
            yield entity | {"external_model": external | {"openai_config": shown}}
        else:
            yield entity

"""Configurations as they are kept: every name filled in, and nothing in them that cannot be served."""

from typing import Any

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.serving.external import endpoint_behind
from local_workspace.serving.gateway.wire import AiGateway
from local_workspace.serving.models import Models
from local_workspace.serving.store import Endpoints
from local_workspace.serving.wire import EndpointConfig


class Configs:
    """Checks what an endpoint shall serve."""

    def __init__(self, store: Endpoints, models: Models, host: str):
        self._store = store
        self._models = models
        self._host = host

    def checked(self, endpoint: str, body: EndpointConfig) -> dict[str, Any]:
        """The configuration with every name filled in. Raises ApiError when it cannot be served."""
        shares = body.shares()
        config = body.model_dump(exclude_none=True, exclude={"name", "traffic_config"})
        tasks = set()
        for entity, asked in zip(config["served_entities"], body.entities, strict=True):
            entity["name"] = asked.served_name
            if asked.entity_name:
                entity.setdefault("entity_version", "1")
            self._no_loop(endpoint, entity, [endpoint])
            tasks.add(self._models.task(endpoint, entity))
        if len(tasks) > 1:
            raise BadRequest(f"served_entities must have the same task, not {', '.join(sorted(map(str, tasks)))}")
        routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
        return config | {"traffic_config": {"routes": routes}, "task": tasks.pop()}

    def check_gateway(self, gateway: AiGateway, config: dict[str, Any] | None) -> None:
        """Raises when the gateway's settings do not go with what the endpoint serves."""
        entities = (config or {"served_entities": []})["served_entities"]
        if gateway.falls_back and not all("external_model" in entity for entity in entities):
            raise BadRequest("ai_gateway.fallback_config: fallbacks are for endpoints of external models alone")
        words = gateway.guardrails and gateway.guardrails.output and gateway.guardrails.output.invalid_keywords
        if words and (config or {}).get("task") == "llm/v1/embeddings":
            raise NotImplementedHere("ai_gateway.guardrails.output: embeddings hold no words")

    def _no_loop(self, endpoint: str, entity: dict[str, Any], path: list[str]) -> None:
        target = endpoint_behind(entity["external_model"], self._host) if "external_model" in entity else None
        if target is None:
            return
        if target in path:
            raise BadRequest(f"served_entities: endpoint '{endpoint}' would call itself: {' → '.join([*path, target])}")
        if found := self._store.find(target):
            for config in (found.config, found.pending):
                for entity_behind in (config or {"served_entities": []})["served_entities"]:
                    self._no_loop(endpoint, entity_behind, [*path, target])

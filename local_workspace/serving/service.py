"""Endpoints over models: configurations are brought up in the background, requests go to who gets the traffic."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import ApiError, BadRequest, NotImplementedHere, Unavailable
from local_workspace.serving.models import PATHS, Models, ServedModel
from local_workspace.serving.store import IN_PROGRESS, Endpoint, Endpoints
from local_workspace.serving.wire import CreateEndpoint, EndpointConfig


@dataclass(frozen=True)
class Destination:
    """Where a request to an endpoint goes."""

    endpoint: str
    served_entity: str
    model: ServedModel


class Serving:
    """The serving endpoints of a workspace."""

    def __init__(self, store: Endpoints, models: Models):
        self.store = store
        self._models = models
        self._deployments: dict[str, asyncio.Task[None]] = {}

    def create(self, body: CreateEndpoint, creator: str) -> Endpoint:
        """A new endpoint, not ready yet. Raises ApiError when a model of it is unknown."""
        config = self._checked(body.config)
        if body.ai_gateway:
            body.ai_gateway.refuse_what_is_on()
        tags = [tag.model_dump(exclude_none=True) for tag in body.tags]
        self.store.create(body.name, creator, config, body.description, tags)
        if body.ai_gateway:
            self.store.set_ai_gateway(body.name, body.ai_gateway.model_dump(exclude_none=True))
        self._deploy(body.name, config)
        return self.store.get(body.name)

    def update(self, name: str, body: EndpointConfig) -> Endpoint:
        """Bring another configuration in; the present one serves until it is ready. Raises NotFound, Conflict."""
        self.store.get(name)
        config = self._checked(body)
        self.store.begin(name, config)
        self._deploy(name, config)
        return self.store.get(name)

    def delete(self, name: str) -> None:
        """Forget an endpoint and what is on its way in. Raises NotFound."""
        self.store.delete(name)
        if deployment := self._deployments.pop(name, None):
            deployment.cancel()

    def task(self, endpoint: Endpoint) -> str:
        """What the endpoint's models do, such as `llm/v1/chat`."""
        return self._model((endpoint.config or endpoint.pending or {})["served_entities"][0]).task

    def destination(self, name: str) -> Destination:
        """Where a request to the endpoint goes, by the traffic's shares. Raises NotFound, Unavailable."""
        endpoint = self.store.get(name)
        if endpoint.config is None:
            reason = endpoint.message or "its model is being loaded"
            raise Unavailable(f"Endpoint '{name}' is not ready: {reason}")
        shares = EndpointConfig(**endpoint.config).shares()
        chosen = random.choices(list(shares), list(shares.values()))[0]  # noqa: S311 - no secret depends on it
        entity = next(e for e in endpoint.config["served_entities"] if e["name"] == chosen)
        return Destination(name, chosen, self._model(entity))

    def resume(self) -> None:
        """After a restart: go on with what was on its way in, and load the models that do not scale to zero."""
        for endpoint in self.store.all():
            if endpoint.config_update == IN_PROGRESS and endpoint.pending:
                self._deploy(endpoint.name, endpoint.pending)
            elif endpoint.config:
                self._remember(endpoint.name, self._warm(endpoint.config))

    async def stop(self) -> None:
        """End what is on its way in and stop the engines."""
        deployments = list(self._deployments.values())
        for deployment in deployments:
            deployment.cancel()
        await asyncio.gather(*deployments, return_exceptions=True)
        await self._models.stop()

    def _checked(self, body: EndpointConfig) -> dict[str, Any]:
        """The configuration with every name filled in. Raises ApiError when it cannot be served."""
        shares = body.shares()
        config = body.model_dump(exclude_none=True, exclude={"name", "traffic_config"})
        tasks = set()
        for entity, asked in zip(config["served_entities"], body.served_entities, strict=True):
            if (asked.entity_name is None) == (asked.external_model is None):
                raise BadRequest("served_entities: each needs either entity_name or external_model")
            entity["name"] = asked.served_name
            if asked.entity_name:
                entity.setdefault("entity_version", "1")
            if asked.external_model and asked.external_model.openai_config is None:
                raise BadRequest("external_model.openai_config is required for provider 'openai'")
            if asked.external_model and asked.external_model.task not in PATHS:
                raise NotImplementedHere(
                    f"external_model.task {asked.external_model.task!r} is not available in the local workspace; "
                    f"it has {', '.join(PATHS)}"
                )
            tasks.add(self._model(entity).task)
        if len(tasks) > 1:
            raise BadRequest(f"served_entities must have the same task, not {', '.join(sorted(tasks))}")
        routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in shares.items()]
        return config | {"traffic_config": {"routes": routes}}

    def _model(self, entity: dict[str, Any]) -> ServedModel:
        if "external_model" in entity:
            return self._models.external(entity["external_model"])
        return self._models.entity(entity["entity_name"], entity["entity_version"])

    def _deploy(self, name: str, config: dict[str, Any]) -> None:
        self._remember(name, self._bring_up(name, config))

    def _remember(self, name: str, work: Any) -> None:
        deployment = asyncio.get_running_loop().create_task(work, name=f"deploy-{name}")
        self._deployments[name] = deployment

        def forget(done: asyncio.Task[None]) -> None:
            if self._deployments.get(name) is done:
                del self._deployments[name]

        deployment.add_done_callback(forget)

    async def _bring_up(self, name: str, config: dict[str, Any]) -> None:
        try:
            for entity in config["served_entities"]:
                await self._model(entity).prepare()
        except ApiError as error:
            self.store.fail(name, error.message)
        else:
            self.store.activate(name, config)

    async def _warm(self, config: dict[str, Any]) -> None:
        for entity in config["served_entities"]:
            if not entity.get("scale_to_zero_enabled"):
                with suppress(ApiError):  # the first request tries again, and says it
                    await self._model(entity).prepare()

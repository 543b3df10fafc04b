"""Endpoints over models: configurations are brought up in the background while the present one serves."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

from local_workspace.errors import ApiError, NotFound, Unavailable
from local_workspace.serving.configs import Configs
from local_workspace.serving.gateway.metrics import Metrics
from local_workspace.serving.gateway.records import Records
from local_workspace.serving.gateway.tables import Tables
from local_workspace.serving.gateway.wire import AiGateway
from local_workspace.serving.models import Models
from local_workspace.serving.store import IN_PROGRESS, Endpoint, Endpoints
from local_workspace.serving.traffic import Destination, Gateway, Serves, gateway
from local_workspace.serving.wire import CreateEndpoint, EndpointConfig, ServedEntity

CREATING, READY, FAILED = "DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_FAILED"
ABORTED, RECOVERING = "DEPLOYMENT_ABORTED", "DEPLOYMENT_RECOVERING"
SWEEP_SECONDS = 15.0


class Serving:
    """The serving endpoints of a workspace."""

    def __init__(
        self, store: Endpoints, models: Models, configs: Configs, tables: Tables, records: Records, idle_seconds: float
    ):
        self.store = store
        self.models = models
        self.records = records
        self._configs = configs
        self._tables = tables
        self._idle_seconds = idle_seconds
        self._serves: dict[str, Serves] = {}
        self._gateways: dict[str, Gateway] = {}
        self._metrics: dict[str, Metrics] = {}
        self._deployments: dict[str, asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def create(self, body: CreateEndpoint, creator: str) -> Endpoint:
        """A new endpoint, not ready yet. Raises ApiError when a model of it is unknown."""
        self.store.check_free(body.name)
        config = self._configs.checked(body.name, body.config)
        tags = [tag.model_dump(exclude_none=True) for tag in body.tags or []]
        if body.ai_gateway:
            await self._prepare_gateway(body.name, body.ai_gateway, config)
        self.store.create(body.name, creator, config, body.description, tags)
        if body.ai_gateway:
            self.store.set_ai_gateway(body.name, body.ai_gateway.model_dump(exclude_none=True))
        extra = body.model_dump(exclude_none=True, include={"rate_limits", "email_notifications", "budget_policy_id"})
        for name, value in extra.items():
            self.store.set(body.name, name, value)
        self._deploy(body.name, config)
        return self.store.get(body.name)

    def update(self, name: str, body: EndpointConfig) -> Endpoint:
        """Bring another configuration in; the present one serves until it is ready. Raises NotFound, Conflict."""
        endpoint = self.store.get(name)
        present = endpoint.config or endpoint.pending
        if body.served_entities is None and present:
            entities = [ServedEntity.model_validate(entity) for entity in present["served_entities"]]
            body = body.model_copy(update={"served_entities": entities})
        config = self._configs.checked(name, body)
        self._configs.check_gateway(AiGateway.model_validate(endpoint.ai_gateway or {}), config)
        self.store.begin(name, config)
        self._deploy(name, config)
        return self.store.get(name)

    async def delete(self, name: str) -> None:
        """Forget an endpoint, what is on its way in, and stop what nobody else uses. Raises NotFound."""
        self.store.delete(name)
        if deployment := self._deployments.pop(name, None):
            deployment.cancel()
        self._serves.pop(name, None)
        self._gateways.pop(name, None)
        self._metrics.pop(name, None)
        self._in_background(f"release-{name}", self._sweep())

    async def set_ai_gateway(self, name: str, body: AiGateway) -> dict[str, Any]:
        """Put other gateway settings in place. Raises ApiError when they cannot be."""
        endpoint = self.store.get(name)
        await self._prepare_gateway(name, body, endpoint.config or endpoint.pending)
        settings = body.model_dump(exclude_none=True)
        self.store.set_ai_gateway(name, settings)
        self.changed(name)
        return settings

    def changed(self, name: str) -> None:
        """Read an endpoint's settings again at its next request; what was counted of it stays."""
        self._serves.pop(name, None)
        self._gateways.pop(name, None)

    def serves(self, name: str) -> Serves:
        """The endpoint as it serves now. Raises NotFound, Unavailable."""
        if name not in self._serves:
            endpoint = self.store.get(name)
            if endpoint.config is None:
                reason = endpoint.message or "its model is being loaded"
                raise Unavailable(f"Endpoint '{name}' is not ready: {reason}")
            self._serves[name] = Serves(endpoint, self.models, self.gateway(name))
        return self._serves[name]

    def gateway(self, name: str) -> Gateway:
        """An endpoint's gateway. Raises NotFound."""
        if name not in self._gateways:
            self._gateways[name] = gateway(self.store.get(name), self.metrics(name))
        return self._gateways[name]

    def metrics(self, name: str) -> Metrics:
        """What an endpoint has done since the workspace started."""
        return self._metrics.setdefault(name, Metrics(name))

    def destination(self, name: str) -> Destination:
        """Where a request to the endpoint goes, by the traffic's shares. Raises NotFound, Unavailable."""
        return self.serves(name).pick()

    def deployment(self, endpoint: Endpoint, entity: dict[str, Any]) -> tuple[str, str]:
        """The state of an entity that serves, and what there is to say of it."""
        process = self.models.process(endpoint.name, entity)
        if "external_model" in entity or (process and process.engine.running):
            return READY, ""
        if process and process.wanted:
            return RECOVERING, "The model's process has ended; it is started again"
        return READY, "Scaled to zero"

    def resume(self) -> None:
        """After a restart: go on with what was on its way in, and load the models that do not scale to zero."""
        self.records.start()
        for endpoint in self.store.all():
            if endpoint.config and "task" not in endpoint.config:  # kept by an older version
                task = self.models.task(endpoint.name, endpoint.config["served_entities"][0])
                self.store.keep(endpoint.name, endpoint.config | {"task": task})
            if endpoint.config_update == IN_PROGRESS and endpoint.pending:
                self._deploy(endpoint.name, endpoint.pending)
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_forever(), name="serving-sweeper")

    async def stop(self) -> None:
        """End what is on its way in and stop the engines."""
        tasks = [*self._deployments.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.records.stop()
        await self.models.stop()

    async def _prepare_gateway(self, name: str, body: AiGateway, config: dict[str, Any] | None) -> None:
        self._configs.check_gateway(body, config)
        if body.inference_table_config and body.inference_table_config.enabled:
            await self._tables.payload(name, body.inference_table_config)
        if body.usage_tracking_config and body.usage_tracking_config.enabled:
            await self._tables.usage()

    def _deploy(self, name: str, config: dict[str, Any]) -> None:
        self._in_background(name, self._bring_up(name, config))

    def _in_background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"serving-{name}")
        self._deployments[name] = task

        def forget(done: asyncio.Task[None]) -> None:
            if self._deployments.get(name) is done:
                del self._deployments[name]

        task.add_done_callback(forget)

    async def _bring_up(self, name: str, config: dict[str, Any]) -> None:
        progress = {entity["name"]: [CREATING, ""] for entity in config["served_entities"]}
        self.store.set(name, "progress", progress)

        async def bring_up(entity: dict[str, Any]) -> None:
            try:
                await self.models.of(name, entity).prepare()
            except ApiError as error:
                progress[entity["name"]] = [FAILED, error.message]
                raise
            except asyncio.CancelledError:
                progress[entity["name"]] = [ABORTED, "Another served entity of this configuration has failed"]
                raise
            progress[entity["name"]] = [READY, ""]
            self.store.set(name, "progress", progress)

        try:
            async with asyncio.TaskGroup() as group:
                for entity in config["served_entities"]:
                    group.create_task(bring_up(entity))
        except* ApiError as errors:
            self.store.set(name, "progress", progress)
            self.store.fail(name, str(errors.exceptions[0]))
        else:
            self.store.activate(name, config)
            self._serves.pop(name, None)
        await self._sweep()

    async def _sweep_forever(self) -> None:
        while True:
            await self._sweep()
            await asyncio.sleep(min(SWEEP_SECONDS, self._idle_seconds / 4))

    async def _sweep(self) -> None:
        """Stop what is not needed, and start again what has died or did not run yet."""
        awake = {
            key: (name, entity)
            for key, name, entity, serving in self._users()
            if serving and not entity.get("scale_to_zero_enabled")
        }
        await self.models.sweep(lambda: {key for key, *_ in self._users()}, awake, self._idle_seconds)
        await asyncio.gather(*(self._wake(name, entity) for name, entity in awake.values()))

    def _users(self) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
        """What processes are kept by, with the endpoint and entity that use them, and whether these serve already."""
        for endpoint in self.store.all():
            pending = endpoint.pending if endpoint.config_update == IN_PROGRESS else None
            for config in filter(None, (endpoint.config, pending)):
                for entity in config["served_entities"]:
                    with contextlib.suppress(NotFound):
                        if key := self.models.key(endpoint.name, entity):
                            yield key, endpoint.name, entity, config is endpoint.config

    async def _wake(self, name: str, entity: dict[str, Any]) -> None:
        with contextlib.suppress(ApiError):  # the next request tries again, and says it
            await self.models.of(name, entity).prepare()

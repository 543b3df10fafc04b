"""An endpoint as it serves now: its models, who gets which share, and what the gateway lets through."""

import random
import uuid
from dataclasses import dataclass, field

from local_workspace.errors import NotFound
from local_workspace.serving.gateway.guardrails import Keywords
from local_workspace.serving.gateway.limits import Limits
from local_workspace.serving.gateway.metrics import Metrics
from local_workspace.serving.gateway.tables import payload_table
from local_workspace.serving.gateway.wire import AiGateway, RateLimit
from local_workspace.serving.models import Models, ServedModel
from local_workspace.serving.store import Endpoint


@dataclass(frozen=True)
class Destination:
    """A served entity of an endpoint and its model."""

    endpoint: str
    served_entity: str
    id: str
    model: ServedModel


@dataclass
class Gateway:
    """What holds for an endpoint whatever it serves: it outlives the change of configurations."""

    settings: AiGateway
    limits: Limits
    keywords: Keywords
    metrics: Metrics
    table: str | None = field(init=False)
    """The inference table."""
    usage: bool = field(init=False)
    """Whether usage is tracked."""

    def __post_init__(self) -> None:
        inference, usage = self.settings.inference_table_config, self.settings.usage_tracking_config
        self.table = payload_table(self.metrics.endpoint, inference) if inference and inference.enabled else None
        self.usage = bool(usage and usage.enabled)

    @property
    def needs_tokens(self) -> bool:
        """Whether the tokens of a stream must be known too."""
        return self.usage or self.limits.count_tokens


def gateway(endpoint: Endpoint, metrics: Metrics) -> Gateway:
    """The gateway as an endpoint's settings describe it."""
    settings = AiGateway.model_validate(endpoint.ai_gateway or {})
    legacy = [RateLimit.model_validate(limit) for limit in endpoint.settings.get("rate_limits") or []]
    limits = Limits(endpoint.name, [*(settings.rate_limits or []), *legacy])
    return Gateway(settings, limits, Keywords(settings.guardrails), metrics)


class Serves:
    """The configuration that serves: which entity gets the next request."""

    def __init__(self, endpoint: Endpoint, models: Models, gateway: Gateway):
        config = endpoint.config or {}
        self.gateway = gateway
        self.task: str | None = config.get("task")
        self.name = endpoint.name
        self._served = {
            entity["name"]: Destination(
                endpoint.name,
                entity["name"],
                uuid.uuid5(uuid.UUID(endpoint.id), f"{endpoint.config_version}/{entity['name']}").hex,
                models.of(endpoint.name, entity),
            )
            for entity in config["served_entities"]
        }
        routes = config["traffic_config"]["routes"]
        self._names = [route["served_entity_name"] for route in routes]
        self._weights = [route["traffic_percentage"] for route in routes]

    def pick(self) -> Destination:
        """Who gets the next request, by the shares."""
        if len(self._names) == 1:
            return self._served[self._names[0]]
        return self._served[random.choices(self._names, self._weights)[0]]  # noqa: S311 - no secret depends on it

    def named(self, name: str) -> Destination:
        """One served entity. Raises NotFound."""
        if name not in self._served:
            known = ", ".join(self._served)
            raise NotFound(f"Endpoint '{self.name}' has no served entity {name!r}; it has {known}.")
        return self._served[name]

    def order(self) -> list[Destination]:
        """Who is asked, one after the other until one can answer."""
        first = self.pick()
        if not self.gateway.settings.falls_back:
            return [first]
        return [first, *(served for served in self._served.values() if served is not first)]

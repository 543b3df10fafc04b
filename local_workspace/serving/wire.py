"""The request bodies of the serving management API; what is not done here is refused by its name."""

import re
from typing import Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.serving.body import Body
from local_workspace.serving.gateway.wire import AiGateway, RateLimit
from local_workspace.serving.tasks import PATHS

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
URL = r"^https?://[^/\s]+"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PROVIDERS = {
    "openai": "openai_config",
    "custom": "custom_provider_config",
    "databricks-model-serving": "databricks_model_serving_config",
}
LEGACY_TABLES = (
    "auto_capture_config: legacy inference tables are no longer supported; "
    "use AI Gateway inference tables (ai_gateway.inference_table_config)"
)


class OpenAIConfig(Body):
    """Where an external model of provider `openai` lives, and its key."""

    openai_api_base: StrictStr | None = Field(None, pattern=URL)
    openai_api_key: StrictStr | None = None
    openai_api_key_plaintext: StrictStr | None = None
    openai_api_type: Literal["openai"] = "openai"
    openai_organization: StrictStr | None = None


class ApiKeyAuth(Body):
    """A key in a header of its own."""

    key: StrictStr = Field(pattern=r"^[A-Za-z0-9-]+$")
    value: StrictStr | None = None
    value_plaintext: StrictStr | None = None


class BearerTokenAuth(Body):
    """A key as bearer token."""

    token: StrictStr | None = None
    token_plaintext: StrictStr | None = None


class CustomProviderConfig(Body):
    """Any OpenAI-compatible server."""

    custom_provider_url: StrictStr = Field(pattern=URL)
    api_key_auth: ApiKeyAuth | None = None
    bearer_token_auth: BearerTokenAuth | None = None


class DatabricksModelServingConfig(Body):
    """An endpoint of a Databricks workspace, this one or another."""

    databricks_workspace_url: StrictStr = Field(pattern=URL)
    databricks_api_token: StrictStr | None = None
    databricks_api_token_plaintext: StrictStr | None = None


class ExternalModel(Body):
    """A model outside this workspace."""

    name: StrictStr = Field(min_length=1)
    provider: StrictStr
    task: StrictStr
    openai_config: OpenAIConfig | None = None
    custom_provider_config: CustomProviderConfig | None = None
    databricks_model_serving_config: DatabricksModelServingConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_provider(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("provider"), str) and value["provider"] not in PROVIDERS:
            raise NotImplementedHere(
                f"external_model.provider {value['provider']!r} is not available in the local workspace; it has "
                f"{', '.join(PROVIDERS)}: 'openai' and 'custom' reach any OpenAI-compatible server"
            )
        return value

    @model_validator(mode="after")
    def _has_its_config(self) -> Self:
        if self.task not in PATHS:
            raise NotImplementedHere(
                f"external_model.task {self.task!r} is not available in the local workspace; it has {', '.join(PATHS)}"
            )
        for provider, field in PROVIDERS.items():
            if (getattr(self, field) is None) == (provider == self.provider):
                raise BadRequest(f"external_model.{field} goes with provider {provider!r}, and is required for it")
        return self


class ServedEntity(Body):
    """One model of an endpoint, and how much of it."""

    name: StrictStr | None = Field(None, pattern=NAME)
    entity_name: StrictStr | None = None
    entity_version: StrictStr | None = None
    external_model: ExternalModel | None = None
    environment_vars: dict[StrictStr, StrictStr] | None = None
    workload_size: StrictStr | None = None
    workload_type: StrictStr | None = None
    scale_to_zero_enabled: StrictBool | None = None
    burst_scaling_enabled: StrictBool | None = None
    min_provisioned_throughput: StrictInt | None = Field(None, ge=0)
    max_provisioned_throughput: StrictInt | None = Field(None, ge=0)
    min_provisioned_concurrency: StrictInt | None = Field(None, ge=0)
    max_provisioned_concurrency: StrictInt | None = Field(None, ge=0)
    provisioned_model_units: StrictInt | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _served_model(cls, value: Any) -> Any:
        # served_models is what served_entities was called before.
        if isinstance(value, dict) and "model_name" in value:
            renamed = {"model_name": "entity_name", "model_version": "entity_version"}
            return {renamed.get(name, name): item for name, item in value.items()}
        return value

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.entity_name is None) == (self.external_model is None):
            raise BadRequest("served_entities: each needs either entity_name or external_model")
        if self.entity_name and not self.entity_name.startswith("system.ai.") and not self.entity_version:
            raise BadRequest(f"served_entities: entity_version of {self.entity_name!r} is required")
        for name in self.environment_vars or {}:
            if not VARIABLE.fullmatch(name):
                raise BadRequest(f"environment_vars: {name!r} is no name of a variable")
        return self

    @property
    def served_name(self) -> str:
        """Its name in the traffic: the one given, else made from the model's."""
        if self.name:
            return self.name
        if self.external_model:
            return re.sub(r"[^A-Za-z0-9_-]+", "-", self.external_model.name)
        return f"{(self.entity_name or '').rpartition('.')[2]}-{self.entity_version or '1'}".replace(".", "_")


class Route(Body):
    """A served entity's share of the traffic."""

    served_entity_name: StrictStr | None = None
    served_model_name: StrictStr | None = None
    traffic_percentage: StrictInt = Field(ge=0, le=100)


class TrafficConfig(Body):
    """Who gets how much."""

    routes: list[Route] = Field(min_length=1)


class EndpointConfig(Body):
    """What an endpoint serves. An update without entities keeps those there are."""

    name: StrictStr | None = None
    served_entities: list[ServedEntity] | None = Field(None, min_length=1, max_length=15)
    traffic_config: TrafficConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _older_forms(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("auto_capture_config") is not None:
            raise BadRequest(LEGACY_TABLES)
        if value.get("served_models") is not None:
            if value.get("served_entities") is not None:
                raise BadRequest("served_models is the older name of served_entities: give one of them")
            value = value | {"served_entities": value["served_models"], "served_models": None}
        return value

    @property
    def entities(self) -> list[ServedEntity]:
        """The served entities. Raises BadRequest when there are none."""
        if not self.served_entities:
            raise BadRequest("config.served_entities: at least one is required")
        return self.served_entities

    def shares(self) -> dict[str, int]:
        """Percent of the traffic by served entity. Raises BadRequest."""
        names = [entity.served_name for entity in self.entities]
        if len(set(names)) < len(names):
            raise BadRequest(f"served_entities: their names must differ: {', '.join(names)}")
        if self.traffic_config is None:
            if len(names) > 1:
                raise BadRequest("traffic_config is needed when there are several served_entities")
            return {names[0]: 100}
        routes = self.traffic_config.routes
        shares = {r.served_entity_name or r.served_model_name or "": r.traffic_percentage for r in routes}
        if unknown := sorted(set(shares) - set(names)):
            raise BadRequest(
                f"traffic_config names {', '.join(map(repr, unknown))}; the served entities are {', '.join(names)}"
            )
        if len(shares) < len(routes):
            raise BadRequest("traffic_config: each served entity has one route")
        if sum(shares.values()) != 100:
            raise BadRequest(f"traffic_config: the traffic percentages sum to {sum(shares.values())}, not to 100")
        return shares


class Tag(Body):
    """A label of an endpoint."""

    key: StrictStr = Field(min_length=1)
    value: StrictStr | None = None


class TagsPatch(Body):
    """Labels to set and to remove."""

    add_tags: list[Tag] | None = None
    delete_tags: list[StrictStr] | None = None


class EmailNotifications(Body):
    """Who is told of updates."""

    on_update_failure: list[StrictStr] | None = None
    on_update_success: list[StrictStr] | None = None


class Notifications(Body):
    """The body of the notifications' update."""

    email_notifications: EmailNotifications | None = None


class CreateEndpoint(Body):
    """A new endpoint."""

    name: StrictStr = Field(pattern=NAME)
    config: EndpointConfig
    description: StrictStr | None = None
    tags: list[Tag] | None = None
    ai_gateway: AiGateway | None = None
    rate_limits: list[RateLimit] | None = None
    email_notifications: EmailNotifications | None = None
    budget_policy_id: StrictStr | None = None
    route_optimized: StrictBool | None = None

    @model_validator(mode="after")
    def _no_route_of_its_own(self) -> Self:
        if self.route_optimized:
            raise NotImplementedHere("route_optimized: endpoints have no address of their own in the local workspace")
        return self

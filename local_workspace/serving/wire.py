"""The request bodies of the serving API: what is documented and done here; anything else is refused by its name."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from local_workspace.errors import BadRequest, NotImplementedHere

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OpenAIConfig(_Body):
    """Where an external model of provider `openai` lives, and its key."""

    openai_api_base: StrictStr | None = Field(None, pattern=r"^https?://[^/\s]+")
    openai_api_key: StrictStr | None = None
    openai_api_key_plaintext: StrictStr | None = None
    openai_api_type: Literal["openai"] = "openai"


class ExternalModel(_Body):
    """A model outside this workspace."""

    name: StrictStr = Field(min_length=1)
    provider: StrictStr
    task: StrictStr
    openai_config: OpenAIConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _provider_is_openai(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("provider", "openai") != "openai":
            raise NotImplementedHere(
                f"external_model.provider {value['provider']!r} is not available in the local workspace; use 'openai', "
                "which reaches any OpenAI-compatible server"
            )
        return value


class ServedEntity(_Body):
    """One model of an endpoint, and how much of it."""

    name: StrictStr | None = Field(None, pattern=NAME)
    entity_name: StrictStr | None = None
    entity_version: StrictStr | None = None
    external_model: ExternalModel | None = None
    workload_size: Literal["Small", "Medium", "Large"] | None = None
    workload_type: Literal["CPU"] | None = None
    scale_to_zero_enabled: StrictBool | None = None
    min_provisioned_throughput: StrictInt | None = Field(None, ge=0)
    max_provisioned_throughput: StrictInt | None = Field(None, ge=0)
    min_provisioned_concurrency: StrictInt | None = Field(None, ge=0)
    max_provisioned_concurrency: StrictInt | None = Field(None, ge=0)
    provisioned_model_units: StrictInt | None = Field(None, ge=0)

    @property
    def served_name(self) -> str:
        """Its name in the traffic: the one given, else made from the model's."""
        if self.name:
            return self.name
        if self.external_model:
            return re.sub(r"[^A-Za-z0-9_-]+", "-", self.external_model.name)
        return f"{(self.entity_name or '').rpartition('.')[2]}-{self.entity_version or '1'}".replace(".", "_")


class Route(_Body):
    """A served entity's share of the traffic."""

    served_entity_name: StrictStr | None = None
    served_model_name: StrictStr | None = None
    traffic_percentage: StrictInt = Field(ge=0, le=100)


class TrafficConfig(_Body):
    """Who gets how much."""

    routes: list[Route] = Field(min_length=1)


class EndpointConfig(_Body):
    """What an endpoint serves."""

    name: StrictStr | None = None
    served_entities: list[ServedEntity] = Field(min_length=1, max_length=15)
    traffic_config: TrafficConfig | None = None

    def shares(self) -> dict[str, int]:
        """Percent of the traffic by served entity. Raises BadRequest."""
        names = [entity.served_name for entity in self.served_entities]
        if len(set(names)) < len(names):
            raise BadRequest(f"served_entities: their names must differ: {', '.join(names)}")
        if self.traffic_config is None:
            if len(names) > 1:
                raise BadRequest("traffic_config is needed when there are several served_entities")
            return {names[0]: 100}
        shares = {r.served_entity_name or r.served_model_name or "": r.traffic_percentage for r in self._routes()}
        if unknown := sorted(set(shares) - set(names)):
            raise BadRequest(f"traffic_config names {', '.join(map(repr, unknown))}, not among served_entities")
        if sum(shares.values()) != 100:
            raise BadRequest(f"traffic_config: the traffic percentages sum to {sum(shares.values())}, not to 100")
        return shares

    def _routes(self) -> list[Route]:
        return self.traffic_config.routes if self.traffic_config else []


class Tag(_Body):
    """A label of an endpoint."""

    key: StrictStr = Field(min_length=1)
    value: StrictStr | None = None


class TagsPatch(_Body):
    """Labels to set and to remove."""

    add_tags: list[Tag] = []
    delete_tags: list[StrictStr] = []


class Switch(BaseModel):
    """A part of the AI gateway that may be named as long as it is off."""

    model_config = ConfigDict(extra="allow")

    enabled: StrictBool = False


class AiGateway(_Body):
    """The AI gateway's settings. Nothing of it is done here: it may be stated only as switched off."""

    usage_tracking_config: Switch | None = None
    inference_table_config: Switch | None = None
    fallback_config: Switch | None = None
    guardrails: dict[str, Any] | None = None
    rate_limits: list[Any] | None = None

    def refuse_what_is_on(self) -> None:
        """Raises NotImplementedHere naming the first setting that asks for something."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value.enabled if isinstance(value, Switch) else value:
                raise NotImplementedHere(f"ai_gateway.{name} is not available in the local workspace")


class CreateEndpoint(_Body):
    """A new endpoint."""

    name: StrictStr = Field(pattern=NAME)
    config: EndpointConfig
    description: StrictStr | None = None
    tags: list[Tag] = []
    ai_gateway: AiGateway | None = None
    route_optimized: Literal[False] | None = None


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: StrictStr | list[dict[str, Any]] | None = None


class StreamOptions(_Body):
    """What a stream tells at its end."""

    include_usage: StrictBool = False
    include_obfuscation: StrictBool | None = None


Probability = Annotated[StrictFloat, Field(ge=0, le=1)]
Penalty = Annotated[StrictFloat, Field(ge=-2, le=2)]


def _with_its_schema(wanted: dict[str, Any]) -> dict[str, Any]:
    described = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and not (
        isinstance(described, dict) and isinstance(described.get("schema"), dict)
    ):
        raise ValueError("type json_schema needs the schema as json_schema.schema, an object")
    return wanted


ResponseFormat = Annotated[dict[str, Any], AfterValidator(_with_its_schema)]


class ChatRequest(_Body):
    """A chat task's request."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: StrictInt | None = Field(None, ge=1)
    max_completion_tokens: StrictInt | None = Field(None, ge=1)
    temperature: StrictFloat | None = Field(None, ge=0, le=2)
    top_p: Probability | None = None
    top_k: StrictInt | None = Field(None, ge=1)
    n: StrictInt | None = Field(None, ge=1, le=8)
    stop: StrictStr | list[StrictStr] | None = None
    seed: StrictInt | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: StrictStr | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    user: StrictStr | None = None


class EmbeddingsRequest(_Body):
    """An embeddings task's request."""

    input: StrictStr | Annotated[list[StrictStr], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    instruction: None = None
    user: StrictStr | None = None

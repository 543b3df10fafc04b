"""The AI Gateway's settings as they are sent."""

from typing import Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.serving.body import Body

PREFIX = r"^[A-Za-z0-9_-]{1,200}$"


class RateLimit(Body):
    """So many calls or tokens per minute, of an endpoint or of each who calls it."""

    key: Literal["endpoint", "user", "service_principal", "user_group"] = "endpoint"
    principal: StrictStr | None = Field(None, min_length=1)
    calls: StrictInt | None = Field(None, ge=0)
    tokens: StrictInt | None = Field(None, ge=0)
    renewal_period: Literal["minute"]

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.key == "user_group":
            raise NotImplementedHere("rate_limits.key user_group: the local workspace has no groups to limit by")
        if self.calls is None and self.tokens is None:
            raise BadRequest("rate_limits: calls or tokens is required")
        if self.key == "service_principal" and not self.principal:
            raise BadRequest("rate_limits: principal, an application id, is required with the key service_principal")
        if self.key == "endpoint" and self.principal:
            raise BadRequest("rate_limits: principal goes with the keys user and service_principal")
        return self


class RateLimits(Body):
    """The limits of the older API, before the AI Gateway."""

    rate_limits: list[RateLimit] | None = None


class Switch(Body):
    """A part that is on or off."""

    enabled: StrictBool = False


class InferenceTable(Switch):
    """Where requests and answers are written."""

    catalog_name: StrictStr | None = None
    schema_name: StrictStr | None = None
    table_name_prefix: StrictStr | None = Field(None, pattern=PREFIX)

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.enabled and not (self.catalog_name and self.schema_name):
            raise BadRequest("inference_table_config: catalog_name and schema_name are required")
        return self


class Pii(Body):
    """What is done with personal data."""

    behavior: Literal["NONE", "BLOCK", "MASK"] = "NONE"


class GuardrailParameters(Body):
    """What requests or answers must not hold."""

    invalid_keywords: list[StrictStr] | None = None
    pii: Pii | None = None
    safety: StrictBool | None = None
    valid_topics: list[StrictStr] | None = None

    @model_validator(mode="after")
    def _keywords_alone(self) -> Self:
        asked = {"pii": self.pii and self.pii.behavior != "NONE", "safety": self.safety, "topics": self.valid_topics}
        for name, value in asked.items():
            if value:
                raise NotImplementedHere(
                    f"guardrails.{name.replace('topics', 'valid_topics')} needs a model that judges, which the local "
                    "workspace has not; invalid_keywords works"
                )
        return self


class Guardrails(Body):
    """Checks of what goes in and what comes out."""

    input: GuardrailParameters | None = None
    output: GuardrailParameters | None = None


class AiGateway(Body):
    """The AI Gateway's settings of an endpoint."""

    usage_tracking_config: Switch | None = None
    inference_table_config: InferenceTable | None = None
    fallback_config: Switch | None = None
    guardrails: Guardrails | None = None
    rate_limits: list[RateLimit] | None = None

    @property
    def falls_back(self) -> bool:
        """Whether another entity is asked when one fails."""
        return bool(self.fallback_config and self.fallback_config.enabled)

"""The body of an alert, checked field by field (databricks-sdk: `sql.AlertV2`)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Comparison = Literal[
    "EQUAL",
    "NOT_EQUAL",
    "GREATER_THAN",
    "GREATER_THAN_OR_EQUAL",
    "LESS_THAN",
    "LESS_THAN_OR_EQUAL",
    "IS_NULL",
    "IS_NOT_NULL",
]
Aggregation = Literal["SUM", "COUNT", "COUNT_DISTINCT", "AVG", "MEDIAN", "MIN", "MAX", "STDDEV"]
State = Literal["OK", "TRIGGERED", "ERROR", "UNKNOWN"]


class Strict(BaseModel):
    """What nobody knows is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class Column(Strict):
    name: str
    aggregation: Aggregation | None = None
    display: str | None = None


class Value(Strict):
    double_value: float | None = None
    string_value: str | None = None
    bool_value: bool | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Value":
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("exactly one of double_value, string_value and bool_value is needed")
        return self

    @property
    def given(self) -> float | str | bool:
        """The value."""
        return next(iter(self.model_dump(exclude_none=True).values()))


class Threshold(Strict):
    column: Column | None = None
    value: Value | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Threshold":
        if (self.column is None) == (self.value is None):
            raise ValueError("either column or value is needed")
        return self


class Subscription(Strict):
    user_email: str | None = None
    destination_id: str | None = None


class Notification(Strict):
    notify_on_ok: bool = False
    retrigger_seconds: int = Field(0, ge=0)
    subscriptions: list[Subscription] = []


class Evaluation(Strict):
    source: Column
    comparison_operator: Comparison
    threshold: Threshold | None = None
    empty_result_state: State = "OK"
    notification: Notification = Notification()
    state: Any = Field(None, exclude=True)
    last_evaluated_at: Any = Field(None, exclude=True)

    @model_validator(mode="after")
    def _has_what_it_compares(self) -> "Evaluation":
        if self.threshold is None and self.comparison_operator not in ("IS_NULL", "IS_NOT_NULL"):
            raise ValueError(f"threshold is needed for {self.comparison_operator}")
        return self


class Schedule(Strict):
    quartz_cron_schedule: str
    timezone_id: str
    pause_status: Literal["PAUSED", "UNPAUSED"] = "UNPAUSED"


class Parameter(Strict):
    name: str
    value: str | None = None
    type: str | None = None


class RunAs(Strict):
    user_name: str | None = None
    service_principal_name: str | None = None


class Alert(BaseModel):
    """What a user says of an alert; what the service says of it is ignored, as the real API does."""

    model_config = ConfigDict(extra="ignore")

    display_name: Annotated[str, Field(min_length=1, max_length=500)]
    query_text: Annotated[str, Field(min_length=1)]
    warehouse_id: str
    evaluation: Evaluation
    schedule: Schedule
    parameters: list[Parameter] = []
    custom_summary: str | None = None
    custom_description: str | None = None
    custom_template_format: Literal["HTML", "MARKDOWN"] | None = None
    parent_path: str | None = None
    run_as: RunAs | None = None

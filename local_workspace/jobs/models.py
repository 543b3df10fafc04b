"""The shapes of what the Jobs API takes: types and limits; fields that are not here are kept as they are."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local_workspace.errors import BadRequest

MAX_TASKS = 1000
Key = Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")
Pause = Literal["PAUSED", "UNPAUSED"]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Dependency(_Open):
    task_key: str
    outcome: str | None = None


class NotebookTask(_Open):
    notebook_path: str = Field(min_length=1)
    base_parameters: dict[str, str | None] | None = None
    source: Literal["WORKSPACE"] | None = None


class SparkPythonTask(_Open):
    python_file: str = Field(min_length=1)
    parameters: list[str] | None = None
    source: Literal["WORKSPACE"] | None = None


class PythonWheelTask(_Open):
    package_name: str = Field(min_length=1)
    entry_point: str = Field(min_length=1)
    parameters: list[str] | None = None
    named_parameters: dict[str, str] | None = None


class SqlFile(_Open):
    path: str = Field(min_length=1)
    source: Literal["WORKSPACE"] | None = None


class SqlQuery(_Open):
    query_id: str


class SqlTask(_Open):
    warehouse_id: str
    parameters: dict[str, str] | None = None
    file: SqlFile | None = None
    query: SqlQuery | None = None
    alert: dict | None = None
    dashboard: dict | None = None


class ConditionTask(_Open):
    op: Literal["EQUAL_TO", "NOT_EQUAL", "GREATER_THAN", "GREATER_THAN_OR_EQUAL", "LESS_THAN", "LESS_THAN_OR_EQUAL"]
    left: str
    right: str


class RunJobTask(_Open):
    job_id: int
    job_parameters: dict[str, str] | None = None


class Pypi(_Open):
    package: str = Field(min_length=1)
    repo: str | None = None


class Library(_Open):
    whl: str | None = None
    requirements: str | None = None
    pypi: Pypi | None = None


class Cluster(_Open):
    spark_env_vars: dict[str, str] | None = None


class JobCluster(_Open):
    job_cluster_key: str
    new_cluster: Cluster | None = None


class EnvironmentSpec(_Open):
    dependencies: list[str] | None = None


class Environment(_Open):
    environment_key: str
    spec: EnvironmentSpec | None = None


class Task(_Open):
    task_key: str = Key
    depends_on: list[Dependency] | None = None
    run_if: (
        Literal["ALL_SUCCESS", "ALL_DONE", "NONE_FAILED", "AT_LEAST_ONE_SUCCESS", "ALL_FAILED", "AT_LEAST_ONE_FAILED"]
        | None
    ) = None
    max_retries: int | None = Field(None, ge=-1)
    min_retry_interval_millis: int | None = Field(None, ge=0)
    retry_on_timeout: bool | None = None
    timeout_seconds: int | None = Field(None, ge=0)
    disabled: bool | None = None
    libraries: list[Library] | None = None
    new_cluster: Cluster | None = None
    environment_key: str | None = None
    job_cluster_key: str | None = None
    existing_cluster_id: str | None = None
    notebook_task: NotebookTask | None = None
    spark_python_task: SparkPythonTask | None = None
    python_wheel_task: PythonWheelTask | None = None
    sql_task: SqlTask | None = None
    condition_task: ConditionTask | None = None
    run_job_task: RunJobTask | None = None
    for_each_task: "ForEachTask | None" = None


class ForEachTask(_Open):
    inputs: str
    task: Task
    concurrency: int | None = Field(None, ge=1, le=100)


class Schedule(_Open):
    quartz_cron_expression: str
    timezone_id: str
    pause_status: Pause | None = None


class Continuous(_Open):
    pause_status: Pause | None = None


class Periodic(_Open):
    interval: int = Field(ge=1)
    unit: Literal["HOURS", "DAYS", "WEEKS"]


class FileArrival(_Open):
    url: str = Field(pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+(/.*)?$")
    min_time_between_triggers_seconds: int | None = Field(None, ge=60)
    wait_after_last_change_seconds: int | None = Field(None, ge=60)


class Trigger(_Open):
    periodic: Periodic | None = None
    file_arrival: FileArrival | None = None
    pause_status: Pause | None = None


class Parameter(_Open):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=255)
    default: str


class Queue(_Open):
    enabled: bool


class RunAs(_Open):
    user_name: str | None = None
    service_principal_name: str | None = None
    group_name: str | None = None


class JobSettings(_Open):
    name: str | None = Field(None, max_length=4096)
    tasks: list[Task] | None = Field(None, max_length=MAX_TASKS)
    parameters: list[Parameter] | None = None
    max_concurrent_runs: int | None = Field(None, ge=0, le=2000)
    timeout_seconds: int | None = Field(None, ge=0)
    schedule: Schedule | None = None
    continuous: Continuous | None = None
    trigger: Trigger | None = None
    queue: Queue | None = None
    run_as: RunAs | None = None
    tags: dict[str, str] | None = None
    environments: list[Environment] | None = None
    job_clusters: list[JobCluster] | None = None
    email_notifications: dict[str, list[str] | bool | None] | None = None
    webhook_notifications: dict[str, list[dict[str, Any]] | None] | None = None
    notification_settings: dict[str, Any] | None = None


class RunNow(_Open):
    """What run-now and repair take beside their ids."""

    idempotency_token: str | None = Field(None, max_length=64)
    job_parameters: dict[str, str] | None = None
    notebook_params: dict[str, str] | None = None
    python_named_params: dict[str, str] | None = None
    sql_params: dict[str, str] | None = None
    python_params: list[str] | None = None
    only: list[str] | None = None
    queue: Queue | None = None
    rerun_tasks: list[str] | None = None
    rerun_all_failed_tasks: bool | None = None
    rerun_dependent_tasks: bool | None = None
    latest_repair_id: int | None = None


class Submit(_Open):
    """What runs/submit takes beside a job's settings."""

    run_name: str | None = None
    idempotency_token: str | None = Field(None, max_length=64)


def parsed(model: type[BaseModel], body: Any) -> Any:
    """`body` as the model. Raises BadRequest naming the field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()[:5])
        raise BadRequest(f"Invalid job settings: {problems}") from None

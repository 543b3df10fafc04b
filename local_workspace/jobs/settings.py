"""What a job may be made of: checked when it is created, so that no run fails for what could be said before."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.jobs import graph
from local_workspace.jobs.cron import Cron

KINDS = (
    "notebook_task",
    "spark_python_task",
    "python_wheel_task",
    "sql_task",
    "condition_task",
    "run_job_task",
    "for_each_task",
)
ABSENT = {"git_source", "environment_variables", "triggers", "access_control_list"}
"""Settings that would change what runs or who may do what, and that are not here."""
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
    libraries: list[dict[str, Any]] | None = None
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
    environments: list[dict[str, Any]] | None = None
    job_clusters: list[dict[str, Any]] | None = None
    email_notifications: dict[str, Any] | None = None
    webhook_notifications: dict[str, Any] | None = None
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


def check(settings: dict[str, Any], known: Callable[[str], bool]) -> None:
    """Raise BadRequest for settings that are wrong, NotImplementedHere for what is not here; both name the field.

    `known` says whether there is a principal of a name.
    """
    parsed(JobSettings, settings)
    for name in sorted(ABSENT & {key for key, value in settings.items() if value}):
        raise NotImplementedHere(f"local_workspace does not have {name} in jobs")
    tasks = settings.get("tasks") or []
    for task in tasks:
        _check_task(task, settings)
    graph.check(tasks)
    _check_unique(settings)
    triggers = [name for name in ("schedule", "continuous", "trigger") if settings.get(name) is not None]
    if len(triggers) > 1:
        raise BadRequest(f"a job has only one of schedule, continuous and trigger, not {' and '.join(triggers)}")
    if schedule := settings.get("schedule"):
        if schedule.get("sql_condition"):
            raise NotImplementedHere("local_workspace does not have sql_condition in a schedule")
        Cron(schedule["quartz_cron_expression"], schedule["timezone_id"])
    for name in (settings.get("trigger") or {}).keys() - {"periodic", "file_arrival", "pause_status"}:
        raise NotImplementedHere(f"local_workspace does not have trigger.{name}")
    run_as = settings.get("run_as") or {}
    if run_as.get("group_name"):
        raise NotImplementedHere("local_workspace does not have run_as.group_name")
    for field in ("user_name", "service_principal_name"):
        if run_as.get(field) and not known(run_as[field]):
            raise BadRequest(f"run_as.{field}: there is no {run_as[field]!r:.100}")


def _check_task(task: dict[str, Any], settings: dict[str, Any]) -> None:
    where = f"task {task['task_key']!r}"
    kinds = [name for name, value in task.items() if name.endswith("_task") and value is not None]
    for name in kinds:
        if name not in KINDS:
            raise NotImplementedHere(f"local_workspace does not run {name} ({where}); it runs {', '.join(KINDS)}")
    if len(kinds) != 1:
        raise BadRequest(f"{where} must have exactly one of {', '.join(KINDS)}; it has {', '.join(kinds) or 'none'}")
    for library in task.get("libraries") or []:
        if unknown := library.keys() - {"whl", "pypi", "requirements"}:
            raise NotImplementedHere(f"local_workspace does not install libraries.{sorted(unknown)[0]} ({where})")
    known = {environment.get("environment_key") for environment in settings.get("environments") or []}
    if (key := task.get("environment_key")) and key not in known:
        raise BadRequest(f"{where}: environment_key {key!r} is not in environments")
    clusters = {cluster.get("job_cluster_key") for cluster in settings.get("job_clusters") or []}
    if (key := task.get("job_cluster_key")) and key not in clusters:
        raise BadRequest(f"{where}: job_cluster_key {key!r} is not in job_clusters")
    if sql := task.get("sql_task"):
        for name in ("alert", "dashboard"):
            if sql.get(name):
                raise NotImplementedHere(f"local_workspace does not run sql_task.{name} ({where})")
        if bool(sql.get("file")) == bool(sql.get("query")):
            raise BadRequest(f"{where}: sql_task must have exactly one of file and query")
    if each := task.get("for_each_task"):
        if each["task"].get("for_each_task"):
            raise BadRequest(f"{where}: a for_each_task cannot be nested in another one")
        _check_task(each["task"], settings)


def _check_unique(settings: dict[str, Any]) -> None:
    for field, key in (
        ("parameters", "name"),
        ("environments", "environment_key"),
        ("job_clusters", "job_cluster_key"),
    ):
        names = [item.get(key) for item in settings.get(field) or []]
        for name in names:
            if not name:
                raise BadRequest(f"{field}: {key} is missing")
            if names.count(name) > 1:
                raise BadRequest(f"{field}.{key}: {name!r} is there twice")

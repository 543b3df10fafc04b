"""What a job may be made of: checked when it is created, so that no run fails for what could be said before."""

from collections.abc import Callable
from typing import Any

from local_workspace.cron import Cron
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.jobs import graph
from local_workspace.jobs.models import JobSettings, parsed

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
    _check_environments(settings)
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


def _check_environments(settings: dict[str, Any]) -> None:
    for environment in settings.get("environments") or []:
        spec = environment.get("spec") or {}
        for name in ("base_environment", "java_dependencies", "project_environment"):
            if spec.get(name):
                raise NotImplementedHere(f"local_workspace does not have environments.spec.{name}")


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

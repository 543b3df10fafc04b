"""When a task of a run may start: `depends_on` with outcomes and `run_if`."""

from collections.abc import Mapping
from typing import Any

from local_workspace.errors import BadRequest

SUCCEEDED = ("SUCCESS", "SUCCESS_WITH_FAILURES")
FAILED = ("FAILED", "TIMEDOUT", "UPSTREAM_FAILED", "MAXIMUM_CONCURRENT_RUNS_REACHED")
CANCELED = ("CANCELED", "UPSTREAM_CANCELED")
LEFT_OUT = ("EXCLUDED", "DISABLED")


def check(tasks: list[dict[str, Any]]) -> None:
    """Raise BadRequest for a task key twice, a dependency on nothing or a cycle."""
    keys: set[str] = set()
    for number, task in enumerate(tasks):
        if task["task_key"] in keys:
            raise BadRequest(f"tasks[{number}].task_key: {task['task_key']!r} is there twice")
        keys.add(task["task_key"])
    waits = {task["task_key"]: _needed(task, keys) for task in tasks}
    while free := [key for key, needed in waits.items() if not needed & waits.keys()]:
        for key in free:
            del waits[key]
    if waits:
        raise BadRequest(f"tasks.depends_on: the tasks {', '.join(sorted(waits))} wait for each other in a cycle")


def _needed(task: dict[str, Any], keys: set[str]) -> set[str]:
    needed = {dependency["task_key"] for dependency in task.get("depends_on") or []}
    if unknown := sorted(needed - keys):
        raise BadRequest(f"tasks.depends_on of {task['task_key']!r}: there is no task {', '.join(map(repr, unknown))}")
    return needed


def verdict(task: Mapping[str, Any], results: Mapping[str, str], outcomes: Mapping[str, str]) -> str | None:
    """None when a task whose dependencies have ended is to run; else the result it gets without running.

    `results` are the dependencies' results, `outcomes` those of condition tasks, by task key.
    """
    found = []
    for dependency in task.get("depends_on") or []:
        result = results[dependency["task_key"]]
        wanted = dependency.get("outcome")
        if wanted and result in SUCCEEDED and outcomes.get(dependency["task_key"]) != str(wanted).lower():
            result = "EXCLUDED"
        found.append(result)
    failed = any(result in FAILED for result in found)
    canceled = any(result in CANCELED for result in found)
    succeeded = any(result in SUCCEEDED for result in found)
    run_if = task.get("run_if") or "ALL_SUCCESS"
    runs = (
        not found
        or {
            "ALL_SUCCESS": all(result in SUCCEEDED for result in found),
            "ALL_DONE": True,
            "NONE_FAILED": not failed and not canceled and succeeded,
            "AT_LEAST_ONE_SUCCESS": succeeded,
            "ALL_FAILED": all(result in FAILED for result in found),
            "AT_LEAST_ONE_FAILED": failed,
        }[run_if]
    )
    if runs:
        return None
    if run_if in ("ALL_FAILED", "AT_LEAST_ONE_FAILED"):
        return "EXCLUDED"
    if failed:
        return "UPSTREAM_FAILED"
    return "UPSTREAM_CANCELED" if canceled else "EXCLUDED"


def overall(tasks: list[dict[str, Any]], results: Mapping[str, str]) -> str:
    """A run's result by its leaves: the tasks that no other one waits for."""
    inner = {dependency["task_key"] for task in tasks for dependency in task.get("depends_on") or []}
    leaves = [result for key, result in results.items() if key not in inner]
    if any(result in CANCELED for result in leaves):
        return "CANCELED"
    if any(result == "TIMEDOUT" for result in leaves):
        return "TIMEDOUT"
    if any(result in FAILED for result in leaves):
        return "FAILED"
    return "SUCCESS_WITH_FAILURES" if any(result in FAILED for result in results.values()) else "SUCCESS"

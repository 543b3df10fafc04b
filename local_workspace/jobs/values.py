"""What references in a task's fields can name."""

from typing import Any

from local_workspace.jobs.references import moment, resolve
from local_workspace.jobs.store import Run


def parameters_of(run: Run) -> dict[str, str]:
    """The job's parameters: defaults, then what the run was started with."""
    defaults = {item["name"]: item["default"] for item in run.settings.get("parameters") or []}
    given = {name: str(value) for name, value in (run.given.get("job_parameters") or {}).items()}
    return resolve(defaults | given, _job(run, {}))


def known_values(latest: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """By task key, what other tasks may refer to."""
    known = {}
    for key, task in latest.items():
        output = task.output
        item: dict[str, Any] = {
            "run_id": task.run_id,
            "values": output.get("values", {}),
            "execution_count": task.attempt + 1,
            "result_state": (task.result or "").lower(),
            "error_code": task.code,
        }
        if "outcome" in output:
            item["outcome"] = output["outcome"]
        if "rows" in output:
            item["output"] = {"rows": output["rows"], "first_row": (output["rows"] or [{}])[0]}
        known[key] = item
    return known


def references(
    run: Run, task: Run, tasks: dict[str, dict[str, Any]], parameters: dict[str, str], workspace: dict[str, str]
) -> dict[str, Any]:
    """Everything by name, the older spellings too."""
    started = moment(run.start)
    own = {
        "name": task.task_key,
        "run_id": task.run_id,
        "execution_count": task.attempt + 1,
        "notebook_path": (task.settings.get("notebook_task") or {}).get("notebook_path", ""),
    }
    older = {
        "job_id": run.job_id,
        "run_id": task.run_id,
        "parent_run_id": run.run_id,
        "task_key": task.task_key,
        "task_retry_count": task.attempt,
        "start_date": started["iso_date"],
        "start_time": run.start,
    }
    return older | _job(run, parameters) | {"task": own, "tasks": tasks, "workspace": workspace}


def _job(run: Run, parameters: dict[str, str]) -> dict[str, Any]:
    started = moment(run.start)
    job = {
        "id": run.job_id,
        "name": run.name,
        "run_id": run.run_id,
        "repair_count": max(len(run.repairs) - 1, 0),
        "start_time": started,
        "parameters": parameters,
        "trigger": {"type": run.trigger.lower(), "time": started},
    }
    return {"job": job, "run": {"id": run.run_id, "start_time": started}}

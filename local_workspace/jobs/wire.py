"""Jobs and runs as the API shows them."""

from typing import Any

from local_workspace.jobs.store import FINISHED, Job, Run, now

STATES = {"WAITING_FOR_RETRY": "WAITING", "SKIPPED": "TERMINATED", "INTERNAL_ERROR": "TERMINATED"}
CODES = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "SUCCESS_WITH_FAILURES": ("SUCCESS_WITH_FAILURES", "SUCCESS"),
    "FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
    "TIMEDOUT": ("CANCELED", "CLIENT_ERROR"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "UPSTREAM_FAILED": ("SKIPPED", "CLIENT_ERROR"),
    "UPSTREAM_CANCELED": ("SKIPPED", "CLIENT_ERROR"),
    "EXCLUDED": ("SKIPPED", "SUCCESS"),
    "DISABLED": ("DISABLED", "SUCCESS"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
}
PAGE = 100
"""Tasks and the like that one answer holds."""


def state(run: Run) -> dict[str, Any]:
    """`state` and `status`: the older and the newer form of the same."""
    old: dict[str, Any] = {
        "life_cycle_state": run.life,
        "state_message": run.message,
        "user_cancelled_or_timedout": run.cancelled,
    }
    new: dict[str, Any] = {"state": STATES.get(run.life, run.life)}
    if run.life == "QUEUED":
        old["queue_reason"] = run.message
        new["queue_details"] = {"code": "MAX_CONCURRENT_RUNS_REACHED", "message": run.message}
    if run.finished:
        old |= {"result_state": run.result} if run.result else {}
        code, kind = CODES[run.result or "FAILED"]
        if run.code:
            code = run.code
        if run.life == "INTERNAL_ERROR" and code in ("INTERNAL_ERROR", "DRIVER_ERROR"):
            kind = "INTERNAL_ERROR"
        new["termination_details"] = {"code": code, "type": kind, "message": run.message}
    return {"state": old, "status": new}


def times(run: Run) -> dict[str, Any]:
    """Start, setup, execution and end, in milliseconds."""
    shown: dict[str, Any] = {"start_time": run.start, "cleanup_duration": 0}
    until = run.end or now()
    shown["setup_duration"] = (run.running_since or (run.end or run.start)) - run.start
    shown["execution_duration"] = until - run.running_since if run.running_since and run.finished else 0
    return shown | {"end_time": run.end, "run_duration": until - run.start}


def task(run: Run, host: str) -> dict[str, Any]:
    """RunTask."""
    shown = {key: value for key, value in run.settings.items() if key != "_"}
    shown |= {
        "run_id": run.run_id,
        "task_key": run.task_key,
        "attempt_number": run.attempt,
        "run_page_url": f"{host}/ui/runs/{run.run_id}",
        "run_if": shown.get("run_if") or "ALL_SUCCESS",
    }
    if (condition := shown.get("condition_task")) and "outcome" in run.output:
        shown["condition_task"] = condition | {"outcome": run.output["outcome"]}
    if (each := shown.get("for_each_task")) and "stats" in run.output:
        shown["for_each_task"] = each | {"stats": {"task_run_stats": run.output["stats"]}}
    if resolved := run.output.get("resolved"):
        shown["resolved_values"] = resolved
    return shown | state(run) | times(run)


def summary(run: Run, host: str) -> dict[str, Any]:
    """BaseRun, without its tasks."""
    shown: dict[str, Any] = {
        "job_id": run.job_id,
        "run_id": run.run_id,
        "number_in_job": run.number,
        "original_attempt_run_id": run.original,
        "attempt_number": run.attempt,
        "creator_user_name": run.creator,
        "run_name": run.name,
        "run_type": run.kind,
        "trigger": run.trigger,
        "run_page_url": f"{host}/ui/runs/{run.run_id}",
        "format": "MULTI_TASK",
    }
    if run.job_run_id:
        shown["job_run_id"] = run.job_run_id
    else:
        shown["job_run_id"] = run.run_id
    for name in ("schedule", "job_clusters"):
        if run.settings.get(name):
            shown[name] = run.settings[name]
    overriding = {name: value for name, value in run.given.items() if name.endswith("_params") and value}
    if overriding:
        shown["overriding_parameters"] = overriding
    return shown | state(run) | times(run)


def parameters(run: Run) -> dict[str, Any]:
    """`job_parameters`: defaults and the values of this run."""
    given = run.given.get("job_parameters") or {}
    declared = run.settings.get("parameters") or []
    known = {item["name"] for item in declared}
    shown = [item | {"value": given.get(item["name"], item["default"])} for item in declared]
    shown += [{"name": name, "value": value} for name, value in given.items() if name not in known]
    return {"job_parameters": shown} if shown else {}


def repair_history(run: Run, attempts: list[Run]) -> list[dict[str, Any]]:
    """The first try and every repair; empty without a repair."""
    if not run.repairs:
        return []
    shown = []
    for number, repair in enumerate(run.repairs):
        following = run.repairs[number + 1] if number + 1 < len(run.repairs) else None
        item = {
            "type": "REPAIR" if number else "ORIGINAL",
            "start_time": repair["start"],
            "end_time": repair.get("end", 0),
            "task_run_ids": [
                attempt.run_id
                for attempt in attempts
                if attempt.run_id >= repair["first"] and (not following or attempt.run_id < following["first"])
            ],
        }
        if number:
            item["id"] = repair["id"]
        ended = Run(run.run_id, run.job_id, None, None, repair.get("life", run.life), repair["start"])
        ended.result, ended.message = repair.get("result", run.result), repair.get("message", run.message)
        shown.append(item | state(ended))
    return shown


def job(found: Job, *, expand: bool = True) -> dict[str, Any]:
    """BaseJob; with `expand` it has its tasks."""
    settings = {
        "name": found.name,
        "max_concurrent_runs": 1,
        "email_notifications": {},
        "timeout_seconds": 0,
        "format": "MULTI_TASK",
    } | found.settings
    if not expand:
        for name in ("tasks", "job_clusters", "environments", "parameters"):
            settings.pop(name, None)
    return {
        "job_id": found.job_id,
        "creator_user_name": found.creator,
        "created_time": found.created_at,
        "settings": settings,
    }


def task_summary(run: Run, job_run: Run, host: str) -> dict[str, Any]:
    """BaseRun of a task's run, without its tasks: named like its task, of the kind that the job's run is."""
    kind = {"run_name": run.task_key, "run_type": job_run.kind, "trigger": job_run.trigger}
    return summary(run, host) | kind


def output(run: Run, job_run: Run, host: str, log: str, truncated: bool) -> dict[str, Any]:
    """RunOutput of a task's run."""
    left = run.output
    shown: dict[str, Any] = {"metadata": task_summary(run, job_run, host) | {"tasks": [task(run, host)]}}
    if run.settings.get("notebook_task") and run.life in FINISHED:
        notebook = {"truncated": left.get("truncated", False)}
        if left.get("result") is not None:
            notebook["result"] = left["result"]
        shown["notebook_output"] = notebook
    elif log:
        shown |= {"logs": log, "logs_truncated": truncated}
    if left.get("error"):
        shown["error"] = left["error"]
    if left.get("trace"):
        shown["error_trace"] = left["trace"]
    if left.get("sql"):
        shown["sql_output"] = {"query_output": left["sql"]}
    if left.get("child_run"):
        shown["run_job_output"] = {"run_id": left["child_run"]}
    return shown

"""The Jobs API: runs."""

import json
from itertools import islice
from typing import Any

from fastapi import APIRouter, Request

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.jobs import process, wire
from local_workspace.jobs.export import as_html
from local_workspace.jobs.models import RunNow, Submit, parsed
from local_workspace.jobs.requests import integer, limit, page_offset, single_task_form
from local_workspace.jobs.settings import check
from local_workspace.jobs.store import Run
from local_workspace.parity import differs
from local_workspace.runtime.notebook import PARENT_HEADER

MAX_RUNS = 25
MAX_TOKEN = 64
ABSENT = ("jar_params", "spark_submit_params", "pipeline_params", "dbt_commands")


def router(ws: LocalWorkspace) -> APIRouter:
    """The runs part of the Jobs API."""
    api = APIRouter()
    jobs, store, host = ws.jobs, ws.jobs.store, ws.host

    @api.post("/run-now")
    async def run_now(request: Request) -> dict[str, Any]:
        body = _given(await read_object(request))
        parsed(RunNow, body)
        job_id = integer(body, "job_id")
        given = {name: value for name, value in body.items() if name not in ("job_id", "idempotency_token")}
        run = jobs.run_now(job_id, given, request.state.principal.name, token=body.get("idempotency_token"))
        return {"run_id": run.run_id, "number_in_job": run.number}

    @api.post("/runs/submit")
    @differs("every task runs as a process on this machine: clusters are accepted and shown only")
    async def submit(request: Request) -> dict[str, Any]:
        body = single_task_form(await read_object(request))
        parsed(Submit, body)
        check(body, ws.auth.exists)
        kind = "WORKFLOW_RUN" if PARENT_HEADER in request.headers else "SUBMIT_RUN"
        run = jobs.submit(body, request.state.principal.name, kind, body.get("idempotency_token"))
        return {"run_id": run.run_id}

    @api.get("/runs/get")
    async def get(
        run_id: int, include_history: bool = False, include_resolved_values: bool = False, page_token: str = ""
    ) -> dict[str, Any]:
        run, start = store.run(run_id), page_offset(page_token)
        more = False
        if run.job_run_id:
            shown = wire.task_summary(run, store.run(run.job_run_id), host) | {"tasks": [wire.task(run, host)]}
            if run.settings.get("for_each_task"):
                iterations = store.tasks(run.job_run_id, run.run_id)
                shown["iterations"] = [wire.task(item, host) for item in iterations[start : start + wire.PAGE]]
                more = start + wire.PAGE < len(iterations)
        else:
            attempts = store.tasks(run_id)
            shown = wire.summary(run, host) | wire.parameters(run)
            shown["tasks"] = [wire.task(item, host) for item in attempts[start : start + wire.PAGE]]
            more = start + wire.PAGE < len(attempts)
            if include_history:
                shown["repair_history"] = wire.repair_history(run, attempts)
        if not include_resolved_values:
            for task in shown["tasks"]:
                task.pop("resolved_values", None)
        return shown | ({"next_page_token": str(start + wire.PAGE), "has_more": True} if more else {})

    @api.get("/runs/list")
    def list_(
        request: Request,
        job_id: int | None = None,
        active_only: bool = False,
        completed_only: bool = False,
        expand_tasks: bool = False,
        run_type: str | None = None,
        start_time_from: int = 0,
        start_time_to: int | None = None,
        page_token: str = "",
        offset: int = 0,
    ) -> dict[str, Any]:
        if active_only and completed_only:
            raise BadRequest("active_only and completed_only cannot both be true")
        size, start = limit(request, 20, MAX_RUNS), page_offset(page_token) or max(offset, 0)
        found = (
            run
            for run in store.runs(job_id)
            if not (active_only and run.finished)
            and not (completed_only and not run.finished)
            and run_type in (None, run.kind)
            and run.kind != "WORKFLOW_RUN"
            and run.start >= start_time_from
            and (start_time_to is None or run.start <= start_time_to)
        )
        runs = list(islice(found, start, start + size + 1))
        answer: dict[str, Any] = {"has_more": len(runs) > size}
        if runs:
            answer["runs"] = [_listed(run, expand_tasks) for run in runs[:size]]
        if len(runs) > size:
            answer["next_page_token"] = str(start + size)
        if start:
            answer["prev_page_token"] = str(max(start - size, 0))
        return answer

    def _listed(run: Run, expand: bool) -> dict[str, Any]:
        shown = wire.summary(run, host) | wire.parameters(run)
        if expand:
            attempts = store.tasks(run.run_id)
            shown["tasks"] = [wire.task(item, host) for item in attempts[: wire.PAGE]]
            shown["has_more"] = len(attempts) > wire.PAGE
        return shown

    @api.post("/runs/cancel")
    async def cancel(request: Request) -> dict[str, Any]:
        await jobs.cancel(integer(await read_object(request), "run_id"))
        return {}

    @api.post("/runs/cancel-all")
    async def cancel_all(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        queued_only = body.get("all_queued_runs") is True
        job_id = integer(body, "job_id") if body.get("job_id") is not None else None
        if job_id is None and not queued_only:
            raise BadRequest("job_id is required unless all_queued_runs is true")
        if job_id is not None:
            store.job(job_id)
        await jobs.cancel_all(job_id, queued_only)
        return {}

    @api.post("/runs/delete")
    async def delete(request: Request) -> dict[str, Any]:
        jobs.delete_run(integer(await read_object(request), "run_id"))
        return {}

    @api.post("/runs/repair")
    async def repair(request: Request) -> dict[str, Any]:
        body = _given(await read_object(request))
        parsed(RunNow, body)
        return {"repair_id": jobs.repair(integer(body, "run_id"), body)}

    @api.get("/runs/get-output")
    def get_output(run_id: int) -> dict[str, Any]:
        run = _one_task(run_id)
        log, truncated = process.read_log(jobs.attempts.folder(run.run_id))
        return wire.output(run, store.run(run.job_run_id or run.run_id), host, log, truncated)

    @api.get("/runs/export")
    @differs("the page is made by local_workspace: cells and outputs, without the look of a real workspace")
    def export(run_id: int, views_to_export: str = "CODE") -> dict[str, Any]:
        if views_to_export not in ("CODE", "ALL", "DASHBOARDS"):
            raise BadRequest(f"views_to_export must be CODE, DASHBOARDS or ALL; got {views_to_export!r:.50}")
        run = _one_task(run_id)
        path = (run.settings.get("notebook_task") or {}).get("notebook_path")
        record = jobs.attempts.folder(run.run_id) / "notebook.ipynb"
        if path is None or not record.exists():
            raise BadRequest(f"Run {run_id} has no notebook to export.")
        if views_to_export == "DASHBOARDS":
            return {"views": []}
        content = as_html(path, json.loads(record.read_text()))
        return {"views": [{"content": content, "name": path.rpartition("/")[2], "type": "NOTEBOOK"}]}

    def _one_task(run_id: int) -> Run:
        """A task's run; of a run with one task, that task's latest."""
        run = store.run(run_id)
        if run.job_run_id:
            return run
        latest = {task.task_key: task for task in store.tasks(run_id)}
        if len(latest) != 1:
            raise BadRequest(
                "Retrieving the output of runs with multiple tasks is not supported."
                " Please retrieve the output of each individual task run instead."
            )
        return next(iter(latest.values()))

    return api


def _given(body: dict[str, Any]) -> dict[str, Any]:
    """What a run is started with. Raises NotImplementedHere for parameters of tasks that are not here."""
    for name in ABSENT:
        if body.get(name):
            raise NotImplementedHere(f"local_workspace does not have {name}: it runs no such task")
    return body

"""The Jobs API: jobs. Runs are in `run_routes`; 2.0, 2.1 and 2.2 are served alike."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.convertors import StringConvertor, register_url_convertor

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.jobs import run_routes, wire
from local_workspace.jobs.requests import integer, limit, page_offset, single_task_form
from local_workspace.jobs.settings import check
from local_workspace.jobs.store import Job
from local_workspace.parity import differs
from local_workspace.permissions.objects import Owned
from local_workspace.permissions.store import Permissions, grants

MAX_JOBS = 100
ONE_MACHINE = (
    "every task runs as a process on this machine: clusters are stored and shown, of a cluster only its environment"
    " variables have an effect; health rules and permissions are stored, not enforced; notifications of start,"
    " success and failure are recorded, not sent"
)
MERGED = {"tasks": "task_key", "job_clusters": "job_cluster_key", "environments": "environment_key"}
"""Lists that `update` merges by key."""
LISTS = MERGED | {"parameters": "name"}


class JobsVersion(StringConvertor):
    """The versions of the API, in a path."""

    regex = r"2\.[012]"


def router(ws: LocalWorkspace) -> APIRouter:
    """The Jobs API."""
    register_url_convertor("jobs_version", JobsVersion())
    api = APIRouter(prefix="/api/{version:jobs_version}/jobs")
    api.include_router(_jobs(ws))
    api.include_router(run_routes.router(ws))
    return api


def _jobs(ws: LocalWorkspace) -> APIRouter:
    api = APIRouter()
    jobs, store, triggers, permissions = ws.jobs, ws.jobs.store, ws.triggers, Permissions(ws.state)

    @api.post("/create")
    @differs(ONE_MACHINE)
    async def create(request: Request) -> dict[str, Any]:
        settings, creator = single_task_form(await read_object(request)), request.state.principal.name
        given = grants("jobs", settings.pop("access_control_list", None) or [])
        check(settings, ws.auth.exists)
        job_id = store.create(settings, creator)
        permissions.change("jobs", Owned(str(job_id), creator), given, replace=True)
        triggers.changed()
        return {"job_id": job_id}

    @api.get("/get")
    async def get(job_id: int, page_token: str = "") -> dict[str, Any]:
        return _page(store.job(job_id), page_offset(page_token)) | {"run_as_user_name": _runs_as(store.job(job_id))}

    @api.get("/list")
    async def list_(
        limit_: int | None = None,
        name: str | None = None,
        expand_tasks: bool = False,
        page_token: str = "",
        offset: int = 0,
        *,
        request: Request,
    ) -> dict[str, Any]:
        size = limit(request, 20, MAX_JOBS)
        start = page_offset(page_token) or max(offset, 0)
        found = store.jobs(name)
        shown = []
        for job in found[start : start + size]:
            item = wire.job(job, expand=expand_tasks)
            shown.append(_cut(item, 0) if expand_tasks else item)
        answer: dict[str, Any] = {"has_more": start + size < len(found)}
        if shown:
            answer["jobs"] = shown
        if start + size < len(found):
            answer["next_page_token"] = str(start + size)
        if start:
            answer["prev_page_token"] = str(max(start - size, 0))
        return answer

    @api.post("/reset")
    @differs(ONE_MACHINE)
    async def reset(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        job = store.job(integer(body, "job_id"))
        settings = single_task_form(_object(body, "new_settings"))
        check(settings, ws.auth.exists)
        store.change(job.job_id, settings)
        triggers.changed()
        return {}

    @api.post("/update")
    @differs(ONE_MACHINE)
    async def update(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        job = store.job(integer(body, "job_id"))
        settings = _without(job.settings, body.get("fields_to_remove") or [])
        settings = _merged(settings, _object(body, "new_settings") if body.get("new_settings") else {})
        check(settings, ws.auth.exists)
        store.change(job.job_id, settings)
        triggers.changed()
        return {}

    @api.post("/delete")
    async def delete(request: Request) -> dict[str, Any]:
        job = store.job(integer(await read_object(request), "job_id"))
        store.delete(job.job_id)
        await jobs.cancel_all(job.job_id, queued_only=True)
        triggers.changed()
        return {}

    return api


def _runs_as(job: Job) -> str:
    run_as = job.settings.get("run_as") or {}
    return run_as.get("user_name") or run_as.get("service_principal_name") or job.creator


def _cut(shown: dict[str, Any], start: int) -> dict[str, Any]:
    """The part of a job's lists that one answer holds."""
    settings = dict(shown["settings"])
    more = False
    for name in LISTS:
        if items := settings.get(name):
            settings[name] = items[start : start + wire.PAGE]
            more = more or start + wire.PAGE < len(items)
    return shown | {"settings": settings} | ({"has_more": True} if more else {})


def _page(job: Job, start: int) -> dict[str, Any]:
    shown = _cut(wire.job(job), start)
    return shown | ({"next_page_token": str(start + wire.PAGE)} if shown.get("has_more") else {})


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(body.get(name), dict):
        raise BadRequest(f"{name} must be an object")
    return dict(body[name])


def _without(settings: dict[str, Any], fields: Any) -> dict[str, Any]:
    """Settings without fields such as `schedule` or `tasks/task_1`."""
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        raise BadRequest("fields_to_remove must be a list of field names")
    left = dict(settings)
    for field in fields:
        name, _, key = field.partition("/")
        if key and name in LISTS:
            left[name] = [item for item in left.get(name) or [] if item.get(LISTS[name]) != key]
        else:
            left.pop(name, None)
    return left


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with other values: lists with keys are merged by key, all else is replaced."""
    merged = settings | changes
    for name, key in MERGED.items():
        if isinstance(changes.get(name), list) and settings.get(name):
            items = {item.get(key): item for item in settings[name]}
            new = {item.get(key): item for item in changes[name] if isinstance(item, dict)}
            if len(new) != len(changes[name]):
                raise BadRequest(f"new_settings.{name}: every item needs its own {key}")
            merged[name] = list((items | new).values())
    return merged

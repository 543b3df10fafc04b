"""The Apps API. An app is a real child process behind an address of its own on loopback.

Kept and shown without effect here: `description`, `compute_size`. `compute_min_instances` processes run behind the
address in turn; there is no scaling up to `compute_max_instances`. Git sources, automatic sync, user authorisation and
telemetry destinations are refused.
"""

import re
import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from local_workspace.apps.manifest import checked_command, variables
from local_workspace.apps.resources import check_resources
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere

SIZES = ("MEDIUM", "LARGE", "XLARGE")
MAX_INSTANCES = 5
REFUSED_APP_FIELDS = (
    "budget_policy_id",
    "forward_user_access_token",
    "git_repository",
    "git_source",
    "source_code_path",
    "space",
    "telemetry_export_destinations",
    "usage_policy_id",
    "user_api_scopes",
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
_DURATION = re.compile(r"\d+(\.\d+)?s", re.ASCII)


def router(ws: LocalWorkspace) -> APIRouter:
    """The Apps API."""
    api = APIRouter(prefix="/api/2.0/apps")
    apps, store = ws.apps, ws.apps.store

    @api.post("")
    async def create(body: dict[str, Any], request: Request, no_compute: bool = False) -> dict[str, Any]:
        name = body.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadRequest("name must be 1 to 30 lower-case letters, digits and hyphens, with no hyphen at the ends")
        await apps.create(name, _app_settings(body), request.state.principal.name, active=not no_compute)
        return show(name)

    @api.get("")
    async def list_(page_size: Annotated[int, Query(ge=0)] = 0, page_token: str = "") -> dict[str, Any]:
        names = [app["name"] for app in store.apps() if app["name"] > page_token]
        page = names[: page_size or None]
        more = {"next_page_token": page[-1]} if len(page) < len(names) else {}
        return {"apps": [show(name) for name in page]} | more

    @api.get("/{name}")
    async def get(name: str) -> dict[str, Any]:
        return show(name)

    @api.patch("/{name}")
    async def update(name: str, body: dict[str, Any], request: Request) -> dict[str, Any]:
        if store.app(name) and body.get("name", name) != name:
            raise BadRequest("an app cannot be renamed: name must be the one in the path")
        store.change_app(name, settings=_app_settings(body), updater=request.state.principal.name)
        return show(name)

    @api.delete("/{name}")
    async def delete(name: str) -> dict[str, Any]:
        last = show(name)
        await apps.delete(name)
        return last | {"compute_status": {"state": "DELETING", "message": "App is deleted"}}

    @api.post("/{name}/start")
    async def start(name: str) -> dict[str, Any]:
        apps.begin_start(name)
        return show(name)

    @api.post("/{name}/stop")
    async def stop(name: str) -> dict[str, Any]:
        await apps.begin_stop(name)
        return show(name)

    @api.post("/{name}/deployments")
    async def deploy(name: str, body: dict[str, Any], request: Request) -> dict[str, Any]:
        app = store.app(name)
        if not body.get("source_code_path") and app["active_deployment"]:
            last = store.deployment(name, app["active_deployment"])
            body = body | {"source_code_path": last["settings"]["source_code_path"]}
        deployment_id = apps.deploy(name, _deployment_settings(body), request.state.principal.name)
        return show_deployment(name, deployment_id)

    @api.get("/{name}/deployments")
    async def list_deployments(
        name: str, page_size: Annotated[int, Query(ge=0)] = 0, page_token: Annotated[int, Query(ge=0)] = 0
    ) -> dict[str, Any]:
        store.app(name)
        ids = [row["deployment_id"] for row in store.deployments(name)]
        end = page_token + (page_size or len(ids))
        more = {"next_page_token": str(end)} if end < len(ids) else {}
        return {"app_deployments": [show_deployment(name, id_) for id_ in ids[page_token:end]]} | more

    @api.get("/{name}/deployments/{deployment_id}")
    async def get_deployment(name: str, deployment_id: str) -> dict[str, Any]:
        return show_deployment(name, deployment_id)

    def show(name: str) -> dict[str, Any]:
        app, runtime = store.app(name), apps.runtime(name)
        active, pending = app["active_deployment"], runtime.pending
        state, message = runtime.status(deployed=active is not None)
        instances = runtime.running_instances
        answer = {
            "name": name,
            "id": app["id"],
            "url": f"http://127.0.0.1:{app['port']}",
            "app_status": {"state": state, "message": message, "running_instances": instances},
            "compute_status": {
                "state": runtime.compute,
                "message": f"App compute is {runtime.compute.lower()}.",
                "active_instances": instances,
            },
            "service_principal_client_id": app["client_id"],
            "service_principal_id": zlib.crc32(app["client_id"].encode()),
            "service_principal_name": f"app-{name}",
            **{key: app[key] for key in ("creator", "updater", "create_time", "update_time")},
        }
        if active:
            answer["active_deployment"] = show_deployment(name, active)
            answer["default_source_code_path"] = answer["active_deployment"]["source_code_path"]
        if pending:
            answer["pending_deployment"] = show_deployment(name, pending)
        return app["settings"] | answer

    def show_deployment(name: str, deployment_id: str) -> dict[str, Any]:
        store.app(name)
        row = store.deployment(name, deployment_id)
        return row["settings"] | {
            "deployment_id": deployment_id,
            "status": {"state": row["state"], "message": row["message"]},
            "deployment_artifacts": {"source_code_path": str(apps.runtime(name).deployment_folder(deployment_id))},
            **{key: row[key] for key in ("creator", "create_time", "update_time")},
        }

    return api


def _app_settings(body: dict[str, Any]) -> dict[str, Any]:
    """What the user sets on an app; what the platform fills in is ignored. Raises BadRequest, NotImplementedHere."""
    for name in REFUSED_APP_FIELDS:
        if body.get(name):
            raise NotImplementedHere(f"local_workspace does not have the app setting {name}")
    settings: dict[str, Any] = {"description": str(body.get("description") or "")}
    if body.get("resources") is not None:
        settings["resources"] = check_resources(body["resources"])
    size = body.get("compute_size", "MEDIUM")
    if size not in SIZES:
        raise BadRequest(f"compute_size must be one of {', '.join(SIZES)}; got {size!r}")
    settings["compute_size"] = size
    least, most = body.get("compute_min_instances"), body.get("compute_max_instances")
    if (least, most) != (None, None):
        if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most <= MAX_INSTANCES):
            raise BadRequest(
                "compute_min_instances and compute_max_instances must be set together,"
                f" with 1 <= min <= max <= {MAX_INSTANCES}"
            )
        settings |= {"compute_min_instances": least, "compute_max_instances": most}
    return settings


def _deployment_settings(body: dict[str, Any]) -> dict[str, Any]:
    """What the user sets on a deployment. Raises BadRequest, NotImplementedHere."""
    if body.get("git_source"):
        raise NotImplementedHere("local_workspace does not deploy apps from git")
    if body.get("mode", "SNAPSHOT") != "SNAPSHOT":
        raise NotImplementedHere("local_workspace deploys apps in the mode SNAPSHOT only")
    if not isinstance(body.get("source_code_path"), str):
        raise BadRequest("source_code_path must be the workspace path of a directory")
    settings = {"source_code_path": body["source_code_path"], "mode": "SNAPSHOT"}
    if body.get("command"):
        settings["command"] = checked_command(body["command"])
    if body.get("env_vars"):
        variables(body["env_vars"])
        settings["env_vars"] = body["env_vars"]
    if body.get("health_check"):
        settings["health_check"] = _health_check(body["health_check"])
    return settings


def _health_check(check: Any) -> dict[str, str]:
    if not isinstance(check, dict) or not str(check.get("path") or "/").startswith("/"):
        raise BadRequest("health_check.path must begin with /")
    if check.get("timeout") and not _DURATION.fullmatch(str(check["timeout"])):
        raise BadRequest("health_check.timeout must be seconds, such as 30s")
    return {key: str(check[key]) for key in ("path", "timeout") if check.get(key)}

"""Artifacts over the tracking API: what lies where, and the URLs by which files travel.

Where Databricks signs a URL of cloud storage, here it is one of the Files API, and the caller's own authorization is
among the headers that must come with it.
"""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from local_workspace import bodies
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.roots import Roots
from local_workspace.mlflow.artifacts import files_path
from local_workspace.mlflow.tracking import API

TRACE_DATA = "traces.json"
MAX_PATHS = 10_000


def router(ws: LocalWorkspace) -> APIRouter:
    """Lists of artifacts and credentials for them."""
    api = APIRouter()
    tracking = ws.tracking
    roots = Roots(tracking.artifacts, ws.files)

    def listed(location: str, path: str, page_token: str) -> dict[str, Any]:
        """One page of what lies at `path` below a location; a file stands for itself."""
        tree, inner = roots.find(files_path(location, path))
        place = tree.locate(inner)
        if place.is_file():
            return {"files": [{"path": path, "is_dir": False, "file_size": place.stat().st_size}]}
        try:
            entries, token = tree.entries(inner, 0, page_token or None)
        except NotFound:  # nothing was ever written there
            return {"files": []}
        files = [
            {"path": f"{path}/{entry['name']}".lstrip("/"), "is_dir": entry["is_directory"]}
            | ({} if entry["is_directory"] else {"file_size": entry["file_size"]})
            for entry in entries
        ]
        return {"files": files} | ({"next_page_token": token} if token else {})

    def signed(request: Request, location: str, path: str) -> dict[str, Any]:
        """The URL at which the file is read with GET and written with PUT."""
        wanted = files_path(location, path)
        tree, inner = roots.find(wanted)
        tree.locate(inner)
        return {
            "path": path,
            "signed_uri": f"{ws.host}/api/2.0/fs/files{quote(wanted)}",
            "type": "GCP_SIGNED_URL",
            "headers": [{"name": "Authorization", "value": request.headers["authorization"]}],
        }

    @api.get(f"{API}/artifacts/list")
    async def list_artifacts(
        run_id: str = "", run_uuid: str = "", path: str = "", page_token: str = ""
    ) -> dict[str, Any]:
        location = await tracking.run_location(run_id or run_uuid)
        return {"root_uri": location} | await run_in_threadpool(listed, location, path.strip("/"), page_token)

    @api.get(f"{API}/logged-models/{{model_id}}/artifacts/directories")
    async def list_model_artifacts(
        model_id: str, artifact_directory_path: str = "", page_token: str = ""
    ) -> dict[str, Any]:
        location = await tracking.model_location(model_id)
        path = artifact_directory_path.strip("/")
        return {"root_uri": location} | await run_in_threadpool(listed, location, path, page_token)

    @api.post(f"{API}/artifacts/credentials-for-read")
    @api.post(f"{API}/artifacts/credentials-for-write")
    async def run_credentials(request: Request) -> dict[str, Any]:
        wanted = await bodies.read_object(request)
        location = await tracking.run_location(wanted.get("run_id"))
        found = [signed(request, location, path) for path in _paths(wanted.get("path"))]
        return {"credential_infos": [{"run_id": wanted["run_id"], **info} for info in found]}

    @api.post(f"{API}/logged-models/{{model_id}}/artifacts/credentials-for-upload")
    @api.post(f"{API}/logged-models/{{model_id}}/artifacts/credentials-for-download")
    async def model_credentials(model_id: str, request: Request) -> dict[str, Any]:
        paths = _paths((await bodies.read_object(request)).get("paths"))
        location = await tracking.model_location(model_id)
        found = [signed(request, location, path) for path in paths]
        return {"credentials": [{"model_id": model_id, "credential_info": info} for info in found]}

    @api.get(f"{API}/traces/{{trace_id}}/credentials-for-data-upload")
    @api.get(f"{API}/traces/{{trace_id}}/credentials-for-data-download")
    async def trace_credentials(
        trace_id: str, request: Request, path: str = Query(TRACE_DATA, min_length=1)
    ) -> dict[str, Any]:
        location = await tracking.trace_location(trace_id)
        return {"credential_info": signed(request, location, path)}

    return api


def _paths(paths: Any) -> list[str]:
    wanted = [paths] if isinstance(paths, str) else paths
    if not isinstance(wanted, list) or not all(isinstance(path, str) and path for path in wanted):
        raise BadRequest("path must be a list of paths of files")
    if len(wanted) > MAX_PATHS:
        raise BadRequest(f"path must not have more than {MAX_PATHS} entries")
    return wanted

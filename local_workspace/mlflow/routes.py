"""The MLflow tracking API: MLflow's own server answers, in the names, tags and artifact places of Databricks.

What a real workspace does not have of MLflow's API, or MLflow's client does not ask of one, is not passed on: 501.
"""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from local_workspace import bodies
from local_workspace.context import LocalWorkspace
from local_workspace.errors import NotFound
from local_workspace.mlflow import artifact_routes, bulk_routes
from local_workspace.mlflow.tracking import API, TRACES, checked_id
from local_workspace.parity import differs, refuses

FORWARDED = {
    f"GET {API}": (
        "experiments/get",
        "experiments/get-by-name",
        "metrics/get-history",
        "runs/get",
        "logged-models/{model_id}",
    ),
    f"POST {API}": (
        "experiments/delete",
        "experiments/delete-experiment-tag",
        "experiments/restore",
        "experiments/set-experiment-tag",
        "experiments/update",
        "logged-models/search",
        "logged-models/{model_id}/params",
        "runs/delete",
        "runs/delete-tag",
        "runs/log-batch",
        "runs/log-inputs",
        "runs/log-metric",
        "runs/log-model",
        "runs/log-parameter",
        "runs/outputs",
        "runs/restore",
        "runs/search",
        "runs/set-tag",
        "runs/update",
        "traces/delete-traces",
        "traces/link-to-run",
    ),
    f"PATCH {API}": ("logged-models/{model_id}", "logged-models/{model_id}/tags", "traces/{trace_id}/tags"),
    f"DELETE {API}": (
        "logged-models/{model_id}",
        "logged-models/{model_id}/tags/{tag_key}",
        "traces/{trace_id}/tags",
    ),
    f"GET {TRACES}": ("{trace_id}", "{trace_id}/assessments/{assessment_id}"),
    f"POST {TRACES}": ("search", "{trace_id}/assessments"),
    f"PATCH {TRACES}": ("{trace_id}/assessments/{assessment_id}",),
    f"DELETE {TRACES}": ("{trace_id}/assessments/{assessment_id}",),
}


def router(ws: LocalWorkspace) -> APIRouter:
    """The tracking API, and the ways to artifacts."""
    api = APIRouter()
    tracking = ws.tracking

    async def forward(request: Request) -> Response:
        for field, value in request.path_params.items():
            if field.endswith("_id"):
                checked_id(field, value)
        if request.method in ("POST", "PATCH"):
            # The SDK leaves out of the body what the path says; MLflow's server asks for it there.
            named = {"model_id": model_id} if (model_id := request.path_params.get("model_id")) else {}
            content = json.dumps(await bodies.read_object(request) | named).encode()
        else:
            content = await bodies.read(request)
        path = request.scope["raw_path"].decode("latin-1")
        answer = await tracking.engine.call(
            request.method,
            f"{path}?{request.url.query}" if request.url.query else path,
            content=content,
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
        # MLflow's client links a registered model with its run by this header.
        headers = {"x-databricks-org-id": ws.workspace_id}
        return Response(answer.content, media_type="application/json", headers=headers)

    @api.post(f"{API}/experiments/create")
    @differs("an experiment is not shown in the workspace tree, and its parent folder need not exist")
    async def create_experiment(request: Request) -> dict[str, Any]:
        return await tracking.create_experiment(await bodies.read_object(request), request.state.principal.name)

    @api.post(f"{API}/runs/create")
    async def create_run(request: Request) -> dict[str, Any]:
        return await tracking.create_run(await bodies.read_object(request), request.state.principal.name)

    @api.post(f"{API}/logged-models")
    async def create_logged_model(request: Request) -> dict[str, Any]:
        return await tracking.create_logged_model(await bodies.read_object(request))

    @api.post(TRACES)
    async def start_trace(request: Request) -> dict[str, Any]:
        return await tracking.start_trace(await bodies.read_object(request))

    @api.api_route("/api/4.0/mlflow/traces/{path:path}", methods=["GET", "POST", "PATCH", "DELETE"])
    @refuses("traces in Unity Catalog tables; MLflow's client falls back to the traces of experiments")
    def traces_in_tables(path: str) -> None:
        raise NotFound(f"There is no API for /api/4.0/mlflow/traces/{path}", error_code="ENDPOINT_NOT_FOUND")

    api.include_router(bulk_routes.router(ws))
    api.include_router(artifact_routes.router(ws))
    for begin, operations in FORWARDED.items():
        method, prefix = begin.split()
        for operation in operations:
            api.add_api_route(f"{prefix}/{operation}", forward, methods=[method])
    return api

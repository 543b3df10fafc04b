"""Operations of the tracking API that Databricks has and MLflow's server has not: lists, and many runs at once."""

from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from local_workspace import bodies
from local_workspace.context import LocalWorkspace
from local_workspace.mlflow.tracking import API

PAGE = 1000


class ManyRuns(BaseModel):
    experiment_id: str
    min_timestamp_millis: int = 0
    max_timestamp_millis: int = (1 << 63) - 1
    max_runs: int = Field(PAGE, ge=1, le=10_000)


def router(ws: LocalWorkspace) -> APIRouter:
    """What is made of several calls of MLflow's server."""
    api = APIRouter()

    async def change(what: Literal["delete", "restore"], wanted: ManyRuns) -> int:
        searched: dict[str, Any] = {
            "experiment_ids": [wanted.experiment_id],
            "filter": f"attributes.start_time >= {wanted.min_timestamp_millis}"
            f" AND attributes.start_time <= {wanted.max_timestamp_millis}",
            "run_view_type": "ACTIVE_ONLY" if what == "delete" else "DELETED_ONLY",
            "order_by": ["attributes.start_time ASC"],
            "max_results": wanted.max_runs,
        }
        runs = (await ws.tracking.call("POST", f"{API}/runs/search", json=searched)).get("runs", [])
        for run in runs:
            await ws.tracking.call("POST", f"{API}/runs/{what}", json={"run_id": run["info"]["run_id"]})
        return len(runs)

    @api.post(f"{API}/databricks/runs/delete-runs")
    async def delete_runs(body: ManyRuns) -> dict[str, int]:
        return {"runs_deleted": await change("delete", body)}

    @api.post(f"{API}/databricks/runs/restore-runs")
    async def restore_runs(body: ManyRuns) -> dict[str, int]:
        return {"runs_restored": await change("restore", body)}

    async def found(wanted: dict[str, Any]) -> dict[str, Any]:
        return await ws.tracking.call("POST", f"{API}/experiments/search", json={"max_results": PAGE} | wanted)

    @api.post(f"{API}/experiments/search")
    async def search_experiments(request: Request) -> dict[str, Any]:
        return await found(await bodies.read_object(request))

    @api.get(f"{API}/experiments/list")
    @api.get(f"{API}/experiments/search")
    async def list_experiments(
        view_type: str = "ACTIVE_ONLY",
        filter: str = "",
        max_results: int = Query(PAGE, ge=1),
        page_token: str = "",
    ) -> dict[str, Any]:
        wanted = {"view_type": view_type, "filter": filter, "max_results": max_results, "page_token": page_token}
        return await found(wanted)

    return api

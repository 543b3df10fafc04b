"""The pages of jobs and runs, apps, dashboards and alerts."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError
from local_workspace.pages.chart import series, svg
from local_workspace.pages.session import Sessions, Viewer

JOBS = "/api/2.2/jobs"


def add(api: APIRouter, sessions: Sessions, page: Callable[..., Response], ws: LocalWorkspace) -> None:
    """Put the pages into `api`."""

    @api.get("/ui/jobs")
    async def jobs(request: Request) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.every(f"{JOBS}/list", "jobs")
        runs = (await viewer.get(f"{JOBS}/runs/list", limit=20)).get("runs") or []
        return page("jobs.html", jobs=found, runs=runs, job=None)

    @api.get("/ui/jobs/{job_id}")
    async def job(request: Request, job_id: int) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{JOBS}/get", job_id=job_id)
        runs = (await viewer.get(f"{JOBS}/runs/list", job_id=job_id, limit=20)).get("runs") or []
        return page("jobs.html", jobs=[], runs=runs, job=found)

    @api.post("/ui/jobs/{job_id}/run")
    async def run_now(request: Request, job_id: int) -> Response:
        viewer = sessions.viewer(request)
        run = await viewer.call("POST", f"{JOBS}/run-now", json={"job_id": job_id})
        return RedirectResponse(f"/ui/runs/{run['run_id']}", 303)

    @api.get("/ui/runs/{run_id}")
    async def run(request: Request, run_id: int) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{JOBS}/runs/get", run_id=run_id)
        outputs = {task["run_id"]: await _output(viewer, task["run_id"]) for task in found.get("tasks", [])}
        return page("run.html", run=found, outputs=outputs)

    @api.get("/ui/apps")
    async def apps(request: Request) -> Response:
        viewer = sessions.viewer(request)
        return page("apps.html", apps=await viewer.every("/api/2.0/apps", "apps"))

    @api.get("/ui/dashboards")
    async def dashboards(request: Request) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.every("/api/2.0/lakeview/dashboards", "dashboards")
        alerts = await viewer.every("/api/2.0/alerts", "alerts")
        return page("dashboards.html", dashboards=found, alerts=alerts)

    @api.get("/ui/dashboards/{dashboard_id}")
    async def dashboard(request: Request, dashboard_id: str) -> Response:
        sessions.viewer(request)
        kept = ws.dashboards.store.get(dashboard_id)
        filled = await ws.dashboards.fill(kept, draft=kept.published is None)
        charts = {result.widget.name: _chart(result.widget.kind, result.answer) for result in filled if result.answer}
        return page("dashboard.html", dashboard=kept, filled=filled, charts=charts)

    @api.get("/ui/alerts/{alert_id}")
    async def alert(request: Request, alert_id: str) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"/api/2.0/alerts/{quote(alert_id, safe='')}")
        return page("alert.html", alert=found, evaluations=ws.alerts.store.evaluations(alert_id))


async def _output(viewer: Viewer, run_id: int) -> dict[str, Any]:
    try:
        return await viewer.get(f"{JOBS}/runs/get-output", run_id=run_id)
    except ApiError as error:
        return {"error": error.message}


def _chart(kind: str, answer: Any) -> str:
    """The SVG of a bar, line or area widget: the first column against the last."""
    if kind not in ("bar", "line", "area", "scatter") or len(answer.columns) < 2:
        return ""
    data = series(answer.rows, 0, len(answer.columns) - 1)
    return svg("bar" if kind == "bar" else "line", data) if data else ""

"""The alerts API (version 2): `/api/2.0/alerts`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from local_workspace.alerts.store import Record
from local_workspace.alerts.wire import Alert
from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.moments import iso
from local_workspace.paging import page
from local_workspace.parity import differs

ALERTS = "/api/2.0/alerts"
TOLD = "notifications are recorded and shown, not sent; the warehouse is this machine"


def router(ws: LocalWorkspace) -> APIRouter:
    """The alerts API."""
    api = APIRouter()
    alerts = ws.alerts

    @api.post(ALERTS)
    @differs(TOLD)
    async def create(body: Alert, request: Request) -> dict:
        return shown(alerts.create(body, request.state.principal.name))

    @api.get(ALERTS)
    async def list_alerts(page_size: Annotated[int, Query(ge=1, le=1000)] = 100, page_token: str = "") -> dict:
        records, following = page(alerts.store.all(), page_size, page_token)
        return {"alerts": [shown(record) for record in records]} | following

    @api.get(ALERTS + "/{alert_id}")
    async def get(alert_id: str) -> dict:
        return shown(alerts.store.get(alert_id))

    @api.patch(ALERTS + "/{alert_id}")
    @differs(TOLD)
    async def update(alert_id: str, request: Request, update_mask: str = "*") -> dict:
        body = await read_object(request)
        paths = [path.strip().partition(".")[0] for path in update_mask.split(",")]
        if unknown := set(paths) - set(Alert.model_fields) - {"*"}:
            raise BadRequest(f"update_mask names {', '.join(sorted(unknown))}; an alert has no such field to change")
        names = [name for name in Alert.model_fields if name in paths or "*" in paths]
        try:
            return shown(alerts.update(alert_id, {name: body[name] for name in names if name in body}))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise BadRequest(f"Invalid request: {problems}") from error

    @api.delete(ALERTS + "/{alert_id}")
    async def trash(alert_id: str, purge: bool = False) -> dict:
        alerts.trash(alert_id, purge=purge)
        return {}

    return api


def shown(record: Record) -> dict[str, Any]:
    """An alert as the API shows it."""
    evaluation = record.body["evaluation"] | {"state": record.state}
    if record.evaluated_at:
        evaluation["last_evaluated_at"] = iso(record.evaluated_at)
    run_as = record.body.get("run_as") or {"user_name": record.owner}
    return record.body | {
        "id": record.id,
        "evaluation": evaluation,
        "lifecycle_state": record.lifecycle,
        "owner_user_name": record.owner,
        "run_as_user_name": next(iter(run_as.values())),
        "effective_run_as": run_as,
        "create_time": iso(record.created_at),
        "update_time": iso(record.updated_at),
    }

"""The Lakeview API: `/api/2.0/lakeview/dashboards`."""

import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from local_workspace.context import LocalWorkspace
from local_workspace.cron import Cron
from local_workspace.dashboards.definition import parsed
from local_workspace.dashboards.store import Dashboard, Schedule
from local_workspace.errors import BadRequest, Conflict, NotFound
from local_workspace.moments import iso
from local_workspace.paging import page
from local_workspace.parity import differs

DASHBOARDS = "/api/2.0/lakeview/dashboards"
ONE = DASHBOARDS + "/{dashboard_id}"
SCHEDULES = ONE + "/schedules"
SUBSCRIPTIONS = SCHEDULES + "/{schedule_id}/subscriptions"
APART = "the dashboard is not listed in the workspace tree"
NOT_SENT = "the dashboard's queries are run, whom it would be sent to is recorded, nothing is sent"
EMPTY = json.dumps({"datasets": [], "pages": []})


class Draft(BaseModel):
    """A dashboard as its author sends it."""

    model_config = ConfigDict(extra="ignore")

    display_name: str | None = Field(None, min_length=1, max_length=500)
    serialized_dashboard: str | None = Field(None, max_length=4 * 2**20)
    warehouse_id: str | None = None
    parent_path: str | None = None
    etag: str | None = None


class Publication(BaseModel):
    embed_credentials: bool = True
    warehouse_id: str | None = None


class Etag(BaseModel):
    etag: str | None = None


class CronSchedule(BaseModel):
    quartz_cron_expression: str
    timezone_id: str


class NewSchedule(BaseModel):
    """A schedule as it is sent."""

    model_config = ConfigDict(extra="ignore")

    cron_schedule: CronSchedule
    display_name: str | None = None
    pause_status: Literal["PAUSED", "UNPAUSED"] = "UNPAUSED"
    warehouse_id: str | None = None
    etag: str | None = None


class Subscriber(BaseModel):
    user_subscriber: dict[str, Any] | None = None
    destination_subscriber: dict[str, Any] | None = None


class NewSubscription(BaseModel):
    model_config = ConfigDict(extra="ignore")

    subscriber: Subscriber
    skip_notify: bool = False


Size = Annotated[int, Query(ge=1, le=1000)]


def router(ws: LocalWorkspace) -> APIRouter:
    """The Lakeview API."""
    api = APIRouter()
    dashboards, store = ws.dashboards, ws.dashboards.store

    def active(dashboard_id: str) -> Dashboard:
        dashboard = store.get(dashboard_id)
        if dashboard.lifecycle != "ACTIVE":
            raise NotFound(f"Dashboard {dashboard_id} is in the trash.")
        return dashboard

    @api.post(DASHBOARDS)
    @differs(APART)
    async def create(
        body: Draft, request: Request, dataset_catalog: str = "main", dataset_schema: str = "default"
    ) -> dict:
        if not body.display_name:
            raise BadRequest("display_name is required")
        owner = request.state.principal.name
        serialized = body.serialized_dashboard or EMPTY
        parsed(serialized)
        values = {"catalog": dataset_catalog, "schema": dataset_schema, "serialized": serialized}
        values |= {"display_name": body.display_name, "parent_path": body.parent_path or f"/Users/{owner}"}
        return shown(store.add(owner, values | {"warehouse_id": body.warehouse_id}))

    @api.get(DASHBOARDS)
    async def list_dashboards(page_size: Size = 100, page_token: str = "", show_trashed: bool = False) -> dict:
        found, following = page(store.all(trashed=show_trashed), page_size, page_token)
        listed = ("dashboard_id", "display_name", "create_time", "lifecycle_state", "warehouse_id")
        return {"dashboards": [{k: v for k, v in shown(d).items() if k in listed} for d in found]} | following

    @api.get(ONE)
    async def get(dashboard_id: str) -> dict:
        return shown(store.get(dashboard_id))

    @api.patch(ONE)
    @differs(APART)
    async def update(dashboard_id: str, body: Draft) -> dict:
        dashboard = active(dashboard_id)
        _unchanged(dashboard, body.etag)
        values = body.model_dump(include={"display_name", "warehouse_id"}, exclude_none=True)
        if body.serialized_dashboard is not None:
            parsed(body.serialized_dashboard)
            values["serialized"] = body.serialized_dashboard
        return shown(store.change(dashboard, values))

    @api.delete(ONE)
    async def trash(dashboard_id: str) -> dict:
        store.get(dashboard_id)
        store.trash(dashboard_id)
        dashboards.alarm.changed()
        return {}

    @api.post(ONE + "/published")
    async def publish(dashboard_id: str, body: Publication) -> dict:
        dashboard = active(dashboard_id)
        snapshot = {
            "display_name": dashboard.display_name,
            "embed_credentials": body.embed_credentials,
            "warehouse_id": body.warehouse_id or dashboard.warehouse_id,
            "revision_create_time": iso(time.time()),
            "serialized_dashboard": dashboard.serialized,
        }
        store.publish(dashboard_id, snapshot)
        return published(store.get(dashboard_id))

    @api.get(ONE + "/published")
    async def get_published(dashboard_id: str) -> dict:
        return published(store.get(dashboard_id))

    @api.delete(ONE + "/published")
    async def unpublish(dashboard_id: str) -> dict:
        published(store.get(dashboard_id))
        store.publish(dashboard_id, None)
        return {}

    @api.post(ONE + "/revert")
    async def revert(dashboard_id: str, body: Etag) -> dict:
        dashboard = active(dashboard_id)
        _unchanged(dashboard, body.etag)
        published(dashboard)
        draft = (dashboard.published or {})["serialized_dashboard"]
        return {"dashboard": shown(store.change(dashboard, {"serialized": draft}))}

    @api.post(SCHEDULES)
    @differs(NOT_SENT)
    async def create_schedule(dashboard_id: str, body: NewSchedule) -> dict:
        active(dashboard_id)
        schedule = store.put_schedule(dashboard_id, _checked(body))
        dashboards.alarm.changed()
        return shown_schedule(schedule)

    @api.get(SCHEDULES)
    async def list_schedules(dashboard_id: str, page_size: Size = 100, page_token: str = "") -> dict:
        active(dashboard_id)
        found, following = page(store.schedules(dashboard_id), page_size, page_token)
        return {"schedules": [shown_schedule(schedule) for schedule in found]} | following

    @api.get(SCHEDULES + "/{schedule_id}")
    async def get_schedule(dashboard_id: str, schedule_id: str) -> dict:
        return shown_schedule(store.schedule(dashboard_id, schedule_id))

    @api.put(SCHEDULES + "/{schedule_id}")
    @differs(NOT_SENT)
    async def update_schedule(dashboard_id: str, schedule_id: str, body: NewSchedule) -> dict:
        before = store.schedule(dashboard_id, schedule_id)
        _unchanged(before, body.etag)
        schedule = store.put_schedule(dashboard_id, _checked(body), before)
        dashboards.alarm.changed()
        return shown_schedule(schedule)

    @api.delete(SCHEDULES + "/{schedule_id}")
    async def delete_schedule(dashboard_id: str, schedule_id: str, etag: str | None = None) -> dict:
        _unchanged(store.schedule(dashboard_id, schedule_id), etag)
        store.delete_schedule(schedule_id)
        dashboards.alarm.changed()
        return {}

    @api.post(SUBSCRIPTIONS)
    @differs(NOT_SENT)
    async def subscribe(dashboard_id: str, schedule_id: str, body: NewSubscription) -> dict:
        store.schedule(dashboard_id, schedule_id)
        if len(subscriber := body.subscriber.model_dump(exclude_none=True)) != 1:
            raise BadRequest("subscriber: either user_subscriber or destination_subscriber is needed")
        kept = store.subscribe(schedule_id, {"subscriber": subscriber, "skip_notify": body.skip_notify})
        return shown_subscription(dashboard_id, kept)

    @api.get(SUBSCRIPTIONS)
    async def list_subscriptions(
        dashboard_id: str, schedule_id: str, page_size: Size = 100, page_token: str = ""
    ) -> dict:
        store.schedule(dashboard_id, schedule_id)
        found, following = page(store.subscriptions(schedule_id), page_size, page_token)
        return {"subscriptions": [shown_subscription(dashboard_id, kept) for kept in found]} | following

    @api.get(SUBSCRIPTIONS + "/{subscription_id}")
    async def get_subscription(dashboard_id: str, schedule_id: str, subscription_id: str) -> dict:
        store.schedule(dashboard_id, schedule_id)
        return shown_subscription(dashboard_id, store.subscription(schedule_id, subscription_id))

    @api.delete(SUBSCRIPTIONS + "/{subscription_id}")
    async def unsubscribe(dashboard_id: str, schedule_id: str, subscription_id: str) -> dict:
        store.schedule(dashboard_id, schedule_id)
        store.subscription(schedule_id, subscription_id)
        store.unsubscribe(subscription_id)
        return {}

    return api


def _checked(body: NewSchedule) -> dict[str, Any]:
    Cron(body.cron_schedule.quartz_cron_expression, body.cron_schedule.timezone_id)
    return body.model_dump(exclude_none=True, exclude={"etag"})


def _unchanged(record: Dashboard | Schedule, etag: str | None) -> None:
    """Raises Conflict when `etag` is given and not the record's."""
    if etag and etag != str(record.version):
        raise Conflict(f"etag {etag!r} is not that of the present version; read it again.")


def shown(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as the API shows it."""
    answer = {
        "dashboard_id": dashboard.id,
        "display_name": dashboard.display_name,
        "path": f"{dashboard.parent_path}/{dashboard.display_name}.lvdash.json",
        "parent_path": dashboard.parent_path,
        "etag": str(dashboard.version),
        "lifecycle_state": dashboard.lifecycle,
        "serialized_dashboard": dashboard.serialized,
        "create_time": iso(dashboard.created_at),
        "update_time": iso(dashboard.updated_at),
    }
    return answer | ({"warehouse_id": dashboard.warehouse_id} if dashboard.warehouse_id else {})


def published(dashboard: Dashboard) -> dict[str, Any]:
    """What readers see, without its content. Raises NotFound."""
    if dashboard.published is None:
        raise NotFound(f"Dashboard {dashboard.id} is not published.")
    return {key: value for key, value in dashboard.published.items() if key != "serialized_dashboard"}


def shown_schedule(schedule: Schedule) -> dict[str, Any]:
    """A schedule as the API shows it."""
    times = {"create_time": iso(schedule.created_at), "update_time": iso(schedule.updated_at)}
    names = {"schedule_id": schedule.id, "dashboard_id": schedule.dashboard_id, "etag": str(schedule.version)}
    return schedule.body | names | times


def shown_subscription(dashboard_id: str, kept: dict[str, Any]) -> dict[str, Any]:
    """A subscription as the API shows it."""
    names = {"subscription_id": kept["id"], "schedule_id": kept["schedule_id"], "dashboard_id": dashboard_id}
    return kept["body"] | names | {"etag": "1", "create_time": iso(kept["created_at"])}

"""Dashboards at work: their widgets' queries run, on demand and on schedule."""

import asyncio
import time
from dataclasses import dataclass

from local_workspace.alarm import Alarm, Due
from local_workspace.cron import Cron
from local_workspace.dashboards.definition import Widget, parsed, widgets
from local_workspace.dashboards.store import Dashboard, DashboardStore
from local_workspace.errors import ApiError, BadRequest
from local_workspace.sql.ask import Answer, Asking

ROWS = 1000
"""Rows of a widget that are shown."""


@dataclass(frozen=True)
class Filled:
    """A widget and its rows, or why there are none."""

    widget: Widget
    answer: Answer | None
    error: str = ""


class Dashboards:
    """The Lakeview dashboards of a workspace."""

    def __init__(self, store: DashboardStore, asking: Asking):
        self.store = store
        self._asking = asking
        self.alarm = Alarm("dashboard", self._due, self._refresh)

    async def fill(self, dashboard: Dashboard, *, draft: bool = False) -> list[Filled]:
        """The widgets of what is published, or of the draft, each with its rows. Raises BadRequest."""
        snapshot = dashboard.published
        if not (draft or snapshot):
            raise BadRequest(f"Dashboard {dashboard.id} is not published.")
        serialized = dashboard.serialized if draft or not snapshot else snapshot["serialized_dashboard"]
        return await asyncio.gather(*(self._fill(dashboard, widget) for widget in widgets(parsed(serialized))))

    async def _fill(self, dashboard: Dashboard, widget: Widget) -> Filled:
        if not widget.sql:
            return Filled(widget, None)
        try:
            answer = await self._asking.ask(
                widget.sql, dashboard.owner, catalog=dashboard.catalog, schema=dashboard.schema, limit=ROWS
            )
            return Filled(widget, answer)
        except ApiError as error:
            return Filled(widget, None, error.message)

    def _due(self) -> dict[str, Due]:
        found = {}
        for schedule in self.store.schedules():
            if schedule.body.get("pause_status", "UNPAUSED") == "UNPAUSED":
                cron = schedule.body["cron_schedule"]
                key = f"{schedule.dashboard_id}/{schedule.id}"
                found[key] = Cron.due(cron["quartz_cron_expression"], cron["timezone_id"])
        return found

    async def _refresh(self, key: str) -> None:
        """Run a scheduled dashboard and remember whom it would be sent to."""
        dashboard_id, _, schedule_id = key.partition("/")
        try:
            filled = await self.fill(self.store.get(dashboard_id))
            errors = [f"{result.widget.name}: {result.error}" for result in filled if result.error]
        except ApiError as error:
            errors = [error.message]
        sent = [
            s["body"]["subscriber"] for s in self.store.subscriptions(schedule_id) if not s["body"].get("skip_notify")
        ]
        self.store.ran(schedule_id, {"at": time.time(), "errors": errors, "sent_to": sent})

"""Alerts at work: evaluated on their schedules, against the results of their queries."""

import time
from typing import Any

from local_workspace.alarm import Alarm, Due
from local_workspace.alerts.condition import outcome
from local_workspace.alerts.store import AlertStore, Record
from local_workspace.alerts.wire import Alert, Notification
from local_workspace.cron import Cron
from local_workspace.errors import ApiError, Conflict
from local_workspace.sql.ask import Asking


class Alerts:
    """The alerts of a workspace."""

    def __init__(self, store: AlertStore, asking: Asking):
        self.store = store
        self._asking = asking
        self._alarm = Alarm("alert", self._schedules, self.evaluate)

    def start(self) -> None:
        """Evaluate on schedule from now on."""
        self._alarm.start()

    async def stop(self) -> None:
        """Evaluate no more."""
        await self._alarm.stop()

    def create(self, alert: Alert, owner: str) -> Record:
        """A new alert. Raises ApiError for a schedule that cannot be."""
        record = self.store.add(owner, _checked(alert))
        self._alarm.changed()
        return record

    def update(self, alert_id: str, changes: dict[str, Any]) -> Record:
        """An alert with some of its fields replaced. Raises NotFound, Conflict when it is trashed, ValidationError."""
        record = self.store.get(alert_id)
        if record.lifecycle != "ACTIVE":
            raise Conflict(f"Alert {alert_id} is in the trash.", error_code="INVALID_STATE")
        changed = self.store.change(alert_id, _checked(Alert(**record.body | changes)))
        self._alarm.changed()
        return changed

    def trash(self, alert_id: str, *, purge: bool = False) -> None:
        """Stop an alert; purged, it is gone for good. Raises NotFound."""
        self.store.get(alert_id)
        if purge:
            self.store.purge(alert_id)
        else:
            self.store.trash(alert_id)
        self._alarm.changed()

    async def evaluate(self, alert_id: str) -> str:
        """Run an alert's query now and decide; the new state. Raises NotFound."""
        record = self.store.get(alert_id)
        alert = Alert(**record.body)
        value, message = None, ""
        try:
            parameters = [parameter.model_dump() for parameter in alert.parameters]
            state, value = outcome(
                alert.evaluation, await self._asking.ask(alert.query_text, record.owner, parameters=parameters)
            )
        except ApiError as error:
            state, message = "ERROR", error.message
        notified = _notified(alert.evaluation.notification, record, state)
        self.store.evaluated(alert_id, state, value, message, notified)
        return state

    def _schedules(self) -> dict[str, Due]:
        schedules = {record.id: Alert(**record.body).schedule for record in self.store.all()}
        return {
            alert_id: Cron.due(schedule.quartz_cron_schedule, schedule.timezone_id)
            for alert_id, schedule in schedules.items()
            if schedule.pause_status == "UNPAUSED"
        }


def _checked(alert: Alert) -> dict[str, Any]:
    Cron.due(alert.schedule.quartz_cron_schedule, alert.schedule.timezone_id)
    return alert.model_dump(exclude_none=True)


def _notified(notification: Notification, record: Record, state: str) -> list[str]:
    """Who would be told: on becoming triggered, again after `retrigger_seconds`, on becoming OK if asked for."""
    told = [s.user_email or s.destination_id or "" for s in notification.subscriptions]
    if state == "TRIGGERED":
        again = notification.retrigger_seconds
        waited = record.notified_at is not None and time.time() - record.notified_at >= again > 0
        return told if record.state != "TRIGGERED" or waited else []
    return told if state == "OK" and record.state == "TRIGGERED" and notification.notify_on_ok else []

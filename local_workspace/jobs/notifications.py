"""Whom a real workspace would tell about a run: e-mail addresses and webhooks, recorded instead of sent."""

from collections.abc import Iterator
from typing import Any

from local_workspace.jobs.graph import CANCELED, SUCCEEDED
from local_workspace.jobs.store import JobStore, Run


def record(store: JobStore, run: Run, event: str) -> None:
    """Record `event` (`on_start`, or `on_end` for what its result asks for) of a job's or task's run."""
    wishes = run.settings.get("notification_settings") or {}
    if event == "on_end":
        if run.life == "SKIPPED" and wishes.get("no_alert_for_skipped_runs"):
            return
        if run.result in CANCELED and wishes.get("no_alert_for_canceled_runs"):
            return
        event = "on_success" if run.result in SUCCEEDED else "on_failure"
    for channel, destination in _destinations(run.settings, event):
        store.notify(run.job_run_id or run.run_id, event, channel, destination, run.task_key or None)


def _destinations(settings: dict[str, Any], event: str) -> Iterator[tuple[str, str]]:
    for address in (settings.get("email_notifications") or {}).get(event) or []:
        yield "email", str(address)
    for webhook in (settings.get("webhook_notifications") or {}).get(event) or []:
        yield "webhook", str(webhook.get("id") if isinstance(webhook, dict) else webhook)

"""Dashboards: the draft, what is published of it, and when it is sent to whom."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import AlreadyExists, Conflict, NotFound
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS dashboards (
    id TEXT PRIMARY KEY, display_name TEXT NOT NULL, parent_path TEXT NOT NULL, serialized TEXT NOT NULL,
    warehouse_id TEXT, catalog TEXT NOT NULL, schema TEXT NOT NULL, owner TEXT NOT NULL, version INTEGER NOT NULL,
    lifecycle TEXT NOT NULL DEFAULT 'ACTIVE', created_at REAL NOT NULL, updated_at REAL NOT NULL, published TEXT);
CREATE TABLE IF NOT EXISTS dashboard_schedules (
    id TEXT PRIMARY KEY, dashboard_id TEXT NOT NULL REFERENCES dashboards(id) ON DELETE CASCADE, body TEXT NOT NULL,
    version INTEGER NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL, last_run TEXT);
CREATE TABLE IF NOT EXISTS dashboard_subscriptions (
    id TEXT PRIMARY KEY, schedule_id TEXT NOT NULL REFERENCES dashboard_schedules(id) ON DELETE CASCADE,
    body TEXT NOT NULL, created_at REAL NOT NULL);
"""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard as it is kept."""

    id: str
    display_name: str
    parent_path: str
    serialized: str
    warehouse_id: str | None
    catalog: str
    schema: str
    owner: str
    version: int
    lifecycle: str
    created_at: float
    updated_at: float
    published: dict[str, Any] | None
    """The snapshot that readers see."""


@dataclass(frozen=True)
class Schedule:
    """When a published dashboard is refreshed and sent."""

    id: str
    dashboard_id: str
    body: dict[str, Any]
    version: int
    created_at: float
    updated_at: float
    last_run: dict[str, Any] | None


class DashboardStore:
    """The dashboards of a workspace."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def add(self, owner: str, values: dict[str, Any]) -> Dashboard:
        """Keep a new draft. Raises AlreadyExists when another one has its place."""
        self._check_free(values["parent_path"], values["display_name"])
        dashboard_id, now = uuid.uuid4().hex, time.time()
        row = {"id": dashboard_id, "owner": owner, "version": 1, "created_at": now, "updated_at": now} | values
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        self._state.execute(f"INSERT INTO dashboards ({names}) VALUES ({marks})", row)
        return self.get(dashboard_id)

    def get(self, dashboard_id: str) -> Dashboard:
        """A dashboard, also a trashed one. Raises NotFound."""
        row = self._state.row("SELECT * FROM dashboards WHERE id = ?", [dashboard_id])
        if row is None:
            raise NotFound(f"Dashboard {dashboard_id} does not exist.")
        return _dashboard(row)

    def all(self, *, trashed: bool = False) -> list[Dashboard]:
        """Dashboards, the oldest first."""
        states = ("ACTIVE", "TRASHED") if trashed else ("ACTIVE", "ACTIVE")
        query = "SELECT * FROM dashboards WHERE lifecycle IN (?, ?) ORDER BY created_at, id"
        return [_dashboard(row) for row in self._state.rows(query, states)]

    def change(self, dashboard: Dashboard, values: dict[str, Any]) -> Dashboard:
        """Replace fields of the draft. Raises AlreadyExists, and Conflict when somebody else changed it meanwhile."""
        if values.get("display_name", dashboard.display_name) != dashboard.display_name:
            self._check_free(dashboard.parent_path, values["display_name"])
        row = {"version": dashboard.version + 1, "updated_at": time.time()} | values
        sets = ", ".join(f"{name} = :{name}" for name in row)
        update = f"UPDATE dashboards SET {sets} WHERE id = :id AND version = :before"
        if not self._state.execute(update, row | {"id": dashboard.id, "before": dashboard.version}):
            raise Conflict(f"Dashboard {dashboard.id} was modified meanwhile; read it again.")
        return self.get(dashboard.id)

    def _check_free(self, parent_path: str, display_name: str) -> None:
        taken = "SELECT 1 FROM dashboards WHERE parent_path = ? AND display_name = ? AND lifecycle = 'ACTIVE'"
        if self._state.row(taken, [parent_path, display_name]):
            raise AlreadyExists(f"{parent_path} has a dashboard {display_name!r:.200} already; choose another name.")

    def publish(self, dashboard_id: str, snapshot: dict[str, Any] | None) -> None:
        """Show readers this snapshot, or none."""
        update = "UPDATE dashboards SET published = ? WHERE id = ?"
        self._state.execute(update, [snapshot and json.dumps(snapshot), dashboard_id])

    def trash(self, dashboard_id: str) -> None:
        """Keep it out of sight."""
        self._state.execute(
            "UPDATE dashboards SET lifecycle = 'TRASHED', published = NULL WHERE id = ?", [dashboard_id]
        )

    def schedules(self, dashboard_id: str | None = None) -> list[Schedule]:
        """The schedules of one dashboard, or all."""
        query = "SELECT * FROM dashboard_schedules WHERE dashboard_id = coalesce(?, dashboard_id) ORDER BY created_at"
        return [_schedule(row) for row in self._state.rows(query, [dashboard_id])]

    def schedule(self, dashboard_id: str, schedule_id: str) -> Schedule:
        """One schedule. Raises NotFound."""
        found = next((s for s in self.schedules(dashboard_id) if s.id == schedule_id), None)
        if found is None:
            raise NotFound(f"Dashboard {dashboard_id} has no schedule {schedule_id}.")
        return found

    def put_schedule(self, dashboard_id: str, body: dict[str, Any], before: Schedule | None = None) -> Schedule:
        """A new schedule, or another body for `before`."""
        now, schedule_id = time.time(), before.id if before else uuid.uuid4().hex
        self._state.execute(
            "INSERT INTO dashboard_schedules VALUES (?, ?, ?, 1, ?, ?, NULL) ON CONFLICT (id) DO UPDATE SET "
            "body = excluded.body, version = version + 1, updated_at = excluded.updated_at",
            [schedule_id, dashboard_id, json.dumps(body), now, now],
        )
        return self.schedule(dashboard_id, schedule_id)

    def ran(self, schedule_id: str, run: dict[str, Any]) -> None:
        """Remember what a schedule did last."""
        self._state.execute("UPDATE dashboard_schedules SET last_run = ? WHERE id = ?", [json.dumps(run), schedule_id])

    def delete_schedule(self, schedule_id: str) -> None:
        """Forget a schedule and its subscriptions."""
        self._state.execute("DELETE FROM dashboard_schedules WHERE id = ?", [schedule_id])

    def subscribe(self, schedule_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """A new subscription."""
        subscription_id = uuid.uuid4().hex
        insert = "INSERT INTO dashboard_subscriptions VALUES (?, ?, ?, ?)"
        self._state.execute(insert, [subscription_id, schedule_id, json.dumps(body), time.time()])
        return self.subscription(schedule_id, subscription_id)

    def subscriptions(self, schedule_id: str) -> list[dict[str, Any]]:
        """Who gets a schedule's dashboard."""
        query = "SELECT * FROM dashboard_subscriptions WHERE schedule_id = ? ORDER BY created_at"
        return [row | {"body": json.loads(row["body"])} for row in self._state.rows(query, [schedule_id])]

    def subscription(self, schedule_id: str, subscription_id: str) -> dict[str, Any]:
        """One subscription. Raises NotFound."""
        found = next((s for s in self.subscriptions(schedule_id) if s["id"] == subscription_id), None)
        if found is None:
            raise NotFound(f"Schedule {schedule_id} has no subscription {subscription_id}.")
        return found

    def unsubscribe(self, subscription_id: str) -> None:
        """Forget a subscription."""
        self._state.execute("DELETE FROM dashboard_subscriptions WHERE id = ?", [subscription_id])


def _dashboard(row: dict[str, Any]) -> Dashboard:
    return Dashboard(**row | {"published": row["published"] and json.loads(row["published"])})


def _schedule(row: dict[str, Any]) -> Schedule:
    return Schedule(
        **row | {"body": json.loads(row["body"]), "last_run": row["last_run"] and json.loads(row["last_run"])}
    )

"""Alerts, what they evaluated to, and who would have been told."""

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import NotFound
from local_workspace.state import State

KEPT = 200
"""Evaluations remembered of each alert."""
DDL = """
CREATE TABLE IF NOT EXISTS alerts (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, body TEXT NOT NULL, lifecycle TEXT NOT NULL DEFAULT 'ACTIVE',
    created_at REAL NOT NULL, updated_at REAL NOT NULL, state TEXT NOT NULL DEFAULT 'UNKNOWN', evaluated_at REAL,
    notified_at REAL);
CREATE TABLE IF NOT EXISTS alert_evaluations (
    alert_id TEXT NOT NULL REFERENCES alerts(id) ON DELETE CASCADE, at REAL NOT NULL, state TEXT NOT NULL,
    value TEXT, message TEXT NOT NULL, notified TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """An alert as it is kept."""

    id: str
    owner: str
    body: dict[str, Any]
    lifecycle: str
    created_at: float
    updated_at: float
    state: str
    evaluated_at: float | None
    notified_at: float | None


class AlertStore:
    """The alerts of a workspace."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def add(self, owner: str, body: dict[str, Any]) -> Record:
        """Keep a new alert."""
        alert_id, now = str(uuid.uuid4()), time.time()
        insert = "INSERT INTO alerts (id, owner, body, created_at, updated_at) VALUES (?, ?, ?, ?, ?)"
        self._state.execute(insert, [alert_id, owner, json.dumps(body), now, now])
        return self.get(alert_id)

    def get(self, alert_id: str) -> Record:
        """An alert, also a trashed one. Raises NotFound."""
        row = self._state.row("SELECT * FROM alerts WHERE id = ?", [alert_id])
        if row is None:
            raise NotFound(f"Alert {alert_id} does not exist.")
        return Record(**row | {"body": json.loads(row["body"])})

    def all(self, lifecycle: str = "ACTIVE") -> list[Record]:
        """Alerts, the oldest first."""
        rows = self._state.rows("SELECT * FROM alerts WHERE lifecycle = ? ORDER BY created_at, id", [lifecycle])
        return [Record(**row | {"body": json.loads(row["body"])}) for row in rows]

    def change(self, alert_id: str, body: dict[str, Any]) -> Record:
        """Give an alert another body."""
        update = "UPDATE alerts SET body = ?, updated_at = ? WHERE id = ?"
        self._state.execute(update, [json.dumps(body), time.time(), alert_id])
        return self.get(alert_id)

    def trash(self, alert_id: str) -> None:
        """Keep it from being evaluated and listed."""
        self._state.execute("UPDATE alerts SET lifecycle = 'DELETED' WHERE id = ?", [alert_id])

    def purge(self, alert_id: str) -> None:
        """Forget it."""
        self._state.execute("DELETE FROM alerts WHERE id = ?", [alert_id])

    def evaluated(self, alert_id: str, state: str, value: Any, message: str, notified: list[str]) -> None:
        """Record an evaluation: the new state, the value it comes from, and who would have been told."""
        now = time.time()
        with self._state.transaction():
            self._state.execute(
                "UPDATE alerts SET state = ?, evaluated_at = ?, notified_at = coalesce(?, notified_at) WHERE id = ?",
                [state, now, now if notified else None, alert_id],
            )
            self._state.execute(
                "INSERT INTO alert_evaluations SELECT id, ?, ?, ?, ?, ? FROM alerts WHERE id = ?",
                [now, state, json.dumps(value), message, json.dumps(notified), alert_id],
            )
            self._state.execute(
                "DELETE FROM alert_evaluations WHERE alert_id = ? AND at < "
                "(SELECT min(at) FROM (SELECT at FROM alert_evaluations WHERE alert_id = ? ORDER BY at DESC LIMIT ?))",
                [alert_id, alert_id, KEPT],
            )

    def evaluations(self, alert_id: str) -> list[dict[str, Any]]:
        """What an alert evaluated to, the newest first."""
        rows = self._state.rows("SELECT * FROM alert_evaluations WHERE alert_id = ? ORDER BY at DESC", [alert_id])
        return [row | {"value": json.loads(row["value"]), "notified": json.loads(row["notified"])} for row in rows]

"""Clusters as records with a life: what was asked for, the state, and every event."""

import json
import secrets
import string
import time
from datetime import UTC, datetime
from typing import Any

from local_workspace.compute.machine import cores, memory_mb
from local_workspace.errors import BadRequest
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS clusters (
    cluster_id TEXT PRIMARY KEY, spec TEXT NOT NULL, creator TEXT NOT NULL, state TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '', pinned INTEGER NOT NULL DEFAULT 0, started_at INTEGER, ended_at INTEGER,
    restarted_at INTEGER, reason TEXT);
CREATE TABLE IF NOT EXISTS cluster_events (
    event_id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, type TEXT NOT NULL, details TEXT NOT NULL,
    cluster_id TEXT NOT NULL REFERENCES clusters (cluster_id) ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS cluster_events_of ON cluster_events (cluster_id, event_id);
"""
STATES = ("RUNNING", "TERMINATING", "TERMINATED")
MAX_PINNED = 100
USER_REQUEST = {"code": "USER_REQUEST", "type": "SUCCESS"}
INACTIVITY = {"code": "INACTIVITY", "type": "SUCCESS"}


class InvalidState(BadRequest):
    """The cluster is in a state that does not allow this; the SDK tries again."""

    error_code = "INVALID_STATE"


class Clusters:
    """All clusters of the workspace."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)
        # A kill came between the two halves of a termination.
        state.execute("UPDATE clusters SET state = 'TERMINATED' WHERE state = 'TERMINATING'")

    def create(self, spec: dict[str, Any], creator: str) -> str:
        """A new cluster, running."""
        tail = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
        cluster_id = f"{datetime.now(UTC):%m%d-%H%M%S}-{tail}"
        with self._state.transaction():
            self._state.execute(
                "INSERT INTO clusters (cluster_id, spec, creator, state, started_at) VALUES (?, ?, ?, 'RUNNING', ?)",
                [cluster_id, json.dumps(spec), creator, now()],
            )
            self.event(cluster_id, "CREATING", user=creator, cluster_size=size(spec))
            self.event(cluster_id, "RUNNING", current_num_workers=workers(spec))
        return cluster_id

    def get(self, cluster_id: Any) -> dict[str, Any]:
        """A cluster's record, its `spec` parsed. Raises BadRequest in the real service's words."""
        row = self._state.row("SELECT * FROM clusters WHERE cluster_id = ?", [str(cluster_id)])
        if row is None:
            raise BadRequest(f"Cluster {cluster_id!s:.100} does not exist")
        return _parsed(row)

    def all(self) -> list[dict[str, Any]]:
        """Every cluster, by state, pinned ones first, by name."""
        found = [_parsed(row) for row in self._state.rows("SELECT * FROM clusters")]
        return sorted(found, key=lambda c: (STATES.index(c["state"]), -c["pinned"], c["spec"]["cluster_name"]))

    def change(self, cluster_id: str, **facts: Any) -> None:
        """Write columns of a cluster."""
        names = ", ".join(f"{name} = :{name}" for name in facts)
        values = {name: json.dumps(v) if isinstance(v, dict) else v for name, v in facts.items()}
        self._state.execute(
            f"UPDATE clusters SET {names} WHERE cluster_id = :cluster_id",
            values | {"cluster_id": cluster_id},
        )

    def run(self, cluster_id: str, event: str, user: str, **facts: Any) -> None:
        """Let a cluster run, by `event` STARTING or RESTARTING."""
        with self._state.transaction():
            self.event(cluster_id, event, user=user)
            self.change(cluster_id, state="RUNNING", message="", started_at=now(), ended_at=None, reason=None, **facts)
            self.event(cluster_id, "RUNNING", current_num_workers=workers(self.get(cluster_id)["spec"]))

    def pin(self, cluster_id: str, pinned: bool, user: str) -> None:
        """Pin a cluster or not. Raises BadRequest when too many are."""
        if bool(self.get(cluster_id)["pinned"]) == pinned:
            return
        with self._state.transaction():
            if pinned and sum(cluster["pinned"] for cluster in self.all()) >= MAX_PINNED:
                raise BadRequest(f"at most {MAX_PINNED} clusters can be pinned", error_code="QUOTA_EXCEEDED")
            self.change(cluster_id, pinned=int(pinned))
            self.event(cluster_id, "PINNED" if pinned else "UNPINNED", user=user)

    def forget(self, cluster_id: str) -> None:
        """Delete the record and its events."""
        self._state.execute("DELETE FROM clusters WHERE cluster_id = ?", [cluster_id])

    def event(self, cluster_id: str, kind: str, **details: Any) -> None:
        """Record what has happened to a cluster."""
        self._state.execute(
            "INSERT INTO cluster_events (at, type, details, cluster_id) VALUES (?, ?, ?, ?)",
            [now(), kind, json.dumps(details), cluster_id],
        )

    def events(self, cluster_id: str) -> list[dict[str, Any]]:
        """A cluster's events, oldest first, as the SDK's `ClusterEvent`. Raises BadRequest."""
        self.get(cluster_id)
        rows = self._state.rows("SELECT * FROM cluster_events WHERE cluster_id = ? ORDER BY event_id", [cluster_id])
        return [
            {
                "cluster_id": cluster_id,
                "timestamp": row["at"],
                "type": row["type"],
                "details": json.loads(row["details"]),
            }
            for row in rows
        ]


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def workers(spec: dict[str, Any]) -> int:
    """How many workers a specification asks for at least."""
    return spec["autoscale"]["min_workers"] if "autoscale" in spec else spec["num_workers"]


def size(spec: dict[str, Any]) -> dict[str, Any]:
    """The SDK's `ClusterSize` of a specification."""
    return {name: spec[name] for name in ("num_workers", "autoscale") if name in spec}


def described(cluster: dict[str, Any]) -> dict[str, Any]:
    """A cluster as the SDK's `ClusterDetails`."""
    spec = cluster["spec"]
    shown = spec | {
        "cluster_id": cluster["cluster_id"],
        "creator_user_name": cluster["creator"],
        "cluster_source": "API",
        "state": cluster["state"],
        "state_message": cluster["message"],
        "start_time": cluster["started_at"],
        "cluster_cores": float(cores()),
        "cluster_memory_mb": memory_mb(),
        "default_tags": {
            "Vendor": "Databricks",
            "Creator": cluster["creator"],
            "ClusterName": spec["cluster_name"],
            "ClusterId": cluster["cluster_id"],
        },
        "spec": spec,
    }
    if cluster["ended_at"] is not None:
        shown |= {"terminated_time": cluster["ended_at"], "termination_reason": json.loads(cluster["reason"])}
    return shown | ({"last_restarted_time": cluster["restarted_at"]} if cluster["restarted_at"] else {})


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"spec": json.loads(row["spec"])}

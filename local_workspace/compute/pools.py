"""Instance pools as records: there are no instances to keep idle."""

import json
import secrets
import time
from typing import Any

from local_workspace.errors import BadRequest, NotFound, NotImplementedHere
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS instance_pools (
    pool_id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, facts TEXT NOT NULL, created_at INTEGER NOT NULL);
"""
KEPT = {
    "aws_attributes": dict,
    "azure_attributes": dict,
    "custom_tags": dict,
    "disk_spec": dict,
    "enable_elastic_disk": bool,
    "gcp_attributes": dict,
    "idle_instance_autotermination_minutes": int,
    "instance_pool_name": str,
    "max_capacity": int,
    "min_idle_instances": int,
    "node_type_id": str,
    "preloaded_spark_versions": list,
}


class InstancePools:
    """All instance pools of the workspace."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def create(self, body: dict[str, Any]) -> str:
        """A new pool's id. Raises BadRequest."""
        pool_id, facts = f"pool-{secrets.token_hex(8)}", _checked(body)
        for name in ("instance_pool_name", "node_type_id"):
            if not facts.get(name):
                raise BadRequest(f"{name} is required")
        insert = "INSERT OR IGNORE INTO instance_pools VALUES (?, ?, ?, ?)"
        name = facts["instance_pool_name"]
        if not self._state.execute(insert, [pool_id, name, json.dumps(facts), time.time_ns() // 10**6]):
            raise BadRequest(f"an instance pool named {name!r} exists already")
        return pool_id

    def all(self) -> list[dict[str, Any]]:
        """Every pool, by name."""
        return [_shown(row) for row in self._state.rows("SELECT * FROM instance_pools ORDER BY name")]

    def get(self, pool_id: Any) -> dict[str, Any]:
        """A pool as the SDK's `InstancePoolAndStats`. Raises NotFound."""
        row = self._state.row("SELECT * FROM instance_pools WHERE pool_id = ?", [str(pool_id)])
        if row is None:
            raise NotFound(f"Can't find an instance pool with id: {pool_id!s:.100}")
        return _shown(row)

    def edit(self, pool_id: Any, body: dict[str, Any]) -> None:
        """Change a pool. Raises NotFound, BadRequest."""
        row = self.get(pool_id)
        facts = {name: row[name] for name in KEPT if name in row} | _checked(body)
        update = "UPDATE OR IGNORE instance_pools SET name = ?, facts = ? WHERE pool_id = ?"
        if not self._state.execute(update, [facts["instance_pool_name"], json.dumps(facts), pool_id]):
            raise BadRequest(f"an instance pool named {facts['instance_pool_name']!r} exists already")

    def delete(self, pool_id: Any) -> None:
        """Forget a pool. Raises NotFound."""
        self.get(pool_id)
        self._state.execute("DELETE FROM instance_pools WHERE pool_id = ?", [pool_id])


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if name != "instance_pool_id" and value is not None}
    for name, value in given.items():
        if name not in KEPT:
            raise NotImplementedHere(f"local_workspace does not have the instance pool option {name}")
        if not isinstance(value, KEPT[name]):
            raise BadRequest(f"{name} must be of type {KEPT[name].__name__}; got {value!r:.100}")
    return given


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    idle = {"used_count": 0, "idle_count": 0, "pending_used_count": 0, "pending_idle_count": 0}
    return json.loads(row["facts"]) | {"instance_pool_id": row["pool_id"], "state": "ACTIVE", "stats": idle}

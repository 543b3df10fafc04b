"""Access control lists. They are kept and shown; nothing enforces them: a local workspace has one developer."""

from dataclasses import dataclass
from typing import Any

from local_workspace.errors import BadRequest
from local_workspace.permissions.levels import LEVELS, MANAGE, OWNER, checked
from local_workspace.permissions.objects import Owned
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS object_permissions (
    object_type TEXT NOT NULL, object_key TEXT NOT NULL, kind TEXT NOT NULL, principal TEXT NOT NULL,
    level TEXT NOT NULL, PRIMARY KEY (object_type, object_key, kind, principal));
"""
KINDS = ("user_name", "group_name", "service_principal_name")


@dataclass(frozen=True)
class Grant:
    """One principal's level."""

    kind: str
    """`user_name`, `group_name` or `service_principal_name`."""
    principal: str
    level: str


def grants(object_type: str, entries: Any) -> list[Grant]:
    """The grants in a request. Raises BadRequest."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadRequest("access_control_list must be a list of objects")
    found = []
    for entry in entries:
        named = [(kind, entry[kind]) for kind in KINDS if entry.get(kind) is not None]
        if len(named) != 1 or not isinstance(named[0][1], str) or not named[0][1]:
            raise BadRequest(f"an entry of access_control_list needs exactly one of {', '.join(KINDS)}")
        found.append(Grant(*named[0], checked(object_type, entry.get("permission_level"))))
    owners = [grant for grant in found if grant.level == OWNER]
    if len(owners) > 1 or any(grant.kind == "group_name" for grant in owners):
        raise BadRequest(f"{object_type} can have one owner, a user or a service principal")
    return found


class Permissions:
    """The lists of all objects, by type and key."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def change(self, object_type: str, found: Owned, given: list[Grant], *, replace: bool) -> None:
        """Give principals their levels; `replace` takes away all that is not among them."""
        place = [object_type, found.key]
        with self._state.transaction():
            if replace:
                self._state.execute(
                    "DELETE FROM object_permissions WHERE object_type = ? AND object_key = ? AND level != ?",
                    [*place, OWNER],
                )
            for grant in given:
                if grant.level == OWNER:
                    self._state.execute(
                        "DELETE FROM object_permissions WHERE object_type = ? AND object_key = ? AND level = ?",
                        [*place, OWNER],
                    )
                self._state.execute(
                    "INSERT OR REPLACE INTO object_permissions VALUES (?, ?, ?, ?, ?)",
                    [*place, grant.kind, grant.principal, grant.level],
                )

    def all(self, object_type: str, found: Owned) -> list[Grant]:
        """The direct grants on an object, its owner's first."""
        rows = self._state.rows(
            "SELECT kind, principal, level FROM object_permissions WHERE object_type = ? AND object_key = ?"
            " ORDER BY principal",
            [object_type, found.key],
        )
        kept = [Grant(**row) for row in rows]
        top = OWNER if OWNER in LEVELS[object_type] else MANAGE
        owners = [grant for grant in kept if grant.level == OWNER]
        if not owners:
            kind = "user_name" if "@" in found.owner else "service_principal_name"
            owners = [Grant(kind, found.owner, top)]
        return owners + [g for g in kept if (g.kind, g.principal) != (owners[0].kind, owners[0].principal)]

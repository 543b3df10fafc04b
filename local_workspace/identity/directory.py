"""Users, service principals and groups as SCIM resources."""

import json
import zlib
from typing import Any

from local_workspace.auth import Auth
from local_workspace.identity.filters import ScimError
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS scim_groups (
    group_id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE COLLATE NOCASE, members TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scim_facts (principal TEXT PRIMARY KEY, facts TEXT NOT NULL);
"""
SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
KINDS = {"Users": "user", "ServicePrincipals": "service_principal"}
BUILT_IN = ("admins", "users")
KEPT = ("active", "displayName", "emails", "entitlements", "externalId", "name", "roles")


def id_of(name: str) -> str:
    """The numeric id of a principal."""
    return str(zlib.crc32(name.encode()))


class Directory:
    """Who there is. `kind` is a SCIM resource type: `Users`, `ServicePrincipals` or `Groups`."""

    def __init__(self, state: State, auth: Auth):
        self._state = state
        self._auth = auth
        state.create(DDL)
        for name, members in (("admins", [id_of(auth.OWNER)]), ("users", [])):
            state.execute(
                "INSERT OR IGNORE INTO scim_groups (name, members) VALUES (?, ?)", [name, json.dumps(members)]
            )

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every resource of a kind, by name."""
        groups = self._groups()
        if kind == "Groups":
            return [self._group(group) for group in groups]
        rows = self._state.rows(
            "SELECT p.*, f.facts FROM principals p LEFT JOIN scim_facts f ON f.principal = p.name"
            " WHERE p.kind = ? ORDER BY p.name",
            [KINDS[kind]],
        )
        return [_principal(row, groups) for row in rows]

    def get(self, kind: str, resource_id: str) -> dict[str, Any]:
        """One resource. Raises ScimError."""
        for resource in self.all(kind):
            if resource["id"] == resource_id:
                return resource
        raise ScimError(f"{kind[:-1]} with id {resource_id:.50} not found.", 404, None)

    def principal(self, name: str) -> dict[str, Any]:
        """The resource of a user name or application id; it has a `userName` in any case. Raises ScimError."""
        for kind in KINDS:
            for resource in self.all(kind):
                if name in (resource.get("userName"), resource.get("applicationId")):
                    return {"userName": name} | resource
        raise ScimError(f"principal {name:.100} not found.", 404, None)

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """A new resource. Raises ScimError."""
        facts = {name: body[name] for name in KEPT if body.get(name) is not None}
        name = body.get("userName" if kind == "Users" else "displayName")
        if not isinstance(name, str) or not name.strip() or len(name) > 255:
            raise ScimError(f"{'userName' if kind == 'Users' else 'displayName'} must be a text of 1 to 255 characters")
        with self._state.transaction():
            if kind == "Groups":
                name = self._create_group(name, _ids(body.get("members") or []))
                return next(group for group in self.all("Groups") if group["displayName"] == name)
            if kind == "ServicePrincipals":
                name, _ = self._auth.create_service_principal(name)
            elif not self._auth.create_user(name, str(facts.get("displayName") or name)):
                raise ScimError(f"User with username {name} already exists.", 409, "uniqueness")
            self._state.execute("INSERT OR REPLACE INTO scim_facts VALUES (?, ?)", [name, json.dumps(facts)])
        return self.get(kind, id_of(name))

    def delete(self, kind: str, resource_id: str) -> None:
        """Forget a resource and, for a principal, its tokens. Raises ScimError."""
        resource = self.get(kind, resource_id)
        name = resource.get("userName") or resource.get("applicationId")
        if name == self._auth.OWNER or (kind == "Groups" and resource["displayName"] in BUILT_IN):
            raise ScimError(
                f"{name or resource['displayName']} belongs to the workspace and cannot be deleted", 403, None
            )
        with self._state.transaction():
            for group in self._groups():
                if resource_id in group["members"]:
                    self._set_members(group, [m for m in group["members"] if m != resource_id])
            if kind == "Groups":
                self._state.execute("DELETE FROM scim_groups WHERE name = ?", [resource["displayName"]])
            else:
                self._auth.delete_principal(str(name))
                self._state.execute("DELETE FROM scim_facts WHERE principal = ?", [name])

    def patch_group(self, resource_id: str, operations: Any) -> None:
        """Add or remove members, or give a group another name. Raises ScimError."""
        shown = self.get("Groups", resource_id)
        if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
            raise ScimError("Operations must be a list of objects", scim_type="invalidSyntax")
        with self._state.transaction():
            for operation in operations:
                group = next(group for group in self._groups() if group["name"] == shown["displayName"])
                kind, value = str(operation.get("op")).lower(), operation.get("value")
                path = str(operation.get("path") or "")
                if path.startswith("members[value eq ") and kind == "remove":
                    gone = [path.removeprefix("members[value eq ").rstrip("]").strip('"')]
                    self._set_members(group, [m for m in group["members"] if m not in gone])
                    continue
                if not path and isinstance(value, dict) and "members" in value:
                    path, value = "members", value["members"]
                if path != "members" or kind not in ("add", "remove", "replace"):
                    raise ScimError(f"local_workspace patches members only, not {path or value!r:.100}", 501, None)
                self._set_members(group, _changed(group["members"], kind, _ids(value or [])))

    def _create_group(self, name: str, members: list[str]) -> str:
        insert = "INSERT OR IGNORE INTO scim_groups (name, members) VALUES (?, ?)"
        if not self._state.execute(insert, [name, json.dumps(members)]):
            raise ScimError(f"Group with name {name} already exists.", 409, "uniqueness")
        return name

    def _set_members(self, group: dict[str, Any], members: list[str]) -> None:
        update = "UPDATE scim_groups SET members = ? WHERE group_id = ?"
        self._state.execute(update, [json.dumps(members), group["group_id"]])

    def _groups(self) -> list[dict[str, Any]]:
        """The groups with the ids of their members; everybody is in `users`."""
        rows = self._state.rows("SELECT * FROM scim_groups ORDER BY name")
        everybody = [id_of(row["name"]) for row in self._state.rows("SELECT name FROM principals ORDER BY name")]
        return [row | {"members": everybody if row["name"] == "users" else json.loads(row["members"])} for row in rows]

    def _group(self, group: dict[str, Any]) -> dict[str, Any]:
        names = {
            id_of(row["name"]): row["display_name"]
            for row in self._state.rows("SELECT name, display_name FROM principals")
        }
        return {
            "id": str(group["group_id"]),
            "displayName": group["name"],
            "members": [{"value": m, "display": names.get(m, m)} for m in group["members"]],
            "meta": {"resourceType": "WorkspaceGroup"},
            "schemas": [f"{SCHEMA}Group"],
        }


def _principal(row: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    resource_id, name = id_of(row["name"]), row["name"]
    within = [group for group in groups if resource_id in group["members"]]
    shown: dict[str, Any] = {
        "id": resource_id,
        "displayName": row["display_name"],
        "active": True,
        "groups": [{"value": str(g["group_id"]), "display": g["name"], "type": "direct"} for g in within],
        "entitlements": [{"value": value} for value in ("workspace-access", "databricks-sql-access")],
        "schemas": [f"{SCHEMA}{'User' if row['kind'] == 'user' else 'ServicePrincipal'}"],
    }
    if row["kind"] == "service_principal":
        return shown | {"applicationId": name} | json.loads(row["facts"] or "{}")
    given, _, family = row["display_name"].partition(" ")
    person = {
        "userName": name,
        "emails": [{"value": name, "type": "work", "primary": True}],
        "name": {"givenName": given, "familyName": family},
    }
    return shown | person | json.loads(row["facts"] or "{}")


def _ids(members: Any) -> list[str]:
    if not isinstance(members, list) or not all(
        isinstance(m, dict) and isinstance(m.get("value"), str) for m in members
    ):
        raise ScimError(
            "members must be a list of objects with the id of a principal as value", scim_type="invalidValue"
        )
    return [member["value"] for member in members]


def _changed(members: list[str], kind: str, given: list[str]) -> list[str]:
    if kind == "replace":
        return given
    if kind == "remove":
        return [member for member in members if member not in given]
    return [*members, *(member for member in given if member not in members)]

"""The Permissions API."""

from typing import Any

from fastapi import APIRouter

from local_workspace.context import LocalWorkspace
from local_workspace.parity import differs
from local_workspace.permissions.levels import DESCRIPTIONS, LEVELS, MANAGE
from local_workspace.permissions.objects import Objects
from local_workspace.permissions.store import Grant, Permissions, grants

PREFIX = "/api/2.0/permissions"
SHOWN_TYPES = {"directories": "directory", "queries": "query", "authorization": "tokens"}


def router(ws: LocalWorkspace) -> APIRouter:
    """The Permissions API."""
    api = APIRouter()
    store, objects = Permissions(ws.state), Objects(ws)

    async def shown(object_type: str, object_id: str) -> dict[str, Any]:
        found = await objects.find(object_type, object_id)
        root = f"/{object_type}/"
        entries = [_entry(grant, None) for grant in store.all(object_type, found)]
        return {
            "object_id": root + object_id,
            "object_type": SHOWN_TYPES.get(object_type, object_type.removesuffix("s")),
            "access_control_list": [*entries, _entry(Grant("group_name", "admins", MANAGE), root)],
        }

    async def change(object_type: str, object_id: str, body: dict[str, Any], replace: bool) -> dict[str, Any]:
        found = await objects.find(object_type, object_id)
        given = grants(object_type, body.get("access_control_list") or [])
        store.change(object_type, found, given, replace=replace)
        return await shown(object_type, object_id)

    def serve(object_type: str) -> None:
        """The operations on one type of object; other types have no route, so that they are refused by name."""
        path = f"{PREFIX}/{object_type}/{{object_id}}"

        @api.get(f"{path}/permissionLevels")
        def get_levels(object_id: str) -> dict[str, Any]:
            known = [{"permission_level": name, "description": DESCRIPTIONS[name]} for name in LEVELS[object_type]]
            return {"permission_levels": known}

        @api.get(path)
        @differs("kept and shown, not enforced; nothing is inherited from directories, and principals need not exist")
        async def get(object_id: str) -> dict[str, Any]:
            return await shown(object_type, object_id)

        @api.put(path)
        @differs("kept and shown, not enforced")
        async def replace(object_id: str, body: dict[str, Any]) -> dict[str, Any]:
            return await change(object_type, object_id, body, True)

        @api.patch(path)
        @differs("kept and shown, not enforced")
        async def update(object_id: str, body: dict[str, Any]) -> dict[str, Any]:
            return await change(object_type, object_id, body, False)

    for object_type in LEVELS:
        serve(object_type)
    return api


def _entry(grant: Grant, inherited_from: str | None) -> dict[str, Any]:
    permission: dict[str, Any] = {"permission_level": grant.level, "inherited": inherited_from is not None}
    if inherited_from:
        permission["inherited_from_object"] = [inherited_from]
    return {grant.kind: grant.principal, "display_name": grant.principal, "all_permissions": [permission]}

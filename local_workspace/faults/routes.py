"""The admin calls for faults on purpose; they take the admin token of `identity.json`, not the workspace's."""

import hmac
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request

from local_workspace.context import LocalWorkspace
from local_workspace.errors import Forbidden, NotFound
from local_workspace.faults.middleware import ADMIN_PATH
from local_workspace.faults.rules import Rule


def router(ws: LocalWorkspace) -> APIRouter:
    """Add, list and remove fault rules."""
    faults = ws.faults

    def admin(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {ws.admin_token}".encode()):
            ws.auth.principal(given)
            raise Forbidden("Faults need the admin token, which is in identity.json in the workspace's root folder.")

    api = APIRouter(prefix=ADMIN_PATH, dependencies=[Depends(admin)], include_in_schema=False)

    @api.post("")
    async def add(rule: Rule) -> dict[str, Any]:
        return faults.add(rule).shown()

    @api.get("")
    async def rules() -> dict[str, Any]:
        return {"rules": [active.shown() for active in faults.rules.values()]}

    @api.delete("")
    async def clear() -> dict[str, Any]:
        faults.rules.clear()
        return {}

    @api.delete("/{rule_id}")
    async def remove(rule_id: str) -> dict[str, Any]:
        if faults.rules.pop(rule_id, None) is None:
            raise NotFound(f"There is no fault rule {rule_id}.")
        return {}

    @api.post("/connections/{address}")
    async def cut(address: Literal["spark", "zerobus"]) -> dict[str, Any]:
        """Cut the connections of an address that has no requests to match, once."""
        return {"cut": (ws.spark if address == "spark" else ws.zerobus).cut()}

    return api

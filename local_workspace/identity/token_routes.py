"""Personal access tokens: one's own, and everybody's for administrators."""

from typing import Any

from fastapi import APIRouter, Request

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.identity.directory import id_of

MANAGEMENT = "/api/2.0/token-management"


def router(ws: LocalWorkspace) -> APIRouter:
    """The Token and Token Management APIs."""
    api = APIRouter()
    tokens = ws.personal_tokens

    def info(row: dict[str, Any]) -> dict[str, Any]:
        names = {
            "token_id": "token_id",
            "comment": "comment",
            "created_at": "creation_time",
            "expires_at": "expiry_time",
        }
        return {shown: row[name] for name, shown in names.items()}

    def managed(row: dict[str, Any]) -> dict[str, Any]:
        who = {"created_by_username": row["creator"], "created_by_id": int(id_of(row["creator"]))}
        return info(row) | who | {"owner_id": int(id_of(row["principal"])), "workspace_id": int(ws.workspace_id)}

    def create(principal: str, creator: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if body.get("scopes"):
            raise NotImplementedHere("local_workspace does not have scopes of tokens")
        return tokens.create(principal, creator, body.get("lifetime_seconds"), body.get("comment") or "")

    @api.post("/api/2.0/token/create")
    def create_own(body: dict[str, Any], request: Request) -> dict[str, Any]:
        name = request.state.principal.name
        token, row = create(name, name, body)
        return {"token_value": token, "token_info": info(row)}

    @api.get("/api/2.0/token/list")
    def list_own(request: Request) -> dict[str, Any]:
        return {"token_infos": [info(row) for row in tokens.all(request.state.principal.name)]}

    @api.post("/api/2.0/token/delete")
    def delete_own(body: dict[str, Any], request: Request) -> dict[str, Any]:
        tokens.delete(body.get("token_id"), request.state.principal.name)
        return {}

    @api.post(f"{MANAGEMENT}/on-behalf-of/tokens")
    def create_for(body: dict[str, Any], request: Request) -> dict[str, Any]:
        known = [resource["applicationId"] for resource in ws.directory.all("ServicePrincipals")]
        if body.get("application_id") not in known:
            raise BadRequest("application_id must be the one of a service principal of this workspace")
        token, row = create(body["application_id"], request.state.principal.name, body)
        return {"token_value": token, "token_info": managed(row)}

    @api.get(f"{MANAGEMENT}/tokens")
    def list_all(created_by_id: int | None = None, created_by_username: str = "") -> dict[str, Any]:
        infos = [managed(row) for row in tokens.all()]
        if created_by_id is not None:
            infos = [token for token in infos if token["created_by_id"] == created_by_id]
        if created_by_username:
            infos = [token for token in infos if token["created_by_username"] == created_by_username]
        return {"token_infos": infos}

    @api.get(f"{MANAGEMENT}/tokens/{{token_id}}")
    def get(token_id: str) -> dict[str, Any]:
        return {"token_info": managed(tokens.get(token_id))}

    @api.delete(f"{MANAGEMENT}/tokens/{{token_id}}")
    def delete(token_id: str) -> dict[str, Any]:
        tokens.delete(token_id)
        return {}

    return api

"""OAuth for service principals (OIDC discovery, client credentials); below it SCIM and personal access tokens."""

import base64
import uuid
from urllib.parse import parse_qs

from fastapi import APIRouter, Request

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.identity import scim_routes, token_routes


def router(ws: LocalWorkspace) -> APIRouter:
    """The identity API."""
    api = APIRouter()

    @api.get("/health")
    async def health() -> dict:
        return {"status": "ok"}

    @api.get("/.well-known/databricks-config")
    async def databricks_config() -> dict:
        return {
            "oidc_endpoint": f"{ws.host}/oidc",
            "host_type": "workspace",
            "workspace_id": ws.workspace_id,
            "account_id": str(uuid.uuid5(uuid.NAMESPACE_OID, ws.workspace_id)),
        }

    @api.get("/oidc/.well-known/oauth-authorization-server")
    async def authorization_server() -> dict:
        return {
            "issuer": f"{ws.host}/oidc",
            "authorization_endpoint": f"{ws.host}/oidc/v1/authorize",
            "token_endpoint": f"{ws.host}/oidc/v1/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    @api.post("/oidc/v1/token")
    async def token(request: Request) -> dict:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            raise BadRequest("grant_type must be client_credentials", error_code="unsupported_grant_type")
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        access_token, seconds = ws.auth.issue(client_id, secret)
        return {"access_token": access_token, "token_type": "Bearer", "expires_in": seconds}

    api.include_router(scim_routes.router(ws))
    api.include_router(token_routes.router(ws))
    return api

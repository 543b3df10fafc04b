"""The Secrets API. Scopes are Databricks-backed; the whole workspace belongs to one user, so there are no ACLs."""

import base64
import binascii
from typing import Any

from fastapi import APIRouter

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere


def router(ws: LocalWorkspace) -> APIRouter:
    """The Secrets API."""
    api = APIRouter(prefix="/api/2.0/secrets")
    secrets = ws.secrets

    @api.post("/scopes/create")
    def create_scope(body: dict[str, Any]) -> dict[str, Any]:
        if body.get("scope_backend_type") not in (None, "DATABRICKS"):
            raise NotImplementedHere("local_workspace has DATABRICKS-backed secret scopes only")
        if body.get("initial_manage_principal") not in (None, "users"):
            raise BadRequest("initial_manage_principal must be `users`")
        secrets.create_scope(_text(body, "scope"))
        return {}

    @api.get("/scopes/list")
    def list_scopes() -> dict[str, Any]:
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in secrets.scopes()]}

    @api.post("/scopes/delete")
    def delete_scope(body: dict[str, Any]) -> dict[str, Any]:
        secrets.delete_scope(_text(body, "scope"))
        return {}

    @api.post("/put")
    def put(body: dict[str, Any]) -> dict[str, Any]:
        secrets.put(_text(body, "scope"), _text(body, "key"), _value(body))
        return {}

    @api.get("/get")
    def get(scope: str, key: str) -> dict[str, Any]:
        return {"key": key, "value": base64.b64encode(secrets.value(scope, key)).decode()}

    @api.get("/list")
    def list_(scope: str) -> dict[str, Any]:
        keys = secrets.keys(scope)
        return {"secrets": [{"key": k["key"], "last_updated_timestamp": k["updated_at"]} for k in keys]}

    @api.post("/delete")
    def delete(body: dict[str, Any]) -> dict[str, Any]:
        secrets.delete(_text(body, "scope"), _text(body, "key"))
        return {}

    return api


def _text(body: dict[str, Any], name: str) -> str:
    if not isinstance(body.get(name), str):
        raise BadRequest(f"{name} must be a string")
    return body[name]


def _value(body: dict[str, Any]) -> bytes:
    if ("string_value" in body) == ("bytes_value" in body):
        raise BadRequest("exactly one of string_value and bytes_value is needed")
    if "string_value" in body:
        return _text(body, "string_value").encode()
    try:
        return base64.b64decode(_text(body, "bytes_value"), validate=True)
    except binascii.Error:
        raise BadRequest("bytes_value must be base64") from None

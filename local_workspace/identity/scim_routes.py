"""SCIM: users, groups and service principals of the workspace; and the secrets of service principals."""

from typing import Any

from fastapi import APIRouter, Query, Request, Response

from local_workspace.context import LocalWorkspace
from local_workspace.identity.directory import KINDS
from local_workspace.identity.filters import ScimError, matcher
from local_workspace.parity import differs

PREFIX = "/api/2.0/preview/scim/v2"
SECRETS = "/api/2.0/accounts/servicePrincipals/{service_principal_id}/credentials/secrets"
NOT_ENFORCED = "principals are kept and shown; what they may do is not enforced"


def router(ws: LocalWorkspace) -> APIRouter:
    """The SCIM API of a workspace."""
    api = APIRouter()
    directory = ws.directory

    @api.get(f"{PREFIX}/Me")
    def me(request: Request) -> dict[str, Any]:
        return directory.principal(request.state.principal.name)

    def add(kind: str) -> None:
        @api.get(f"{PREFIX}/{kind}")
        def list_(
            request: Request, startIndex: int = Query(1, ge=1), count: int | None = Query(None, ge=0), filter: str = ""
        ) -> dict[str, Any]:
            found = directory.all(kind)
            if filter:
                found = [resource for resource in found if matcher(filter)(resource)]
            if order := request.query_params.get("sortBy"):
                descending = request.query_params.get("sortOrder") == "descending"
                found.sort(key=lambda resource: str(resource.get(order, "")), reverse=descending)
            last = len(found) if count is None else startIndex - 1 + count
            page = [_shown(resource, request) for resource in found[startIndex - 1 : last]]
            return {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
                "totalResults": len(found),
                "startIndex": startIndex,
                "itemsPerPage": len(page),
                "Resources": page,
            }

        @api.post(f"{PREFIX}/{kind}", status_code=201)
        @differs(NOT_ENFORCED)
        def create(body: dict[str, Any]) -> dict[str, Any]:
            return directory.create(kind, body)

        @api.get(f"{PREFIX}/{kind}/{{resource_id}}")
        def get(resource_id: str, request: Request) -> dict[str, Any]:
            return _shown(directory.get(kind, resource_id), request)

        @api.delete(f"{PREFIX}/{kind}/{{resource_id}}", status_code=204)
        def delete(resource_id: str) -> None:
            directory.delete(kind, resource_id)

    for kind in (*KINDS, "Groups"):
        add(kind)

    @api.patch(f"{PREFIX}/Groups/{{resource_id}}", status_code=204)
    @differs("members can be added, removed and replaced, nothing else")
    def patch_group(resource_id: str, body: dict[str, Any]) -> Response:
        directory.patch_group(resource_id, body.get("Operations"))
        return Response(status_code=204)

    @api.post(SECRETS)
    @differs("a service principal has one secret: a new one takes the place of the old one, and none expires")
    def create_secret(service_principal_id: str) -> dict[str, Any]:
        client_id = directory.get("ServicePrincipals", service_principal_id)["applicationId"]
        secret = ws.auth.renew_secret(client_id)
        return {"id": client_id, "secret": secret, "status": "ACTIVE"}

    return api


def _shown(resource: dict[str, Any], request: Request) -> dict[str, Any]:
    """A resource with the attributes asked for. Raises ScimError."""
    wanted, unwanted = (request.query_params.get(name, "") for name in ("attributes", "excludedAttributes"))
    if wanted and unwanted:
        raise ScimError("only one of attributes and excludedAttributes can be given")
    if wanted:
        names = {"id", "schemas", *(name.strip().partition(".")[0] for name in wanted.split(","))}
        return {name: value for name, value in resource.items() if name in names}
    hidden = {name.strip() for name in unwanted.split(",")}
    return {name: value for name, value in resource.items() if name not in hidden}

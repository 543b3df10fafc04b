"""Operations of model serving that the local workspace refuses, with the reason and the cure."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from local_workspace.errors import NotImplementedHere
from local_workspace.parity import refuses

ENDPOINTS = "/api/2.0/serving-endpoints"
PROVISIONED = "provisioned throughput is bought from a cloud; create an endpoint of a model of system.ai or of your own"
REFUSED = (
    ("POST", f"{ENDPOINTS}/pt", PROVISIONED),
    ("PUT", f"{ENDPOINTS}/pt/{{name}}/config", PROVISIONED),
    (
        "PATCH",
        f"{ENDPOINTS}/{{name}}/telemetry-config",
        "telemetry of endpoints; inference tables and metrics work",
    ),
    ("POST", "/api/2.0/external-function", "HTTP requests through Unity Catalog connections; call the service itself"),
    ("GET", "/serving-endpoints/models", f"OpenAI's list of models, as on Databricks; GET {ENDPOINTS} lists endpoints"),
)


def router() -> APIRouter:
    """The routes that refuse."""
    api = APIRouter()
    for method, path, why in REFUSED:
        api.add_api_route(path, _refusal(method, path, why), methods=[method])
    return api


def _refusal(method: str, path: str, why: str) -> Callable[[], Awaitable[None]]:
    @refuses(why)
    async def refuse() -> None:
        raise NotImplementedHere(f"local_workspace does not have {method} {path}: {why}")

    return refuse

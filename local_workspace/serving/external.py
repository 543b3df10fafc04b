"""External models: OpenAI-compatible servers, and endpoints of this or another Databricks workspace."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from local_workspace.errors import Unavailable
from local_workspace.secrets.references import References
from local_workspace.serving.process import send
from local_workspace.serving.tasks import PATHS

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RemoteModel:
    """A model of another server. Without a name it is the first that the server lists."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str | None,
        task: str,
        url: str,
        headers: Callable[[], dict[str, str]] = dict,
    ):
        self.task: str | None = task
        self._client = client
        self._name = name
        self._url = url
        self._headers = headers
        self._where = f"the model server at {url}"

    async def prepare(self) -> None:
        """See that the key can be had; the server itself is asked by the first request."""
        self._headers()

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The server's answer. Raises Unavailable."""
        headers = self._headers()
        if self._name is None:
            self._name = await self._first_model(headers)
        return await send(self._client, self._url, body | {"model": self._name}, self._where, headers)

    async def _first_model(self, headers: dict[str, str]) -> str:
        models = self._url.removesuffix(PATHS[self.task or ""]) + "/models"
        try:
            answer = await self._client.get(models, headers=headers)
            return answer.raise_for_status().json()["data"][0]["id"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"{self._where} lists no models ({type(error).__name__})") from error


def remote_model(client: httpx.AsyncClient, spec: dict[str, Any], references: References) -> RemoteModel:
    """The model that a served entity's `external_model` describes. Raises BadRequest."""
    address, config = _address(spec), spec[_config(spec["provider"])]
    header, prefix = "Authorization", "Bearer "
    if spec["provider"] == "openai":
        key = references.key(config, "openai_api_key")
    elif spec["provider"] == "databricks-model-serving":
        key = references.key(config, "databricks_api_token")
    elif auth := config.get("api_key_auth"):
        header, prefix, key = auth["key"], "", references.key(auth, "value")
    else:
        key = references.key(config.get("bearer_token_auth", {}), "token")
    organization = config.get("openai_organization")

    def headers() -> dict[str, str]:
        value = key()
        sent = {header: prefix + value} if value else {}
        return sent | ({"OpenAI-Organization": organization} if organization else {})

    return RemoteModel(client, spec["name"], spec["task"], address, headers)


def endpoint_behind(spec: dict[str, Any], host: str) -> str | None:
    """The endpoint of the workspace at `host` that an external model leads to, if it does."""
    to, own = urlsplit(_address(spec)), urlsplit(host)
    if to.hostname not in LOOPBACK or to.port != own.port:
        return None
    return spec["name"] if to.path.startswith("/serving-endpoints/") else None


def _address(spec: dict[str, Any]) -> str:
    config, path = spec[_config(spec["provider"])], PATHS[spec["task"]]
    if spec["provider"] == "databricks-model-serving":
        return f"{config['databricks_workspace_url'].rstrip('/')}/serving-endpoints/{spec['name']}/invocations"
    if spec["provider"] == "openai":
        return (config.get("openai_api_base") or OPENAI).rstrip("/") + path
    return config["custom_provider_url"].rstrip("/").removesuffix(path) + path


def _config(provider: str) -> str:
    return {"custom": "custom_provider_config"}.get(provider, provider.replace("-", "_") + "_config")

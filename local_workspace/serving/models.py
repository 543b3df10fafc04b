"""What endpoints serve: models of this machine behind engines, and OpenAI-compatible servers elsewhere."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx

from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.errors import BadRequest, NotFound, Unavailable
from local_workspace.secrets.store import Secrets
from local_workspace.weights import Weights, WeightsError, choose

CHAT, EMBEDDINGS = "llm/v1/chat", "llm/v1/embeddings"
PATHS = {CHAT: "/chat/completions", EMBEDDINGS: "/embeddings"}
LOCAL_CHAT = "local_chat"
"""In `system.ai`: the chat model this workspace was started with."""
SYSTEM_SCHEMA = "system.ai."
SECRET = re.compile(r"\{\{secrets/([^/{}]+)/([^{}]+)\}\}")
START_SECONDS = 120.0


class ServedModel(Protocol):
    """A model that answers OpenAI requests of its task."""

    task: str

    async def prepare(self) -> None:
        """Return once the model can answer. Raises ApiError."""

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The answer, its content not read yet. Raises Unavailable."""


class LocalModel:
    """A model of this machine: its weights and the engine that runs them."""

    def __init__(self, name: str, task: str, engine: Engine, fetch: Callable[[], None]):
        self.task = task
        self.engine = engine
        self._name = name
        self._fetch = fetch
        self._fetching = asyncio.Lock()

    async def prepare(self) -> None:
        """Fetch the weights if they are missing and start the engine if it does not run."""
        if not self.engine.running:
            async with self._fetching:
                try:
                    await asyncio.to_thread(self._fetch)
                except WeightsError as error:
                    raise Unavailable(str(error)) from error
        await self.engine.client()

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The engine's answer; a dead engine is started first."""
        await self.prepare()
        client = await self.engine.client()
        request = client.build_request("POST", f"/v1{PATHS[self.task]}", json=body | {"model": self._name})
        return await _send(client, request, f"the model {self._name}")


class OpenAIModel:
    """A model of an OpenAI-compatible server. Without a name it is the first that the server lists."""

    def __init__(
        self, client: httpx.AsyncClient, name: str | None, task: str, base_url: str, key: Callable[[], str | None]
    ):
        self.task = task
        self._client = client
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._where = f"the model server at {self._base_url}"

    async def prepare(self) -> None:
        """See that the key can be had; the server itself is asked by the first request."""
        self._key()

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The server's answer."""
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if self._name is None:
            self._name = await self._first_model(headers)
        url = self._base_url + PATHS[self.task]
        request = self._client.build_request("POST", url, json=body | {"model": self._name}, headers=headers)
        return await _send(self._client, request, self._where)

    async def _first_model(self, headers: dict[str, str]) -> str:
        try:
            answer = await self._client.get(f"{self._base_url}/models", headers=headers)
            return answer.raise_for_status().json()["data"][0]["id"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"{self._where} lists no models ({type(error).__name__})") from error


async def _send(client: httpx.AsyncClient, request: httpx.Request, where: str) -> httpx.Response:
    try:
        return await client.send(request, stream=True)
    except httpx.TransportError as error:
        raise Unavailable(f"{where} did not answer ({type(error).__name__}); try again") from error


class Models:
    """The models an endpoint may serve, by the names a served entity gives them."""

    def __init__(self, config: Config, weights: Weights, secrets: Secrets):
        self._config = config
        self._weights = weights
        self._secrets = secrets
        self._local: dict[str, LocalModel] = {}
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(300, connect=5), follow_redirects=False)
        self._stopping = False
        self._aliases = {LOCAL_CHAT: LOCAL_CHAT}
        for alias, model in weights.manifest.items():
            self._aliases |= {_canonical(alias): alias, _canonical(model.name): alias, model.entity: alias}

    def entity(self, entity_name: str, version: str) -> ServedModel:
        """The model that Unity Catalog knows as `entity_name`. Raises NotFound."""
        alias = self._aliases.get(_canonical(entity_name.removeprefix(SYSTEM_SCHEMA)))
        if not entity_name.startswith(SYSTEM_SCHEMA) or alias is None:
            known = ", ".join(SYSTEM_SCHEMA + name for name in [LOCAL_CHAT, *self._entities()])
            raise NotFound(f"Registered model {entity_name!r} does not exist. This workspace serves {known}.")
        if version != "1":
            raise NotFound(f"Registered model {entity_name!r} has no version {version!r}; its only version is 1.")
        if alias != LOCAL_CHAT:
            return self._from_manifest(alias)
        chosen = choose(self._config.model, self._weights.manifest)
        if isinstance(chosen, Path):
            return self._from_file(chosen)
        if chosen in self._weights.manifest:
            return self._from_manifest(chosen)
        return OpenAIModel(self._client, None, CHAT, chosen, lambda: None)

    def external(self, spec: dict[str, Any]) -> ServedModel:
        """The external model of provider `openai` that `spec` describes. Raises BadRequest, NotFound for its secret."""
        config = spec["openai_config"]
        key, plaintext = config.get("openai_api_key"), config.get("openai_api_key_plaintext")
        reference = SECRET.fullmatch(key) if key else None
        if key and not reference:
            raise BadRequest("openai_config.openai_api_key must look like {{secrets/scope/key}}")

        def read_key() -> str | None:
            return self._secrets.value(*reference.groups()).decode().strip() if reference else plaintext

        base_url = config.get("openai_api_base") or "https://api.openai.com/v1"
        return OpenAIModel(self._client, spec["name"], spec["task"], base_url, read_key)

    async def stop(self) -> None:
        """Stop every engine and what is being fetched."""
        self._stopping = True
        await asyncio.gather(*(model.engine.stop() for model in self._local.values()))
        await self._client.aclose()

    def _entities(self) -> list[str]:
        return [model.entity for model in self._weights.manifest.values()]

    def _from_manifest(self, alias: str) -> LocalModel:
        if alias not in self._local:
            model = self._weights.manifest[alias]
            paths = [str(self._weights.folder / file.stored_as) for file in model.files]
            make = self._chat_engine if model.task == CHAT else self._embedding_engine
            engine = make(alias, [*paths, model.name])
            self._local[alias] = LocalModel(model.name, model.task, engine, lambda: self._fetch(alias))
        return self._local[alias]

    def _from_file(self, path: Path) -> LocalModel:
        if LOCAL_CHAT not in self._local:
            engine = self._chat_engine(LOCAL_CHAT, [str(path), path.stem])
            self._local[LOCAL_CHAT] = LocalModel(path.stem, CHAT, engine, lambda: None)
        return self._local[LOCAL_CHAT]

    def _fetch(self, alias: str) -> None:
        def stop_when_told(_done: int, _total: int) -> None:
            if self._stopping:
                raise WeightsError("the workspace is stopping")

        self._weights.fetch(alias, stop_when_told)

    def _chat_engine(self, name: str, arguments: list[str]) -> Engine:
        return self._engine(name, "local_workspace.serving.llm", arguments)

    def _embedding_engine(self, name: str, arguments: list[str]) -> Engine:
        return self._engine(name, "local_workspace.serving.embedder", arguments)

    def _engine(self, name: str, module: str, arguments: list[str]) -> Engine:
        return Engine(
            name,
            module,
            self._config.folder("logs") / f"serving-{name}.log",
            arguments=lambda: arguments,
            environment=lambda: {"OMP_WAIT_POLICY": "passive"},
            start_timeout=START_SECONDS,
        )


def _canonical(name: str) -> str:
    # Unity Catalog names hold no periods; people write dashes, periods and underscores for one another.
    return re.sub(r"[-_.]+", "_", name.lower())

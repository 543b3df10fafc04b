"""What endpoints serve: models of this machine, registered models, and servers elsewhere."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml

from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.errors import BadRequest, NotFound
from local_workspace.models.store import MLMODEL, READY, RegisteredModels
from local_workspace.secrets.references import References
from local_workspace.serving.external import RemoteModel, remote_model
from local_workspace.serving.process import CustomModel, LocalModel, ModelProcess
from local_workspace.serving.tasks import CHAT, EMBEDDINGS, PATHS
from local_workspace.weights import Weights, WeightsError, choose

__all__ = ["CHAT", "EMBEDDINGS", "Models", "ServedModel"]
LOCAL_CHAT = "local_chat"
"""In `system.ai`: the chat model this workspace was started with."""
SYSTEM_SCHEMA = "system.ai."
START_SECONDS = 120.0


class ServedModel(Protocol):
    """A model that answers requests of its task; one that has none takes what its signature says."""

    task: str | None

    async def prepare(self) -> None:
        """Return once the model can answer. Raises ApiError."""

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The answer, its content not read yet. Raises Unavailable."""


class Models:
    """The models an endpoint may serve, by what a served entity says of them."""

    def __init__(self, config: Config, weights: Weights, references: References, registry: RegisteredModels):
        self._config = config
        self._weights = weights
        self._references = references
        self._registry = registry
        self._processes: dict[str, ModelProcess] = {}
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(300, connect=5), follow_redirects=False)
        self._stopping = False
        self._aliases = {LOCAL_CHAT: LOCAL_CHAT}
        for alias, model in weights.manifest.items():
            self._aliases |= {_canonical(alias): alias, _canonical(model.name): alias, model.entity: alias}

    def of(self, endpoint: str, entity: dict[str, Any]) -> ServedModel:
        """What a served entity of an endpoint serves. Raises NotFound, BadRequest."""
        key = self.key(endpoint, entity)
        if key is None:
            return remote_model(self._client, entity["external_model"], self._references)
        if key.startswith(SYSTEM_SCHEMA):
            return self._system(entity, key)
        return self._custom(endpoint, entity, key)

    def task(self, endpoint: str, entity: dict[str, Any]) -> str | None:
        """What a served entity's model does, such as `llm/v1/chat`; None when its signature says it. Raises as `of`."""
        key = self.key(endpoint, entity)
        if key is None or key.startswith(SYSTEM_SCHEMA):
            return self.of(endpoint, entity).task
        return _task(self.signature(entity))

    def key(self, endpoint: str, entity: dict[str, Any]) -> str | None:
        """What the process behind a served entity is kept by: shared for `system.ai`, else of that entity alone."""
        if "external_model" in entity:
            return None
        if entity["entity_name"].startswith(SYSTEM_SCHEMA):
            chosen = str(self._chosen(entity))
            return SYSTEM_SCHEMA + (chosen if chosen in self._weights.manifest else LOCAL_CHAT)
        facts = [entity["entity_name"], entity["entity_version"], entity.get("environment_vars")]
        return f"{endpoint}/{entity['name']}/{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]}"

    def process(self, endpoint: str, entity: dict[str, Any]) -> ModelProcess | None:
        """The process behind a served entity, if it has one."""
        return self._processes.get(self.key(endpoint, entity) or "")

    def signature(self, entity: dict[str, Any]) -> dict[str, Any]:
        """What the registered model's file `MLmodel` says. Raises NotFound, BadRequest when it cannot be served."""
        name, version = entity["entity_name"], entity["entity_version"]
        try:
            found = self._registry.version(name, version)
        except NotFound as error:
            cure = f"Register it with MLflow (registry databricks-uc), or serve one of {', '.join(self._known())}."
            raise NotFound(f"{error.message} {cure}", error_code=error.error_code) from error
        if found.status != READY:
            raise BadRequest(f"{name} version {version} is {found.status}: it can be served when it is {READY}")
        try:
            described = yaml.safe_load((found.folder / MLMODEL).read_text())
            described["flavors"]["python_function"]
        except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
            raise BadRequest(
                f"{name} version {version} has no MLmodel file with the flavor python_function: it cannot be served"
            ) from error
        return described

    async def sweep(self, used: Callable[[], Container[str]], awake: Container[str], seconds: float) -> None:
        """Stop what no endpoint uses, and of the rest that which need not stay awake and was idle for so long."""
        for key, process in list(self._processes.items()):
            if key not in used():
                if await process.stop_if_idle() and key not in used():
                    self._processes.pop(key, None)
            elif key not in awake and process.engine.running:
                await process.stop_if_idle(seconds)

    async def stop(self) -> None:
        """Stop every engine and what is being fetched."""
        self._stopping = True
        await asyncio.gather(*(process.engine.stop() for process in self._processes.values()))
        await self._client.aclose()

    def log(self, endpoint: str, entity: dict[str, Any]) -> Path | None:
        """Where the process behind a served entity writes, if it has one."""
        key = self.key(endpoint, entity)
        if key is None or not key.startswith(SYSTEM_SCHEMA):
            return self._log(f"serving-{endpoint}-{entity['name']}") if key else None
        return self._log(f"serving-{key.removeprefix(SYSTEM_SCHEMA)}")

    def build_log(self, endpoint: str, entity: dict[str, Any]) -> Path | None:
        """Where the process of a custom model writes how it came up, if it is one."""
        key = self.key(endpoint, entity)
        custom = key is not None and not key.startswith(SYSTEM_SCHEMA)
        return self._log(f"serving-{endpoint}-{entity['name']}-build") if custom else None

    def _log(self, name: str) -> Path:
        return self._config.folder("logs") / f"{name}.log"

    def _custom(self, endpoint: str, entity: dict[str, Any], key: str) -> ServedModel:
        if key not in self._processes:
            described = self.signature(entity)
            folder = self._registry.version(entity["entity_name"], entity["entity_version"]).folder
            variables = entity.get("environment_vars") or {}
            engine = Engine(
                f"{endpoint}/{entity['name']}",
                "local_workspace.serving.pyfunc",
                self._log(f"serving-{endpoint}-{entity['name']}"),
                lambda: [str(folder), str(self.build_log(endpoint, entity))],
                lambda: {name: self._references.value(text) for name, text in variables.items()},
                start_timeout=START_SECONDS,
                own_session=True,
            )
            what = f"the model {entity['entity_name']} version {entity['entity_version']}"
            self._processes[key] = CustomModel(what, _task(described), engine)
        return self._processes[key]

    def _alias(self, entity: dict[str, Any]) -> str:
        name, version = entity["entity_name"], entity["entity_version"]
        alias = self._aliases.get(_canonical(name.removeprefix(SYSTEM_SCHEMA)))
        if alias is None:
            known = ", ".join(self._known())
            raise NotFound(f"Registered model {name!r} does not exist. In {SYSTEM_SCHEMA[:-1]} there are {known}.")
        if version != "1":
            raise NotFound(f"Registered model {name!r} has no version {version!r}; its only version is 1.")
        if entity.get("environment_vars"):
            raise BadRequest(f"environment_vars are for custom models; {name!r} reads none")
        return alias

    def _known(self) -> list[str]:
        return [SYSTEM_SCHEMA + name for name in (LOCAL_CHAT, *(m.entity for m in self._weights.manifest.values()))]

    def _chosen(self, entity: dict[str, Any]) -> str | Path:
        alias = self._alias(entity)
        return choose(self._config.model, self._weights.manifest) if alias == LOCAL_CHAT else alias

    def _system(self, entity: dict[str, Any], key: str) -> ServedModel:
        chosen = self._chosen(entity)
        if isinstance(chosen, str) and chosen not in self._weights.manifest:
            return RemoteModel(self._client, None, CHAT, chosen.rstrip("/") + PATHS[CHAT])
        if key not in self._processes:
            self._processes[key] = self._from_file(chosen) if isinstance(chosen, Path) else self._from_manifest(chosen)
        return self._processes[key]

    def _from_manifest(self, alias: str) -> LocalModel:
        model = self._weights.manifest[alias]
        paths = [str(self._weights.folder / file.stored_as) for file in model.files]
        module = "llm" if model.task == CHAT else "embedder"
        engine = self._engine(alias, module, [*paths, model.name])
        return LocalModel(model.name, model.task, engine, lambda: self._fetch(alias))

    def _from_file(self, path: Path) -> LocalModel:
        engine = self._engine(LOCAL_CHAT, "llm", [str(path), path.stem])
        return LocalModel(path.stem, CHAT, engine, lambda: None)

    def _fetch(self, alias: str) -> None:
        def stop_when_told(_done: int, _total: int) -> None:
            if self._stopping:
                raise WeightsError("the workspace is stopping")

        self._weights.fetch(alias, stop_when_told)

    def _engine(self, name: str, module: str, arguments: list[str]) -> Engine:
        return Engine(
            name,
            f"local_workspace.serving.{module}",
            self._log(f"serving-{name}"),
            arguments=lambda: arguments,
            environment=lambda: {"OMP_WAIT_POLICY": "passive"},
            start_timeout=START_SECONDS,
        )


def _task(described: dict[str, Any]) -> str | None:
    metadata = described.get("metadata")
    task = metadata.get("task") if isinstance(metadata, dict) else None
    return task if isinstance(task, str) else None


def _canonical(name: str) -> str:
    # Unity Catalog names hold no periods; people write dashes, periods and underscores for one another.
    return re.sub(r"[-_.]+", "_", name.lower())

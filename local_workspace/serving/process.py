"""Models of this machine: each behind an engine that runs while it is needed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from local_workspace.engine import Engine
from local_workspace.errors import BadRequest, NotImplementedHere, Unavailable
from local_workspace.serving.tasks import PATHS
from local_workspace.weights import WeightsError


class NotReached(Unavailable):
    """Nobody took the request: it may be sent again."""


async def send(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], where: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer to a POST, its content not read yet. Raises Unavailable, BadRequest for what JSON cannot say."""
    try:
        request = client.build_request("POST", url, json=body, headers=headers)
    except (ValueError, RecursionError) as error:
        # Python reads NaN, lone surrogates and any depth, but the model's server may not.
        raise BadRequest(f"the request holds what JSON cannot: {error}", error_code="BAD_REQUEST") from error
    try:
        return await client.send(request, stream=True)
    except httpx.ConnectError as error:
        raise NotReached(f"{where} cannot be reached; try again") from error
    except httpx.TransportError as error:
        raise Unavailable(f"{where} did not answer ({type(error).__name__}); try again") from error


class ModelProcess:
    """A model in a process of its own, started by the first that needs it and stopped when nobody does."""

    def __init__(self, what: str, task: str | None, engine: Engine, path: str):
        self.task = task
        self.engine = engine
        self.wanted = False
        """Whether it was started and not stopped since: not running then means that it has died."""
        self._what = what
        self._path = path
        self._changing = asyncio.Lock()
        self._busy = 0
        self._last_used = time.monotonic()

    async def prepare(self) -> None:
        """Start the engine if it does not run. Raises Unavailable."""
        async with self._changing:
            await self._client()
        self._last_used = time.monotonic()

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """The engine's answer; a dead engine is started first. Raises Unavailable."""
        self._busy += 1
        try:
            pid = self.engine.pid
            try:
                answer = await self._sent(body)
            except NotReached:
                # It has just died, and was not known to be dead yet.
                async with self._changing:
                    if self.engine.pid == pid:
                        await self.engine.stop()
                answer = await self._sent(body)
        except BaseException:
            self._finished()
            raise
        if not isinstance(answer.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous client's answer has an asynchronous stream")
        answer.stream = _Watched(answer.stream, self._finished)
        return answer

    async def stop_if_idle(self, seconds: float = 0) -> bool:
        """Stop the engine if nobody has needed it for so long; whether nothing runs now."""
        async with self._changing:
            if self._busy or time.monotonic() - self._last_used < seconds:
                return not self.engine.running
            self.wanted = False
            await self.engine.stop()
            return True

    async def _sent(self, body: dict[str, Any]) -> httpx.Response:
        async with self._changing:
            client = await self._client()
        return await send(client, self._path, self._request(body), self._what)

    async def _client(self) -> httpx.AsyncClient:
        if not self.engine.running:
            await self._fetch()
        client = await self.engine.client()
        self.wanted = True
        return client

    async def _fetch(self) -> None:
        """Get what the engine needs before it starts."""

    def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        return body

    def _finished(self) -> None:
        self._busy -= 1
        self._last_used = time.monotonic()


class LocalModel(ModelProcess):
    """A foundation model of this machine: its weights and the engine that runs them."""

    def __init__(self, name: str, task: str, engine: Engine, fetch: Callable[[], None]):
        super().__init__(f"the model {name}", task, engine, f"/v1{PATHS[task]}")
        self._name = name
        self._weights = fetch

    async def _fetch(self) -> None:
        try:
            await asyncio.to_thread(self._weights)
        except WeightsError as error:
            raise Unavailable(str(error)) from error

    def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("tools") and body.get("tool_choice") != "none":
            # llama.cpp leaves them out of the prompt, and says nothing, if the model's template has no place for them.
            raise NotImplementedHere(
                "tools are not available on the models of system.ai; json_schema is, and external models may have them"
            )
        return body | {"model": self._name}


class CustomModel(ModelProcess):
    """A registered MLflow model in a process that serves one served entity and nobody else."""

    def __init__(self, what: str, task: str | None, engine: Engine):
        super().__init__(what, task, engine, "/invocations")


class _Watched(httpx.AsyncByteStream):
    """A stream that tells when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, closed: Callable[[], None]):
        self._stream = stream
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._closed:
            self._closed()
            self._closed = None
        await self._stream.aclose()

"""The data plane: requests to endpoints, checked, passed on, and their answers streamed back as they come."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError, BadRequest
from local_workspace.serving.models import CHAT, EMBEDDINGS
from local_workspace.serving.service import Destination
from local_workspace.serving.wire import ChatRequest, EmbeddingsRequest

REQUESTS: dict[str, type[BaseModel]] = {CHAT: ChatRequest, EMBEDDINGS: EmbeddingsRequest}
NEEDED = {CHAT: "messages", EMBEDDINGS: "input"}
OTHER_SHAPES = ("dataframe_records", "dataframe_split", "inputs", "instances", "prompt", "messages", "input")
FOR_THE_PLATFORM = ("client_request_id", "usage_context")
"""Fields that Databricks keeps for its own records and does not pass on."""


def router(ws: LocalWorkspace) -> APIRouter:
    """Invocations by endpoint, and OpenAI's paths with the endpoint as the model."""
    api = APIRouter()

    @api.post("/serving-endpoints/{name}/invocations")
    async def invoke(name: str, request: Request) -> StreamingResponse:
        body = await read_object(request)
        body.pop("model", None)
        return await _answer(request, ws.serving.destination(name), body)

    @api.post("/serving-endpoints/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        return await _openai(request, CHAT)

    @api.post("/serving-endpoints/embeddings")
    async def embeddings(request: Request) -> StreamingResponse:
        return await _openai(request, EMBEDDINGS)

    async def _openai(request: Request, task: str) -> StreamingResponse:
        body = await read_object(request)
        name = body.pop("model", None)
        if not isinstance(name, str):
            raise BadRequest("model: the name of a serving endpoint is needed", error_code="BAD_REQUEST")
        destination = ws.serving.destination(name)
        if destination.model.task != task:
            raise BadRequest(
                f"Endpoint '{name}' has the task {destination.model.task}, not {task}", error_code="BAD_REQUEST"
            )
        return await _answer(request, destination, body)

    return api


def _checked(destination: Destination, body: dict[str, Any]) -> dict[str, Any]:
    """What is passed on. Raises BadRequest naming the field that is wrong."""
    task = destination.model.task
    if NEEDED[task] not in body:
        found = [shape for shape in OTHER_SHAPES if shape in body]
        sent = f", not {', '.join(found)}" if found else ""
        raise BadRequest(
            f"Endpoint '{destination.endpoint}' has the task {task}: send '{NEEDED[task]}'{sent}",
            error_code="BAD_REQUEST",
        )
    body = {field: value for field, value in body.items() if field not in FOR_THE_PLATFORM}
    try:
        REQUESTS[task].model_validate(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadRequest(problems, error_code="BAD_REQUEST") from error
    return body


async def _answer(request: Request, destination: Destination, body: dict[str, Any]) -> StreamingResponse:
    upstream = await _unless_gone(request, destination.model.send(_checked(destination, body)))
    if upstream.is_error:
        raise await _upstream_error(upstream)
    return StreamingResponse(
        _relay(upstream),
        upstream.status_code,
        headers={"served-model-name": destination.served_entity},
        media_type=upstream.headers.get("content-type"),
    )


async def _unless_gone(request: Request, work: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
    """The result of `work`, which is cancelled when the client goes: a model must not work for nobody."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        watching.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _relay(upstream: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in upstream.aiter_bytes():
            yield chunk
    except httpx.TransportError as error:
        if "event-stream" not in upstream.headers.get("content-type", ""):
            raise
        # The status has been sent already: a stream can only say it in an event, as OpenAI's clients expect it.
        problem = {"error": {"code": 503, "message": f"the model stopped answering ({type(error).__name__})"}}
        yield f"data: {json.dumps(problem)}\n\n".encode()
    finally:
        await upstream.aclose()


async def _upstream_error(upstream: httpx.Response) -> ApiError:
    """The model's error in the workspace's shape. A key the model's server rejects is not the caller's token: 403."""
    content = await upstream.aread()
    await upstream.aclose()
    try:
        body = json.loads(content)
        error = body.get("error", body)
        message = error.get("message") if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        message = content[:500].decode(errors="replace")
    status = upstream.status_code
    codes = {400: "BAD_REQUEST", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED"}
    if status in (401, 403):
        status, message = 403, f"the model's server refused the endpoint's key: {message}"
    retry_after = upstream.headers.get("retry-after")
    default = "TEMPORARILY_UNAVAILABLE" if status >= 500 else "BAD_REQUEST"
    code = "PERMISSION_DENIED" if status == 403 else codes.get(status, default)
    answer = ApiError(message or f"the model answered {status}", error_code=code)
    answer.status = status
    answer.headers = {"Retry-After": retry_after} if retry_after else {}
    return answer

"""The way of a request: through the gateway to the model that gets it, and its answer back as it comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import httpx
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from local_workspace.errors import ApiError, Unavailable
from local_workspace.serving import sse
from local_workspace.serving.call import CLIENT_CLOSED_REQUEST, Call
from local_workspace.serving.gateway.records import Records
from local_workspace.serving.process import ModelProcess
from local_workspace.serving.requests import check
from local_workspace.serving.tasks import CHAT, COMPLETIONS
from local_workspace.serving.traffic import Destination, Serves


class Shape(Protocol):
    """Turns a model's answer into that of another API."""

    def content(self, content: bytes) -> bytes:
        """The whole answer."""

    def events(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""


class Exchange:
    """Passes requests on and answers back."""

    def __init__(self, records: Records, workspace_id: str):
        self._records = records
        self._workspace_id = workspace_id

    async def answer(
        self,
        request: Request,
        serves: Serves,
        body: dict[str, Any],
        entity: str | None = None,
        translate: Callable[[dict[str, Any]], tuple[dict[str, Any], Shape]] | None = None,
    ) -> Response:
        """The endpoint's answer. Raises ApiError, which is counted and recorded like any other answer."""
        call = Call(request, body, serves.gateway, self._workspace_id)
        try:
            sent, shape = translate(body) if translate else (body, None)
            serves.gateway.limits.admit(call.caller)
            serves.gateway.keywords.check_request(body)
            order = [serves.named(entity)] if entity else serves.order()
            check(serves.gateway.metrics.endpoint, order[0].model.task, sent)
            return await _unless_gone(request, self._ask(call, order, sent, shape))
        except ApiError as error:
            error.headers = error.headers | {"x-request-id": call.id}
            call.done(self._records, error.status, bytes(error.response().body))
            raise
        except ClientDisconnect:
            call.done(self._records, CLIENT_CLOSED_REQUEST, None)
            raise

    async def _ask(self, call: Call, order: list[Destination], body: dict[str, Any], shape: Shape | None) -> Response:
        upstream = None
        for last, destination in ((each is order[-1], each) for each in order):
            call.served = destination
            try:
                upstream = await destination.model.send(_counted(call, destination, body))
                if upstream.is_error:
                    raise await _upstream_error(upstream)
                break
            except ApiError as error:
                if last or not (error.status == 429 or error.status >= 500):
                    raise
        if upstream is None or call.served is None:
            raise Unavailable("no served entity answered")
        headers = {"served-model-name": call.served.served_entity, "x-request-id": call.id}
        kind = upstream.headers.get("content-type", "application/json")
        if "event-stream" in kind:
            return StreamingResponse(self._relay(call, upstream, shape), 200, headers=headers, media_type=kind)
        try:
            content = await upstream.aread()
        except httpx.TransportError as error:
            raise Unavailable(f"the model stopped answering ({type(error).__name__}); try again") from error
        finally:
            await upstream.aclose()
        call.tokens = sse.tokens(content)
        try:
            call.gateway.keywords.check_answer(content)
            content = shape.content(content) if shape else content
        except (ValueError, LookupError, TypeError) as error:
            raise Unavailable(f"the model answered nothing of its task ({type(error).__name__})") from error
        call.done(self._records, upstream.status_code, content)
        return Response(content, upstream.status_code, headers=headers, media_type=kind)

    async def _relay(self, call: Call, upstream: httpx.Response, shape: Shape | None) -> AsyncIterator[bytes]:
        kept, status = bytearray(), CLIENT_CLOSED_REQUEST
        asked = (call.body.get("stream_options") or {}).get("include_usage")
        incoming = self._watched(call, upstream, bool(asked or shape))
        try:
            async for event in shape.events(incoming) if shape else incoming:
                if call.keeps_answer:
                    kept += event
                yield event
            status = upstream.status_code
        except httpx.TransportError as error:
            status = Unavailable.status
            # 200 has been sent already: a stream can only say it in an event, as OpenAI's clients expect it.
            message = f"the model stopped answering ({type(error).__name__})"
            yield sse.event({"error": {"code": status, "message": message}})
        finally:
            await upstream.aclose()
            call.done(self._records, status, bytes(kept))

    async def _watched(self, call: Call, upstream: httpx.Response, wanted: bool) -> AsyncIterator[bytes]:
        """The events, their tokens counted; the one with nothing else is left out unless it is wanted."""
        async for event in sse.events(upstream.aiter_bytes()):
            if sse.USAGE in event:
                counted = sse.tokens(event)
                call.tokens = counted if any(counted) else call.tokens
                if not wanted and any(counted) and (sse.data(event) or {}).get("choices") == []:
                    continue
            yield event


def _counted(call: Call, destination: Destination, body: dict[str, Any]) -> dict[str, Any]:
    """The request; a stream is to tell its tokens where they are needed or cost nothing."""
    model = destination.model
    if not call.streams or model.task not in (CHAT, COMPLETIONS):
        return body
    if not (call.gateway.needs_tokens or isinstance(model, ModelProcess)):
        return body
    return body | {"stream_options": (body.get("stream_options") or {}) | {"include_usage": True}}


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
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


async def _upstream_error(upstream: httpx.Response) -> ApiError:
    """The model's error in the workspace's shape. A key the model's server rejects is not the caller's token: 403."""
    try:
        content = await upstream.aread()
    except httpx.TransportError:
        content = b""
    finally:
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

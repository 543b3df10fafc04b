"""The data plane: requests to endpoints, by Databricks' paths and by OpenAI's with the endpoint as the model."""

from typing import Any

from fastapi import APIRouter, Request, Response

from local_workspace.bodies import read_object
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.parity import differs
from local_workspace.serving.exchange import Exchange, Shape
from local_workspace.serving.response_events import StreamedResponse
from local_workspace.serving.responses import chat_request, parsed
from local_workspace.serving.tasks import AGENT_CHATS, CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES_AGENT
from local_workspace.serving.traffic import Serves

INVOCATIONS = "/serving-endpoints/{name}/invocations"


def router(ws: LocalWorkspace) -> APIRouter:
    """Invocations by endpoint, and OpenAI's paths."""
    api = APIRouter()
    exchange = Exchange(ws.serving.records, ws.workspace_id)

    @api.post(INVOCATIONS)
    async def invoke(name: str, request: Request) -> Response:
        body = await read_object(request)
        body.pop("model", None)
        return await exchange.answer(request, ws.serving.serves(name), body)

    @api.post("/serving-endpoints/{name}/served-models/{entity}/invocations")
    async def invoke_entity(name: str, entity: str, request: Request) -> Response:
        body = await read_object(request)
        body.pop("model", None)
        return await exchange.answer(request, ws.serving.serves(name), body, entity)

    @api.post("/serving-endpoints/chat/completions")
    async def chat(request: Request) -> Response:
        serves, body = await by_model(request, CHAT, *AGENT_CHATS)
        return await exchange.answer(request, serves, body)

    @api.post("/serving-endpoints/completions")
    async def completions(request: Request) -> Response:
        serves, body = await by_model(request, COMPLETIONS)
        return await exchange.answer(request, serves, body)

    @api.post("/serving-endpoints/embeddings")
    async def embeddings(request: Request) -> Response:
        serves, body = await by_model(request, EMBEDDINGS)
        return await exchange.answer(request, serves, body)

    @api.post("/serving-endpoints/responses")
    @differs("On a chat model it is made from a chat answer; responses are not kept, so none can be referred to.")
    async def responses(request: Request) -> Response:
        serves, body = await by_model(request, CHAT, RESPONSES_AGENT)
        if serves.task == RESPONSES_AGENT:
            return await exchange.answer(request, serves, body)

        def translate(body: dict[str, Any]) -> tuple[dict[str, Any], Shape]:
            asked = parsed(body)
            return chat_request(asked), StreamedResponse(asked, serves.name)

        return await exchange.answer(request, serves, body, translate=translate)

    async def by_model(request: Request, *tasks: str) -> tuple[Serves, dict[str, Any]]:
        body = await read_object(request)
        name = body.pop("model", None)
        if not isinstance(name, str):
            raise BadRequest("model: the name of a serving endpoint is needed", error_code="BAD_REQUEST")
        serves = ws.serving.serves(name)
        if serves.task not in tasks:
            raise BadRequest(
                f"Endpoint '{name}' has the task {serves.task or 'of its signature'}, not {' or '.join(tasks)}",
                error_code="BAD_REQUEST",
            )
        return serves, body

    return api

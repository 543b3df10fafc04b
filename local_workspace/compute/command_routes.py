"""The Command Execution API 1.2: Python and SQL in execution contexts of clusters."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from local_workspace.bodies import read_object
from local_workspace.compute.contexts import Command, ExecutionContext
from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError, NotImplementedHere

PREFIX = "/api/1.2"
LANGUAGES = ("python", "sql")
READY_SECONDS = 5.0
"""How long a new context is waited for, which saves clients that poll by the second some of them."""
STATUS_SECONDS = 0.2
"""How long a status waits for the end of its command."""


class CommandError(ApiError):
    """An error in the shape of API 1.2, which has a text but no code."""

    status = 400

    def response(self) -> JSONResponse:
        """The error as the HTTP answer."""
        return JSONResponse({"error": self.message}, self.status)


class ContextNotFound(CommandError):
    """There is no such context or command (any more)."""

    status = 404


def router(ws: LocalWorkspace) -> APIRouter:
    """The Command Execution API."""
    api = APIRouter(prefix=PREFIX)
    compute = ws.compute

    def context(cluster_id: str, context_id: str) -> ExecutionContext:
        found = compute.contexts.get(context_id)
        if found is None or found.cluster_id != cluster_id:
            raise ContextNotFound(f"ContextNotFound: {context_id} on cluster {cluster_id}; create a new one")
        return found

    def command(cluster_id: str, context_id: str, command_id: str) -> tuple[ExecutionContext, Command]:
        place = context(cluster_id, context_id)
        if command_id not in place.commands:
            raise ContextNotFound(f"CommandNotFound: {command_id} in context {context_id}")
        return place, place.commands[command_id]

    @api.post("/contexts/create")
    async def create(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        language, cluster_id = _language(body), _needed(body, "clusterId")
        try:
            made = compute.create_context(cluster_id, language, request.state.principal)
        except ApiError as error:
            raise CommandError(f"IllegalStateException: {error.message}") from error  # not one the SDK tries again for
        await _wait(made.ready, READY_SECONDS)
        return {"id": made.context_id}

    @api.get("/contexts/status")
    async def context_status(clusterId: str, contextId: str) -> dict[str, Any]:
        found = context(clusterId, contextId)
        return {"id": found.context_id, "status": found.status}

    @api.post("/contexts/destroy")
    async def destroy(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        found = context(_needed(body, "clusterId"), _needed(body, "contextId"))
        compute.contexts.pop(found.context_id, None)
        await found.destroy()
        return {"id": found.context_id}

    @api.post("/commands/execute")
    async def execute(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        context_id, cluster_id = _needed(body, "contextId"), _needed(body, "clusterId")
        source = _needed(body, "command")
        place = context(cluster_id, context_id)
        language = _language(body) if body.get("language") else place.language
        return {"id": place.execute(source, language.upper()).command_id}

    @api.get("/commands/status")
    async def status(clusterId: str, contextId: str, commandId: str) -> dict[str, Any]:
        _, found = command(clusterId, contextId, commandId)
        await _wait(found.ended, STATUS_SECONDS)
        return {"id": found.command_id, "status": found.status, "results": found.results}

    @api.post("/commands/cancel")
    async def cancel(request: Request) -> dict[str, Any]:
        body = await read_object(request)
        names = ("clusterId", "contextId", "commandId")
        place, found = command(*(_needed(body, name) for name in names))
        await place.cancel(found)
        return {"id": found.command_id}

    return api


def _needed(body: dict[str, Any], name: str) -> str:
    if not isinstance(body.get(name), str):
        raise CommandError(f"IllegalArgumentException: requirement failed: missing {name}")
    return body[name]


def _language(body: dict[str, Any]) -> str:
    language = _needed(body, "language").lower()
    if language not in LANGUAGES:
        raise NotImplementedHere(f"local_workspace runs commands in python and sql, not in {language:.50}")
    return language


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return

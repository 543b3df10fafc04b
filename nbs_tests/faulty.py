"""A serving endpoint that misbehaves as told: a real HTTP server on loopback."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TASKS = {"chat": "llm/v1/chat", "fast": "llm/v1/chat", "embed": "llm/v1/embeddings", "risk": None}


class Faulty:
    """Serves the endpoints of TASKS; `faults[endpoint]` holds what to answer next, before it is well again."""

    def __init__(self) -> None:
        self.url = ""
        self.faults: defaultdict[str, list[str | Response]] = defaultdict(list)
        self.requests: list[tuple[str, dict, dict]] = []
        self.app = Starlette(
            routes=[
                Route("/api/2.0/serving-endpoints/{name}", self._about),
                Route("/serving-endpoints/chat/completions", self._chat, methods=["POST"]),
                Route("/serving-endpoints/embeddings", self._embeddings, methods=["POST"]),
                Route("/serving-endpoints/{name}/invocations", self._invocations, methods=["POST"]),
            ]
        )

    def asked(self, endpoint: str) -> int:
        """How many times the endpoint was asked for an answer."""
        return sum(name == endpoint for name, _, _ in self.requests)

    async def _about(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in TASKS:
            return JSONResponse({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no endpoint {name}"}, 404)
        return JSONResponse({"name": name, "task": TASKS[name]})

    async def _fault(self, request: Request, name: str, body: dict) -> Response | None:
        self.requests.append((name, body, dict(request.headers)))
        fault = self.faults[name].pop(0) if self.faults[name] else None
        if fault == "slow":
            await asyncio.sleep(5)
        if fault == "drop":
            return StreamingResponse(_dropped(), headers={"content-type": "application/json", "content-length": "1000"})
        return fault if isinstance(fault, Response) else None

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        fault = await self._fault(request, body["model"], body)
        if fault:
            return fault
        if body.get("stream"):
            return StreamingResponse(_tokens(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "well"}
        return JSONResponse(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": f"{body['model']}-model",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            }
        )

    async def _embeddings(self, request: Request) -> Response:
        body = await request.json()
        fault = await self._fault(request, body["model"], body)
        data = [
            {"object": "embedding", "index": n, "embedding": [float(len(text)), 0.0]}
            for n, text in reversed(list(enumerate(body["input"])))
        ]
        usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
        return fault or JSONResponse({"object": "list", "data": data, "model": "m", "usage": usage})

    async def _invocations(self, request: Request) -> Response:
        body = await request.json()
        fault = await self._fault(request, request.path_params["name"], body)
        return fault or JSONResponse({"predictions": [0.5] * len(body.get("dataframe_records", [1]))})


async def _dropped():
    yield b'{"id": '
    raise ConnectionResetError("told to drop the connection")


async def _tokens():
    for word in ("all ", "is ", "well"):
        yield b"data: " + json.dumps(_chunk({"content": word})).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _chunk(delta: dict) -> dict:
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}


@contextmanager
def faulty_server() -> Iterator[Faulty]:
    """The server on a free port until the block ends."""
    faulty = Faulty()
    server = uvicorn.Server(uvicorn.Config(faulty.app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.005)
    faulty.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield faulty
    finally:
        server.should_exit = server.force_exit = True
        thread.join()

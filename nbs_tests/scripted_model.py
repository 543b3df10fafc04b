"""A chat model that answers as told: an OpenAI-compatible server behind an external-model endpoint of the workspace."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    EndpointStateReady,
    ExternalModel,
    ExternalModelProvider,
    OpenAiConfig,
    ServedEntityInput,
)

from lib.core import new_id

Answer = Callable[[list[dict[str, Any]]], str | int]  # messages -> text, or the HTTP status to fail with


def words(text: str) -> int:
    """Tokens of a text, as this model counts them."""
    return len(text.split())


@dataclass
class Script:
    """One scripted endpoint and what it was asked."""

    endpoint: str
    answer: Answer
    calls: list[dict[str, Any]] = field(default_factory=list)  # the bodies, in the order they came
    busiest: int = 0  # calls at the same moment, at most
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def count(self) -> int:
        """Calls so far, those that were told to fail included."""
        return len(self.calls)


class _Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    script: ClassVar[Script]
    open: ClassVar[int] = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        script, kind = self.script, type(self)
        with script.lock:
            script.calls.append(body)
            kind.open += 1
            script.busiest = max(script.busiest, kind.open)
        try:
            answer = script.answer(body["messages"])
        finally:
            with script.lock:
                kind.open -= 1
        if isinstance(answer, int):
            self._send(answer, {"error": {"message": "told to fail"}})
            return
        read, written = sum(words(message["content"]) for message in body["messages"]), words(answer)
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        about = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        self._send(200, about | {"choices": [choice], "usage": usage})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: object) -> None:
        """Nothing is printed."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def scripted_endpoint(environment: Mapping[str, str], answer: Answer, name: str | None = None) -> Iterator[Script]:
    """An endpoint of the workspace whose model answers `answer(messages)`, until the block ends."""
    script = Script(name or f"scripted-{new_id()[:8]}", answer)
    server = _Server(("127.0.0.1", 0), type("Upstream", (_Upstream,), {"script": script}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    endpoints = WorkspaceClient(
        host=environment["DATABRICKS_HOST"], token=environment["DATABRICKS_TOKEN"]
    ).serving_endpoints
    upstream = OpenAiConfig(openai_api_base=f"http://127.0.0.1:{server.server_port}/v1")
    model = ExternalModel(ExternalModelProvider.OPENAI, "scripted", "llm/v1/chat", openai_config=upstream)
    served = [ServedEntityInput(name="scripted", external_model=model)]
    config = EndpointCoreConfigInput(name=script.endpoint, served_entities=served)
    try:
        endpoints.create(script.endpoint, config=config)
        while endpoints.get(script.endpoint).state.ready is not EndpointStateReady.READY:  # the SDK looks once a second
            time.sleep(0.02)
        yield script
        endpoints.delete(script.endpoint)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

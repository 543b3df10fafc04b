"""An OpenAI-compatible server for the tests, and endpoints over it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    ExternalModel,
    ExternalModelProvider,
    OpenAiConfig,
    Route,
    ServedEntityInput,
    TrafficConfig,
)

HELLO = [{"role": "user", "content": "Say hello."}]


class Upstream(BaseHTTPRequestHandler):
    """An OpenAI-compatible server: its models are named after what they do."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    seen: list[dict]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append({"path": self.path, "body": body, "headers": dict(self.headers)})
        if body["model"] == "html":
            return self._send(200, "<p>Welcome</p>")
        if body["model"].isdecimal():
            return self._send(int(body["model"]), {"error": {"message": "out of order"}})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        answer = {"id": "1", "created": 1, "model": body["model"]}
        call = {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
        if body.get("stream"):
            chunk = answer | {"object": "chat.completion.chunk"}
            choice = {"index": 0, "delta": {"content": "wörd\u2028"}, "finish_reason": None}
            chunks = [chunk | {"choices": [choice]}] * 2
            if body.get("tools"):
                rest = {"index": 0, "function": {"arguments": '"Oslo"}'}}
                deltas = [{"tool_calls": [call]}, {"tool_calls": [rest]}]
                chunks = [chunk | {"choices": [choice | {"delta": delta}]} for delta in deltas]
            if (body.get("stream_options") or {}).get("include_usage"):
                chunks.append(chunk | {"choices": [], "usage": usage})
            events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks]
            return self._send(200, "".join([*events, "data: [DONE]\r\n\r\n"]), "text/event-stream")
        message = {"role": "assistant", "content": f"I am {body['model']}"}
        if body.get("tools"):
            call["function"]["arguments"] += '"Oslo"}'
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return self._send(200, answer | {"object": "chat.completion", "choices": choices, "usage": usage})

    def _send(self, status: int, body: dict | str, kind: str = "application/json") -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def upstream():
    Upstream.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def external(base: str, name: str, **options) -> ServedEntityInput:
    config = {"provider": ExternalModelProvider.OPENAI, "openai_config": OpenAiConfig(openai_api_base=base)} | options
    return ServedEntityInput(name=name, external_model=ExternalModel(name=name, task="llm/v1/chat", **config))


def create(workspace, name: str, *entities: ServedEntityInput, shares: tuple[int, ...] = (100,), **options):
    names = [entity.name for entity in entities]
    routes = [Route(share, served_entity_name=n, served_model_name=n) for n, share in zip(names, shares, strict=True)]
    config = EndpointCoreConfigInput(
        name=name, served_entities=list(entities), traffic_config=TrafficConfig(routes=routes)
    )
    workspace.client.serving_endpoints.create(name, config=config, **options)
    while workspace.client.serving_endpoints.get(name).state.config_update.value == "IN_PROGRESS":
        time.sleep(0.05)
    return workspace.client.serving_endpoints.get(name)

"""Serving endpoints by the genuine clients: life cycle, chat, streams, schemas, embeddings, failures."""

import json
import os
import re
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest
from databricks.sdk.errors import (
    DatabricksError,
    InvalidParameterValue,
    NotFound,
    NotImplemented,
    OperationFailed,
    ResourceAlreadyExists,
)
from databricks.sdk.service.serving import (
    AiGatewayConfig,
    AiGatewayGuardrailParameters,
    AiGatewayGuardrails,
    AutoCaptureConfigInput,
    ChatMessage,
    ChatMessageRole,
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ExternalModel,
    ExternalModelProvider,
    OpenAiConfig,
    Route,
    ServedEntityInput,
    TelemetryConfig,
    TrafficConfig,
)

from local_workspace.tests.conftest import WEIGHTS, start_workspace
from local_workspace.weights import read_manifest

HELLO = [{"role": "user", "content": "Say hello."}]
CHAT = ServedEntityInput(entity_name="system.ai.local-chat", scale_to_zero_enabled=False, workload_size="Small")
EMBEDDINGS = ServedEntityInput(entity_name="system.ai.all_minilm_l6_v2", entity_version="1")


def external(base: str, name: str = "chat", key: str | None = None) -> ServedEntityInput:
    config = OpenAiConfig(openai_api_base=base, openai_api_key=key)
    model = ExternalModel(provider=ExternalModelProvider.OPENAI, name=name, task="llm/v1/chat", openai_config=config)
    return ServedEntityInput(name=f"{name}-entity", external_model=model)


def create(workspace, name: str, *entities: ServedEntityInput, **options):
    config = EndpointCoreConfigInput(name=name, served_entities=list(entities))
    return workspace.client.serving_endpoints.create_and_wait(name, config=config, **options)


@pytest.fixture(scope="module")
def chat(workspace):
    return create(workspace, "chat", CHAT, description="the tests' model", tags=[EndpointTag("team", "fraud")])


@pytest.fixture(scope="module")
def embeddings(workspace):
    return create(workspace, "embeddings", EMBEDDINGS)


@pytest.fixture(scope="module")
def client(workspace, chat, embeddings):
    with openai.OpenAI(base_url=f"{workspace.host}/serving-endpoints", api_key=workspace.token) as client:
        yield client


def test_an_endpoint_is_shown_as_it_was_made(workspace, chat):
    found = workspace.client.serving_endpoints.get("chat")
    entity = found.config.served_entities[0]
    assert found.state.ready is EndpointStateReady.READY
    assert found.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING
    assert (found.task, found.description, found.config.config_version) == ("llm/v1/chat", "the tests' model", 1)
    assert (entity.entity_name, entity.entity_version) == ("system.ai.local-chat", "1")
    assert (entity.workload_size, entity.scale_to_zero_enabled) == ("Small", False)
    assert "chat" in [endpoint.name for endpoint in workspace.client.serving_endpoints.list()]


def test_an_endpoint_is_not_ready_before_its_model_is(workspace):
    config = EndpointCoreConfigInput(name="later", served_entities=[CHAT])
    wait = workspace.client.serving_endpoints.create("later", config=config)
    assert wait.response.state.ready is EndpointStateReady.NOT_READY
    assert wait.response.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
    assert wait.result().state.ready is EndpointStateReady.READY
    with pytest.raises(ResourceAlreadyExists):
        workspace.client.serving_endpoints.create("later", config=config)
    workspace.client.serving_endpoints.delete("later")
    with pytest.raises(NotFound):
        workspace.client.serving_endpoints.get("later")


def test_tags_change_by_patch(workspace, chat):
    workspace.client.serving_endpoints.patch("chat", add_tags=[EndpointTag("stage", "test")], delete_tags=["team"])
    assert [tag.key for tag in workspace.client.serving_endpoints.get("chat").tags] == ["stage"]


def test_the_sdk_queries_chat(workspace, chat):
    message = ChatMessage(role=ChatMessageRole.USER, content="Say hello.")
    answer = workspace.client.serving_endpoints.query("chat", messages=[message], max_tokens=8, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert (answer.model, answer.served_model_name) == ("smollm2-135m-instruct", "local-chat-1")


def test_the_openai_client_streams(client):
    stream = client.chat.completions.create(
        model="chat", messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 2
    assert 2 < chunks[-1].usage.completion_tokens <= 12  # the model may end sooner


def test_an_answer_follows_its_json_schema(client):
    schema = {
        "type": "object",
        "properties": {
            "decision": {"enum": ["approve", "review", "block"]},
            "score": {"type": "integer", "minimum": 0, "maximum": 100},
            "reason": {"type": "string", "maxLength": 40},
        },
        "required": ["decision", "score", "reason"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": "Judge a card payment of 900 EUR at night."}],
        max_tokens=120,
        response_format={"type": "json_schema", "json_schema": {"name": "decision", "schema": schema, "strict": True}},
    )
    decision = json.loads(answer.choices[0].message.content)
    assert set(decision) == {"decision", "score", "reason"}
    assert decision["decision"] in ("approve", "review", "block")
    assert 0 <= decision["score"] <= 100


def test_embeddings_are_near_for_near_meanings(workspace, client):
    texts = ["The card was stolen.", "Somebody took my credit card.", "Bananas grow in the tropics."]
    near, also_near, far = (item.embedding for item in client.embeddings.create(model="embeddings", input=texts).data)
    assert len(near) == 384
    assert sum(x * x for x in near) == pytest.approx(1, abs=1e-5)
    assert sum(x * y for x, y in zip(near, also_near, strict=True)) > 0.5
    assert sum(x * y for x, y in zip(near, far, strict=True)) < 0.2
    by_sdk = workspace.client.serving_endpoints.query("embeddings", input=texts[0])
    assert by_sdk.data[0].embedding == pytest.approx(near, abs=0.02)  # int8: the batch shifts the scale a little
    assert by_sdk.usage.prompt_tokens > 3


def test_an_external_model_is_reached_with_its_secret(workspace, chat):
    workspace.client.secrets.create_scope("models")
    workspace.client.secrets.put_secret("models", "key", string_value=workspace.token)
    reference = "{{secrets/models/key}}"
    made = create(workspace, "external", external(f"{workspace.host}/serving-endpoints", key=reference))
    assert made.config.served_entities[0].external_model.openai_config.openai_api_key == reference
    message = ChatMessage(role=ChatMessageRole.USER, content="Say hello.")
    answer = workspace.client.serving_endpoints.query("external", messages=[message], max_tokens=4)
    assert 0 < answer.usage.completion_tokens <= 4
    workspace.client.secrets.put_secret("models", "key", string_value="dapi-wrong")
    with pytest.raises(DatabricksError, match="refused the endpoint's key"):
        workspace.client.serving_endpoints.query("external", messages=[message])


def test_a_secret_or_model_that_is_missing_is_named(workspace):
    missing = external("http://127.0.0.1:9/v1", key="{{secrets/none/key}}")
    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        create(workspace, "no-secret", missing)
    found = workspace.client.serving_endpoints.get("no-secret")
    assert "Scope none" in found.pending_config.served_entities[0].state.deployment_state_message
    assert workspace.http.post("/serving-endpoints/no-secret/invocations", json={"messages": HELLO}).status_code == 503
    for name in ("system.ai.gpt_9", "main.default.mine"):
        with pytest.raises(NotFound, match=f"{name}.*system.ai.local_chat"):
            create(workspace, "unknown", ServedEntityInput(entity_name=name, entity_version="1"))


def test_traffic_is_split_by_shares_and_moved_by_an_update(workspace, chat):
    base = f"{workspace.host}/serving-endpoints"
    workspace.client.secrets.create_scope("split")
    workspace.client.secrets.put_secret("split", "key", string_value=workspace.token)
    entities = [external(base, key="{{secrets/split/key}}"), external("http://127.0.0.1:9/v1", "nobody")]

    def config(share: int) -> dict:
        routes = [
            Route(served_entity_name="chat-entity", traffic_percentage=share, served_model_name="chat-entity"),
            Route(
                served_entity_name="nobody-entity", traffic_percentage=100 - share, served_model_name="nobody-entity"
            ),
        ]
        return {"served_entities": entities, "traffic_config": TrafficConfig(routes=routes)}

    workspace.client.serving_endpoints.create_and_wait(
        "split", config=EndpointCoreConfigInput(name="split", **config(0))
    )
    body = {"messages": HELLO, "max_tokens": 1}
    refused = workspace.http.post("/serving-endpoints/split/invocations", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "127.0.0.1:9" in refused.json()["message"]
    updated = workspace.client.serving_endpoints.update_config_and_wait("split", **config(100))
    assert updated.config.config_version == 2
    answer = workspace.http.post("/serving-endpoints/split/invocations", json=body)
    assert answer.headers["served-model-name"] == "chat-entity"
    with pytest.raises(InvalidParameterValue, match="sum to 101"):
        wrong = config(100)
        wrong["traffic_config"].routes[1].traffic_percentage = 1
        workspace.client.serving_endpoints.update_config("split", **wrong)


@pytest.mark.parametrize(
    ("endpoint", "body", "named"),
    [
        ("chat", {"dataframe_records": [{"a": 1}]}, "messages.*dataframe_records"),
        ("chat", {"inputs": ["a"]}, "messages.*inputs"),
        ("chat", {"messages": []}, "messages"),
        ("chat", {"messages": "hello"}, "messages"),
        ("chat", {"messages": [{"role": "wizard", "content": "x"}]}, r"messages\.0\.role"),
        ("chat", {"messages": HELLO, "max_tokens": "5"}, "max_tokens"),
        ("chat", {"messages": HELLO, "max_tokens": 0}, "max_tokens"),
        ("chat", {"messages": HELLO, "temperature": 9}, "temperature"),
        ("chat", {"messages": HELLO, "id_slot": 1}, "id_slot"),
        ("chat", {"messages": HELLO, "response_format": {"type": "nope"}}, "response_format"),
        ("chat", {"messages": HELLO, "response_format": {"type": "json_schema"}}, "json_schema.schema"),
        (
            "chat",
            {"messages": HELLO, "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "schema",
        ),
        ("chat", {"messages": [{"role": "user", "content": "word " * 40_000}]}, "context"),
        ("embeddings", {"messages": HELLO}, "input.*messages"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": [1, 2]}, "input"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_request_is_400_and_names_the_field(workspace, chat, embeddings, endpoint, body, named):
    answer = workspace.http.post(f"/serving-endpoints/{endpoint}/invocations", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert re.search(named, answer.json()["message"])


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b"x" * 17_000_000])
def test_a_body_that_is_no_object_is_400(workspace, chat, content):
    for path in ("/serving-endpoints/chat/invocations", "/serving-endpoints/chat/completions"):
        assert workspace.http.post(path, content=content).status_code == 400


def test_openai_paths_need_a_known_endpoint_of_the_task(client):
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="llm/v1/embeddings"):
        client.chat.completions.create(model="embeddings", messages=HELLO)


def test_what_is_not_done_is_refused_by_name(workspace, chat):
    endpoints = workspace.client.serving_endpoints
    safe = AiGatewayGuardrails(input=AiGatewayGuardrailParameters(safety=True))
    with pytest.raises(NotImplemented, match=r"guardrails\.safety"):
        endpoints.put_ai_gateway("chat", guardrails=safe)
    with pytest.raises(NotImplemented, match=r"guardrails\.safety"):
        create(workspace, "guarded", CHAT, ai_gateway=AiGatewayConfig(guardrails=safe))
    with pytest.raises(NotImplemented, match="telemetry_config"):
        create(workspace, "told", CHAT, telemetry_config=TelemetryConfig(telemetry_profile_id="x"))
    with pytest.raises(NotImplemented, match="instance_profile_arn"):
        create(workspace, "profile", ServedEntityInput(entity_name=CHAT.entity_name, instance_profile_arn="x"))
    with pytest.raises(InvalidParameterValue, match="legacy inference tables are no longer supported"):
        endpoints.update_config("chat", served_entities=[CHAT], auto_capture_config=AutoCaptureConfigInput())
    with pytest.raises(NotImplemented, match="anthropic"):
        model = ExternalModel(provider=ExternalModelProvider.ANTHROPIC, name="c", task="llm/v1/chat")
        create(workspace, "other", ServedEntityInput(name="c", external_model=model))
    with pytest.raises(DatabricksError, match="environment_vars"):
        create(workspace, "variables", ServedEntityInput(entity_name=CHAT.entity_name, environment_vars={"A": "b"}))


def test_a_killed_engine_answers_503_and_comes_back(workspace, client):
    def kill_once_it_works() -> None:
        next(iter(stream))
        os.kill(workspace.engine("local_workspace.serving.llm").pid, signal.SIGKILL)

    stream = client.chat.completions.create(model="chat", messages=HELLO, max_tokens=900, stream=True)
    killer = threading.Thread(target=kill_once_it_works)
    body = {"messages": HELLO, "max_tokens": 900, "temperature": 1}
    killer.start()
    answer = workspace.http.post("/serving-endpoints/chat/invocations", json=body)
    killer.join()
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
    assert client.chat.completions.create(model="chat", messages=HELLO, max_tokens=2).choices
    os.kill(workspace.engine("local_workspace.serving.embedder").pid, signal.SIGKILL)
    assert client.embeddings.create(model="embeddings", input="again").data


class Upstream(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that goes on only when it was told to, or never, and sees its client go."""

    go_on: threading.Event
    gone: threading.Event

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body["model"] == "silent":
            if not self.connection.recv(1):
                self.gone.set()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if body.get("stream") else "application/json")
        self.end_headers()
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
        try:
            for _ in range(1000):
                self.wfile.write(f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n".encode())
                self.wfile.flush()
                self.go_on.wait(20)
                time.sleep(0.01)
        except OSError:
            self.gone.set()

    def do_GET(self) -> None:
        content = json.dumps({"data": [{"id": "first-model"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args) -> None:
        """Nothing is printed."""


@pytest.fixture
def upstream():
    Upstream.go_on, Upstream.gone = threading.Event(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_is_not_held_back_and_ends_with_its_client(workspace, client, upstream):
    create(workspace, "slow", external(upstream, "slow"))
    stream = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
    assert next(iter(stream)).choices[0].delta.content == "x"  # the next chunk is not sent before go_on
    stream.close()
    Upstream.go_on.set()
    assert Upstream.gone.wait(20)


def test_a_model_does_not_work_for_a_client_that_has_gone(workspace, upstream):
    create(workspace, "silent", external(upstream, "silent"))
    with pytest.raises(httpx.ReadTimeout):
        workspace.http.post("/serving-endpoints/silent/invocations", json={"messages": HELLO}, timeout=0.3)
    assert Upstream.gone.wait(20)


def test_endpoints_survive_a_kill_and_serve_another_model(tmp_path, upstream):
    smollm2 = WEIGHTS / read_manifest()["smollm2"].files[0].stored_as
    with start_workspace(tmp_path) as first:
        create(first, "chat", CHAT)
        create(first, "embeddings", EMBEDDINGS)
        first.process.kill()
    with start_workspace(tmp_path, SOTA_LOCAL_MODEL=str(smollm2)) as second:
        assert second.client.serving_endpoints.get("chat").state.ready is EndpointStateReady.READY
        answer = second.http.post("/serving-endpoints/chat/invocations", json={"messages": HELLO, "max_tokens": 2})
        assert answer.json()["model"] == smollm2.stem
        assert second.client.serving_endpoints.query("embeddings", input="a").data
    with start_workspace(tmp_path, SOTA_LOCAL_MODEL=upstream) as third:
        body = {"messages": HELLO, "stream": True}
        with third.http.stream("POST", "/serving-endpoints/chat/invocations", json=body) as stream:
            assert '"model": "first-model"' in next(stream.iter_lines())

"""What the genuine OpenAI client does with endpoints: responses, tools, choices, probabilities, completions."""

import base64
import json
import struct
import warnings

import openai
import pytest
from databricks.sdk.errors import NotImplemented
from databricks.sdk.service.serving import (
    ChatMessage,
    ChatMessageRole,
    EndpointCoreConfigInput,
    ExternalFunctionRequestHttpMethod,
    PtEndpointCoreConfig,
    PtServedModel,
    ServedModelInput,
)

from local_workspace.tests.test_serving import CHAT, EMBEDDINGS
from local_workspace.tests.upstreams import HELLO, Upstream, create, external, upstream

__all__ = ["upstream"]  # a fixture
WEATHER = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
TOOL = {"type": "function", "name": "weather", "description": "The weather of a city", "parameters": WEATHER}


@pytest.fixture(scope="module")
def client(workspace):
    for name, entity in (("oa-chat", CHAT), ("oa-embeddings", EMBEDDINGS)):
        entity.name = "it"
        create(workspace, name, entity)
    with openai.OpenAI(base_url=f"{workspace.host}/serving-endpoints", api_key=workspace.token) as client:
        yield client


def test_a_response_is_made_of_a_chat(client):
    answer = client.responses.create(
        model="oa-chat", instructions="Be brief.", input="Say hello.", max_output_tokens=8, temperature=0
    )
    assert answer.output_text
    assert (answer.object, answer.model, answer.instructions) == ("response", "oa-chat", "Be brief.")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert 0 < answer.usage.output_tokens <= 8
    cut = client.responses.create(model="oa-chat", input="Tell a long story.", max_output_tokens=1)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_response_follows_its_schema_and_reads_a_conversation(client):
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    answer = client.responses.create(
        model="oa-chat",
        input=[
            {"role": "developer", "content": "Judge."},
            {"role": "user", "content": [{"type": "input_text", "text": "Is water wet?"}]},
            {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "rain"},
        ],
        text={"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}},
    )
    assert json.loads(answer.output_text)["answer"] in ("yes", "no")


def test_a_response_streams_its_events(client):
    events = list(client.responses.create(model="oa-chat", input="Say hello.", max_output_tokens=12, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text != ""
    assert events[-1].response.usage.output_tokens > 0
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": {"enum": ["yes", "no"]}}}
    with client.responses.stream(model="oa-chat", input="Say yes.", text=wanted) as stream:
        assert json.loads(stream.get_final_response().output_text) in ("yes", "no")


def test_a_tool_is_called_by_a_model_that_can(workspace, client, upstream):
    create(workspace, "oa-tools", external(upstream, "m"))
    asked = {"model": "oa-tools", "input": "The weather in Oslo?", "tools": [TOOL], "tool_choice": "required"}
    call = client.responses.create(**asked).output[0]
    assert (call.type, call.call_id, call.name, call.arguments) == ("function_call", "c", "weather", '{"city": "Oslo"}')
    assert Upstream.seen[-1]["body"]["tools"][0]["function"]["name"] == "weather"
    events = list(client.responses.create(**asked, stream=True))
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert (done.name, done.arguments) == ("weather", '{"city": "Oslo"}')
    assert events[-1].response.output[0].arguments == '{"city": "Oslo"}'
    with pytest.raises(openai.InternalServerError, match="tools are not available"):
        client.with_options(max_retries=0).responses.create(**asked | {"model": "oa-chat"})


@pytest.mark.parametrize(
    ("asked", "error", "named"),
    [
        ({"previous_response_id": "resp_1"}, openai.InternalServerError, "previous_response_id"),
        ({"store": True}, openai.InternalServerError, "store"),
        ({"background": True}, openai.InternalServerError, "background"),
        ({"reasoning": {"effort": "low"}}, openai.InternalServerError, "reasoning"),
        ({"tools": [{"type": "web_search"}]}, openai.InternalServerError, "web_search"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, openai.InternalServerError, "item_reference"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            openai.InternalServerError,
            "input_image",
        ),
        ({"max_output_tokens": 0}, openai.BadRequestError, "max_output_tokens"),
        ({"input": []}, openai.BadRequestError, "messages"),
        ({"input": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, "role"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, openai.BadRequestError, "schema"),
        ({"model": "oa-embeddings"}, openai.BadRequestError, "llm/v1/embeddings"),
        ({"model": "nobody"}, openai.NotFoundError, "nobody"),
    ],
)
def test_what_a_response_cannot_be_is_named(client, asked, error, named):
    with pytest.raises(error, match=named):
        client.with_options(max_retries=0).responses.create(**{"model": "oa-chat", "input": "x"} | asked)


def test_choices_stops_and_probabilities_are_real(client):
    answer = client.chat.completions.create(
        model="oa-chat", messages=HELLO, n=2, max_tokens=6, logprobs=True, top_logprobs=2, seed=1, temperature=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    tokens = answer.choices[0].logprobs.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    plain = client.chat.completions.create(model="oa-chat", messages=HELLO, max_tokens=12, temperature=0)
    text = plain.choices[0].message.content
    stop = text.split()[1]
    stopped = client.chat.completions.create(
        model="oa-chat", messages=HELLO, max_tokens=12, temperature=0, stop=[stop]
    ).choices[0]
    assert stopped.message.content == text[: text.index(stop)]
    assert stopped.finish_reason == "stop"


def test_embeddings_come_as_floats_or_base64(client):
    floats = client.embeddings.create(model="oa-embeddings", input=["a", "b"], encoding_format="float")
    packed = client.embeddings.create(model="oa-embeddings", input=["a", "b"], encoding_format="base64")
    for one, other in zip(floats.data, packed.data, strict=True):
        assert struct.unpack("384f", base64.b64decode(other.embedding)) == pytest.approx(one.embedding, abs=1e-6)
    assert floats.usage.prompt_tokens == packed.usage.prompt_tokens > 0
    with pytest.raises(openai.InternalServerError, match="dimensions"):
        client.with_options(max_retries=0).embeddings.create(model="oa-embeddings", input="a", dimensions=8)


def test_a_workspace_lists_no_models(client):
    with pytest.raises(openai.InternalServerError, match="GET /serving-endpoints/models"):
        client.with_options(max_retries=0).models.list()


def test_completions_need_a_model_of_their_task(workspace, client, upstream):
    with pytest.raises(openai.BadRequestError, match="llm/v1/chat"):
        client.completions.create(model="oa-chat", prompt="x")
    entity = external(upstream, "complete")
    entity.external_model.task = "llm/v1/completions"
    create(workspace, "complete", entity)
    assert client.completions.create(model="complete", prompt="x").model == "complete"
    assert (Upstream.seen[-1]["path"], Upstream.seen[-1]["body"]["prompt"]) == ("/v1/completions", "x")


def test_a_stream_ends_with_its_usage_only_when_asked(client):
    def chunks(**options):
        return list(
            client.chat.completions.create(model="oa-chat", messages=HELLO, max_tokens=4, stream=True, **options)
        )

    assert all(chunk.usage is None and chunk.choices for chunk in chunks())
    assert chunks(stream_options={"include_usage": True})[-1].usage.completion_tokens > 0


def test_text_comes_through_a_stream_as_it_was_sent(workspace, client, upstream):
    create(workspace, "oa-upstream", external(upstream, "m"))
    stream = client.chat.completions.create(model="oa-upstream", messages=HELLO, stream=True)
    # U+2028 ends a line for Python's str.splitlines, but not in server-sent events.
    assert [chunk.choices[0].delta.content for chunk in stream] == ["wörd\u2028", "wörd\u2028"]


def test_the_sdks_own_openai_client_and_request_ids(workspace, client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        own = workspace.client.serving_endpoints.get_open_ai_client()
    with own:
        answer = own.chat.completions.create(model="oa-chat", messages=HELLO, max_tokens=2)
    assert len(answer._request_id) == 36
    message = ChatMessage(role=ChatMessageRole.USER, content="hi")
    extra = {"client_request_id": "c", "usage_context": {"a": "b"}, "max_tokens": 2}
    asked = workspace.client.serving_endpoints.query("oa-chat", messages=[message], stop=["x"], n=1, **extra)
    assert asked.choices[0].message.content
    for field, value in (("usage_context", {"a": 1}), ("client_request_id", 7)):
        body = {"messages": HELLO, field: value}
        refused = workspace.http.post("/serving-endpoints/oa-chat/invocations", json=body)
        assert (refused.status_code, field in refused.json()["message"]) == (400, True)


def test_a_refused_operation_names_itself_and_the_cure(workspace, client):
    endpoints = workspace.client.serving_endpoints
    model = PtServedModel("system.ai.local_chat", provisioned_model_units=1)
    with pytest.raises(NotImplemented, match="serving-endpoints/pt: provisioned throughput"):
        endpoints.create_provisioned_throughput_endpoint("x", PtEndpointCoreConfig(served_entities=[model]))
    with pytest.raises(NotImplemented, match="telemetry"):
        endpoints.patch_telemetry_config("oa-chat")
    with pytest.raises(NotImplemented, match="external-function"):
        endpoints.http_request("c", ExternalFunctionRequestHttpMethod.GET, "/")
    with pytest.raises(Exception, match="does not support direct Data Plane access"):
        workspace.client.serving_endpoints_data_plane.query("oa-chat", prompt="x")


@pytest.mark.parametrize("body", [{"name": "no spaces", "config": {}}, {"name": "x", "config": {}}, {"name": "x"}, {}])
def test_an_endpoint_needs_a_name_and_a_model(workspace, body):
    assert workspace.http.post("/api/2.0/serving-endpoints", json=body).status_code == 400


def test_served_models_are_served_entities(workspace, client):
    model = ServedModelInput(True, "system.ai.local_chat", "1", name="it", workload_size="Small")
    config = EndpointCoreConfigInput(name="older", served_models=[model])
    made = workspace.client.serving_endpoints.create_and_wait("older", config=config)
    assert made.config.served_entities[0].entity_name == "system.ai.local_chat"
    assert made.config.served_entities[0].scale_to_zero_enabled
    workspace.client.serving_endpoints.delete("older")

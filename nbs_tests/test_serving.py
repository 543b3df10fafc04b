"""The serving client on bad days: real HTTP, real faults, the caller's limits kept."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response, StreamingResponse

from lib.config import ServingConfig
from lib.core import (
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    ForbiddenCall,
    InvalidInput,
    InvalidOutput,
    NotFound,
    PermissionDenied,
    RateLimited,
    SotaError,
    Unavailable,
    call_scope,
    new_id,
)
from lib.serving import CHAT, EMBEDDINGS, Endpoints, EndpointSpec, ModelRouter, ModelServingClient
from lib.settings import load_settings
from lib.workspace import Workspace
from nbs_tests.faulty import Faulty, faulty_server
from nbs_tests.processes import free_port


@pytest.fixture(scope="module")
def running() -> Iterator[Faulty]:
    with faulty_server() as running:
        yield running


@pytest.fixture
def server(running: Faulty) -> Faulty:
    running.faults.clear()
    running.requests.clear()
    return running


@pytest.fixture
async def client(server: Faulty) -> AsyncIterator[ModelServingClient]:
    tokens = iter(range(1000))
    config = ServingConfig(timeout_seconds=2, retries=2, max_concurrency=4)
    client = ModelServingClient(server.url, lambda: {"Authorization": f"Bearer {next(tokens)}"}, config)
    yield client
    await client.aclose()


def busy(retry_after: str) -> Response:
    return JSONResponse({"message": "slow down"}, 429, {"Retry-After": retry_after})


def down(status: int = 503) -> Response:
    return JSONResponse({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "moving"}, status)


async def test_an_answer_names_endpoint_model_tokens_and_latency(client: ModelServingClient):
    answer = await client.predict("chat", "how are you?")
    assert (answer.text, answer.endpoint, answer.model) == ("well", "chat", "chat-model")
    assert (answer.input_tokens, answer.output_tokens) == (7, 3)
    assert answer.latency_ms > 0


async def test_credentials_are_fresh_on_every_request(client: ModelServingClient, server: Faulty):
    for _ in range(2):
        await client.predict("chat", "hello")
    sent = [headers["authorization"] for _, _, headers in server.requests]
    assert len(set(sent)) == 2
    assert all(value.startswith("Bearer ") and value != "Bearer replaced by sign" for value in sent)


@pytest.mark.parametrize("fault", [busy("0.01"), down(), down(500), "drop", Response("<html>bad gateway</html>", 502)])
async def test_a_passing_fault_is_retried(client: ModelServingClient, server: Faulty, fault: str | Response):
    server.faults["chat"] = [fault, fault]
    assert (await client.predict("chat", "hello")).text == "well"
    assert server.asked("chat") == 3


async def test_retry_after_is_honoured(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [busy("0.4")]
    answer = await client.predict("chat", "hello")
    assert answer.latency_ms >= 400


async def test_a_retry_after_beyond_the_deadline_is_told_and_not_waited_for(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [busy("30")]
    with call_scope(timeout=1.5), pytest.raises(RateLimited) as caught:
        await client.predict("chat", "hello")
    assert caught.value.retry_after == 30
    assert server.asked("chat") == 1


async def test_retry_after_may_be_a_date(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [busy("Fri, 31 Dec 2999 23:59:59 GMT")]
    with pytest.raises(RateLimited) as caught:
        await client.predict("chat", "hello")
    assert caught.value.retry_after > 1e9


async def test_it_gives_up_after_the_last_retry(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [down()] * 9
    with pytest.raises(Unavailable, match="chat: 503 moving"):
        await client.predict("chat", "hello")
    assert server.asked("chat") == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidInput),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, NotFound),
        (413, InvalidInput),
        (501, ConfigurationError),
    ],
)
async def test_what_a_retry_cannot_mend_is_not_retried(
    client: ModelServingClient, server: Faulty, status: int, error: type
):
    server.faults["chat"] = [JSONResponse({"message": "no"}, status)]
    with pytest.raises(error, match=f"{status} no"):
        await client.predict("chat", "hello")
    assert server.asked("chat") == 1


async def test_a_slow_answer_meets_the_deadline(client: ModelServingClient, server: Faulty):
    await client.task("chat")
    server.faults["chat"] = ["slow"]
    with call_scope(timeout=0.1), pytest.raises(DeadlineExceeded, match="chat"):
        await client.predict("chat", "hello")


async def test_a_deadline_during_retries_says_what_failed_before(client: ModelServingClient, server: Faulty):
    await client.task("chat")
    server.faults["chat"] = [down(), "slow"]
    with call_scope(timeout=1), pytest.raises(DeadlineExceeded, match=r"before that: .*503 moving"):
        await client.predict("chat", "hello")


async def test_an_attempt_that_hangs_is_given_up_and_repeated(server: Faulty):
    config = ServingConfig(timeout_seconds=0.3, retries=1)
    client = ModelServingClient(server.url, dict, config)
    server.faults["chat"] = ["slow"]
    assert (await client.predict("chat", "hello")).text == "well"
    await client.aclose()


async def test_a_dead_endpoint_is_unavailable():
    client = ModelServingClient(f"http://127.0.0.1:{free_port()}", dict, ServingConfig(retries=1))
    with pytest.raises(Unavailable, match="endpoint chat"):
        await client.predict("chat", "hello")
    await client.aclose()


async def test_the_breaker_opens_and_lets_one_caller_try_after_its_pause(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [down()] * 6
    for _ in range(2):
        with pytest.raises(Unavailable, match="503"):
            await client.predict("chat", "hello")
    with pytest.raises(Unavailable, match="not asked again") as caught:
        await client.predict("chat", "hello")
    assert server.asked("chat") == 6
    assert 0 < caught.value.retry_after <= 10
    client._breakers["chat"].open_until = 0  # the pause is over
    assert (await client.predict("chat", "hello")).text == "well"
    assert (await client.predict("chat", "hello")).text == "well"


async def test_being_rate_limited_does_not_open_the_breaker(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [busy("0")] * 9
    for _ in range(3):
        with pytest.raises(RateLimited):
            await client.predict("chat", "hello")
    assert (await client.predict("chat", "hello")).text == "well"


async def test_the_task_decides_the_format(client: ModelServingClient, server: Faulty):
    answer = await client.predict("risk", [{"amount": 1.0}, {"amount": 2.0}])
    assert answer.data == [0.5, 0.5]
    await client.predict("risk", {"amount": 1.0})
    await client.predict("risk", {"inputs": [[1.0]]})
    await client.predict("risk", [[1.0]])
    bodies = [body for _, body, _ in server.requests]
    assert bodies == [
        {"dataframe_records": [{"amount": 1.0}, {"amount": 2.0}]},
        {"dataframe_records": [{"amount": 1.0}]},
        {"inputs": [[1.0]]},
        {"inputs": [[1.0]]},
    ]


@pytest.mark.parametrize(
    ("endpoint", "data"), [("embed", "hello"), ("chat", {"amount": 1}), ("chat", []), ("chat", [{"text": "hi"}])]
)
async def test_the_wrong_kind_of_data_is_refused_unsent(
    client: ModelServingClient, server: Faulty, endpoint: str, data: object
):
    with pytest.raises(InvalidInput):
        await client.predict(endpoint, data)
    assert server.requests == []


class Mood(BaseModel):
    mood: str


async def test_an_answer_that_breaks_its_schema_is_refused(client: ModelServingClient, server: Faulty):
    with pytest.raises(InvalidOutput, match="Mood"):
        await client.predict("chat", "hello", schema=Mood)
    format_sent = server.requests[0][1]["response_format"]
    assert format_sent["json_schema"]["schema"]["required"] == ["mood"]


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}])
async def test_an_answer_without_a_choice_is_refused(client: ModelServingClient, server: Faulty, body: dict):
    server.faults["chat"] = [JSONResponse(body)]
    with pytest.raises(InvalidOutput):
        await client.predict("chat", "hello")


async def test_an_answer_that_is_not_json_is_unavailable(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [Response("{half", media_type="application/json")] * 3
    with pytest.raises(Unavailable):
        await client.predict("chat", "hello")


async def test_the_budget_of_the_caller_bounds_and_is_charged(client: ModelServingClient, server: Faulty):
    with call_scope(tokens=12) as scope:
        await client.predict("chat", "hello", max_tokens=100)
        assert scope.tokens_left() == 2
        await client.predict("chat", "hello", max_tokens=100)
        with pytest.raises(BudgetExceeded):
            await client.predict("chat", "hello")
    assert [body["max_tokens"] for _, body, _ in server.requests] == [12, 2]


async def test_no_model_on_the_critical_path(client: ModelServingClient, server: Faulty):
    with call_scope(llm_allowed=False):
        with pytest.raises(ForbiddenCall):
            await client.predict("chat", "hello")
        with pytest.raises(ForbiddenCall):
            await anext(client.stream("chat", "hello"))
        assert (await client.predict("risk", {"amount": 1.0})).data == [0.5]
    assert server.asked("chat") == 0


async def test_a_stream_yields_its_pieces(client: ModelServingClient, server: Faulty):
    server.faults["chat"] = [down()]
    assert [piece async for piece in client.stream("chat", "hello")] == ["all ", "is ", "well"]


async def test_a_stream_that_breaks_off_says_so(client: ModelServingClient, server: Faulty):
    half = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "all"}}]}\n\n'

    async def broken() -> AsyncIterator[bytes]:
        yield half
        raise ConnectionResetError("told to drop the connection")

    server.faults["chat"] = [StreamingResponse(broken(), media_type="text/event-stream")]
    pieces = []
    with pytest.raises(Unavailable):
        async for piece in client.stream("chat", "hello"):
            pieces.append(piece)
    assert pieces == ["all"]


async def test_a_stream_that_stands_still_meets_the_deadline(client: ModelServingClient, server: Faulty):
    async def still() -> AsyncIterator[bytes]:
        yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "all"}}]}\n\n'
        await asyncio.sleep(5)

    await client.task("chat")
    server.faults["chat"] = [StreamingResponse(still(), media_type="text/event-stream")]
    with call_scope(timeout=0.3), pytest.raises(DeadlineExceeded):
        async for _ in client.stream("chat", "hello"):
            pass


async def test_embeddings_keep_the_order_of_the_texts(client: ModelServingClient, server: Faulty):
    texts = ["x" * n for n in range(1, 231)]
    vectors = await client.get_embeddings("embed", texts)
    assert [vector[0] for vector in vectors] == [float(n) for n in range(1, 231)]
    assert [len(body["input"]) for _, body, _ in server.requests] == [100, 100, 30]
    assert await client.get_embeddings("embed", []) == []


async def test_a_missing_vector_is_refused(client: ModelServingClient, server: Faulty):
    one = {"object": "embedding", "index": 0, "embedding": [1.0]}
    server.faults["embed"] = [JSONResponse({"object": "list", "data": [one], "model": "m"})]
    with pytest.raises(InvalidOutput, match="2 texts"):
        await client.get_embeddings("embed", ["a", "b"])


async def test_a_batch_keeps_its_order_and_its_errors(client: ModelServingClient, server: Faulty):
    answers = await client.predict_batch("chat", ["one", {"no": "chat"}, "three"])
    assert [getattr(answer, "text", type(answer)) for answer in answers] == ["well", InvalidInput, "well"]


async def test_the_router_falls_back_and_says_why(client: ModelServingClient, server: Faulty):
    router = ModelRouter(client, quality="chat", fast="fast")
    assert (await router.route("hello")).reason is None
    server.faults["chat"] = [down()] * 3
    rescued = await router.route("hello")
    assert (rescued.endpoint, rescued.text) == ("fast", "well")
    assert "503 moving" in rescued.reason


async def test_the_router_says_when_nobody_answers(client: ModelServingClient, server: Faulty):
    server.faults["chat"], server.faults["fast"] = [down()] * 3, [down()] * 3
    with pytest.raises(Unavailable, match=r"chat.*fast"):
        await ModelRouter(client, quality="chat", fast="fast").route("hello")


@pytest.mark.parametrize("priority", ["custom", "cheapest"])
async def test_the_router_names_a_priority_it_does_not_have(client: ModelServingClient, priority: str):
    with pytest.raises(ConfigurationError, match=priority):
        await ModelRouter(client, quality="chat").route("hello", priority)


@pytest.fixture(scope="module")
def spec(environment: dict[str, str]) -> EndpointSpec:
    return EndpointSpec(f"embeddings-{new_id()[:8]}", load_settings(environment).embedding_entity, EMBEDDINGS)


@pytest.fixture(scope="module")
def endpoints(environment: dict[str, str], spec: EndpointSpec) -> Iterator[Endpoints]:
    endpoints = Endpoints(Workspace(load_settings(environment)))
    yield endpoints
    endpoints.workspace.client.serving_endpoints.delete(spec.name)


def test_an_endpoint_is_made_changed_and_left_alone(endpoints: Endpoints, spec: EndpointSpec):
    wider = replace(spec, workload_size="Medium")
    assert [endpoints.ensure(wish) for wish in (spec, spec, wider, wider)] == [
        "created",
        "unchanged",
        "updated",
        "unchanged",
    ]


def test_two_deployments_at_once_make_one_endpoint(endpoints: Endpoints, spec: EndpointSpec):
    twin = replace(spec, name=f"{spec.name}-twin")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(endpoints.ensure, [twin] * 4))
    assert set(done) <= {"created", "unchanged"}
    endpoints.workspace.client.serving_endpoints.delete(twin.name)


def test_a_provided_endpoint_must_be_there_with_its_task(endpoints: Endpoints, spec: EndpointSpec):
    endpoints.ensure(spec)
    assert endpoints.ensure(replace(spec, entity="")) == "unchanged"
    with pytest.raises(ConfigurationError, match="not llm/v1/chat"):
        endpoints.ensure(replace(spec, entity="", task=CHAT))
    with pytest.raises(NotFound, match="nobody-made-it"):
        endpoints.ensure(replace(spec, name="nobody-made-it", entity=""))


def test_an_entity_that_does_not_exist_is_said(endpoints: Endpoints, spec: EndpointSpec):
    with pytest.raises(SotaError, match="no-such-model"):
        endpoints.ensure(replace(spec, name=f"{spec.name}-none", entity="system.ai.no-such-model"))

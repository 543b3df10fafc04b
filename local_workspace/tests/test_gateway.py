"""The AI Gateway with the genuine SDK: limits, keywords, fallbacks, tables, metrics."""

import contextlib
import json
import re
import sqlite3
import time
from collections import Counter

import openai
import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, NotImplemented
from databricks.sdk.service.serving import (
    AiGatewayGuardrailParameters,
    AiGatewayGuardrails,
    AiGatewayInferenceTableConfig,
    AiGatewayRateLimit,
    AiGatewayRateLimitKey,
    AiGatewayRateLimitRenewalPeriod,
    AiGatewayUsageTrackingConfig,
    ApiKeyAuth,
    BearerTokenAuth,
    CustomProviderConfig,
    DatabricksModelServingConfig,
    EmailNotifications,
    ExternalModelProvider,
    FallbackConfig,
    RateLimit,
    RateLimitKey,
    RateLimitRenewalPeriod,
    Route,
    ServedEntityInput,
    TrafficConfig,
)

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.upstreams import HELLO, Upstream, create, external, upstream

__all__ = ["upstream"]  # a fixture
MINUTE = AiGatewayRateLimitRenewalPeriod.MINUTE


def ask(workspace, endpoint: str, **body):
    return workspace.http.post(f"/serving-endpoints/{endpoint}/invocations", json={"messages": HELLO} | body)


def limit(calls: int | None = None, key: AiGatewayRateLimitKey = AiGatewayRateLimitKey.ENDPOINT, **options):
    return AiGatewayRateLimit(renewal_period=MINUTE, calls=calls, key=key, **options)


def rows(workspace, sql: str) -> list[dict]:
    body = {"warehouse_id": "10ca1000000000a1", "statement": sql, "wait_timeout": "50s"}
    answer = workspace.http.post("/api/2.0/sql/statements", json=body).json()
    assert answer["status"]["state"] == "SUCCEEDED", answer
    columns = [column["name"] for column in answer["manifest"]["schema"]["columns"]]
    return [dict(zip(columns, row, strict=True)) for row in answer["result"].get("data_array", [])]


def rows_when_there(workspace, sql: str, count: int) -> list[dict]:
    deadline = time.monotonic() + 30
    while len(found := rows(workspace, sql)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_traffic_follows_its_shares_and_a_path_reaches_one_entity(workspace, upstream):
    create(workspace, "shares", external(upstream, "most"), external(upstream, "few"), shares=(80, 20))
    found = Counter(ask(workspace, "shares").headers["served-model-name"] for _ in range(200))
    # 200 draws at 20 %: 5 standard deviations (5.7 each) are passed by chance once in a million.
    assert abs(found["few"] - 40) < 29
    assert found["few"] + found["most"] == 200
    one = workspace.http.post("/serving-endpoints/shares/served-models/few/invocations", json={"messages": HELLO})
    assert (one.headers["served-model-name"], one.json()["model"]) == ("few", "few")
    wrong = workspace.http.post("/serving-endpoints/shares/served-models/none/invocations", json={"messages": HELLO})
    assert (wrong.status_code, "it has most, few" in wrong.json()["message"]) == (404, True)


def test_calls_and_tokens_are_limited(workspace, upstream):
    endpoints = workspace.client.serving_endpoints
    create(workspace, "limited", external(upstream, "m"))
    shown = endpoints.put_ai_gateway("limited", rate_limits=[limit(2)])
    assert shown.rate_limits == [limit(2)]
    assert endpoints.get("limited").ai_gateway.rate_limits == [limit(2)]
    answers = [ask(workspace, "limited") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert 50 < int(answers[2].headers["retry-after"]) <= 61
    tokens = limit(key=AiGatewayRateLimitKey.USER, tokens=30)
    endpoints.put_ai_gateway("limited", rate_limits=[tokens])
    assert ask(workspace, "limited").status_code == 200  # 15 tokens each
    assert "total_tokens" not in ask(workspace, "limited", stream=True).text  # counted, though not asked for
    assert ask(workspace, "limited").status_code == 429
    endpoints.put_ai_gateway("limited", rate_limits=[])
    legacy = RateLimit(calls=1, renewal_period=RateLimitRenewalPeriod.MINUTE, key=RateLimitKey.USER)
    assert endpoints.put("limited", rate_limits=[legacy]).rate_limits == [legacy]
    assert [ask(workspace, "limited").status_code for _ in range(2)] == [200, 429]
    base = f"{workspace.host}/serving-endpoints"
    client = openai.OpenAI(base_url=base, api_key=workspace.token, max_retries=0)
    with client, pytest.raises(openai.RateLimitError, match="LIMIT_EXCEEDED"):
        client.chat.completions.create(model="limited", messages=HELLO)


def test_a_limit_for_one_principal_stands_for_that_of_all(workspace, upstream):
    me = workspace.client.current_user.me().user_name
    user = AiGatewayRateLimitKey.USER
    create(workspace, "mine", external(upstream, "m"))
    workspace.client.serving_endpoints.put_ai_gateway(
        "mine", rate_limits=[limit(0, user), limit(1, user, principal=me), limit(5)]
    )
    assert [ask(workspace, "mine").status_code for _ in range(2)] == [200, 429]
    workspace.client.serving_endpoints.put_ai_gateway("mine", rate_limits=[limit(0, user)])
    assert ask(workspace, "mine").status_code == 429
    for wrong, error, named in [
        (limit(1, AiGatewayRateLimitKey.USER_GROUP, principal="g"), NotImplemented, "user_group"),
        (limit(1, AiGatewayRateLimitKey.SERVICE_PRINCIPAL), BadRequest, "principal"),
        (limit(), BadRequest, "calls or tokens"),
        (limit(-1), BadRequest, "calls"),
    ]:
        with pytest.raises(error, match=named):
            workspace.client.serving_endpoints.put_ai_gateway("mine", rate_limits=[wrong])


def test_keywords_are_refused_in_requests_and_answers(workspace, upstream):
    create(workspace, "words", external(upstream, "m"))
    words = AiGatewayGuardrailParameters(invalid_keywords=["ACME"])
    workspace.client.serving_endpoints.put_ai_gateway("words", guardrails=AiGatewayGuardrails(input=words))
    before = len(Upstream.seen)
    refused = ask(workspace, "words", messages=[{"role": "user", "content": [{"type": "text", "text": "the acme co"}]}])
    assert (refused.status_code, len(Upstream.seen) - before) == (400, 0)
    assert "input_guardrail_triggered" in refused.json()["message"]
    words = AiGatewayGuardrailParameters(invalid_keywords=["i am"])
    workspace.client.serving_endpoints.put_ai_gateway("words", guardrails=AiGatewayGuardrails(output=words))
    refused = ask(workspace, "words")
    assert (refused.status_code, "output_guardrail_triggered" in refused.text) == (400, True)
    assert "streams" in ask(workspace, "words", stream=True).json()["message"]


def test_the_next_entity_answers_for_one_that_cannot(workspace, upstream):
    entities = [external(upstream, name) for name in ("429", "503", "good", "400")]
    create(workspace, "fallback", *entities, shares=(100, 0, 0, 0))
    assert ask(workspace, "fallback").status_code == 429
    workspace.client.serving_endpoints.put_ai_gateway("fallback", fallback_config=FallbackConfig(enabled=True))
    answer = ask(workspace, "fallback")
    assert (answer.status_code, answer.headers["served-model-name"]) == (200, "good")
    shares = {"429": 0, "503": 0, "good": 0, "400": 100}
    routes = [Route(share, served_entity_name=name) for name, share in shares.items()]
    workspace.client.serving_endpoints.update_config_and_wait("fallback", traffic_config=TrafficConfig(routes=routes))
    assert ask(workspace, "fallback").status_code == 400  # the request's own fault: nobody else is asked
    local = ServedEntityInput(entity_name="system.ai.local_chat", entity_version="1", name="local")
    with pytest.raises(InvalidParameterValue, match="fallback_config"):
        workspace.client.serving_endpoints.update_config("fallback", served_entities=[local])


def test_requests_are_in_the_inference_table_within_seconds(workspace, upstream):
    endpoints = workspace.client.serving_endpoints
    create(workspace, "kept", external(upstream, "m"), external(upstream, "500"), shares=(100, 0))
    table = AiGatewayInferenceTableConfig("main", True, "default", "kept")
    endpoints.put_ai_gateway(
        "kept", inference_table_config=table, usage_tracking_config=AiGatewayUsageTrackingConfig(enabled=True)
    )
    message = [{"role": "user", "content": 'häll\'o "x" 漢字'}]
    good = ask(workspace, "kept", messages=message, client_request_id="c-1", usage_context={"team": "fraud"})
    stream = ask(workspace, "kept", stream=True)
    bad = ask(workspace, "kept", max_tokens="5")
    failed = workspace.http.post("/serving-endpoints/kept/served-models/500/invocations", json={"messages": HELLO})
    assert [a.status_code for a in (good, stream, bad, failed)] == [200, 200, 400, 500]
    assert "client_request_id" not in Upstream.seen[-3]["body"]
    found = rows_when_there(workspace, "SELECT * FROM main.default.kept_payload", 4)
    by_id = {row["databricks_request_id"]: row for row in found}
    kept = [by_id[answer.headers["x-request-id"]] for answer in (good, stream, bad, failed)]
    assert [row["status_code"] for row in kept] == ["200", "200", "400", "500"]
    assert (kept[0]["client_request_id"], kept[1]["client_request_id"]) == ("c-1", None)
    assert json.loads(kept[0]["request"])["messages"] == message
    assert json.loads(kept[0]["response"]) == good.json()
    assert kept[1]["response"] == stream.text
    assert "max_tokens" in json.loads(kept[2]["response"])["message"]
    assert (kept[0]["requester"], kept[0]["sampling_fraction"]) == (workspace.client.current_user.me().user_name, "1.0")
    assert (kept[0]["logging_error_codes"], int(kept[0]["execution_duration_ms"]) >= 0) == ("[]", True)
    assert kept[0]["served_entity_id"] != kept[3]["served_entity_id"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert kept[0]["request_date"] == kept[0]["request_time"][:10] == today
    used = rows_when_there(workspace, "SELECT * FROM main.system_serving.endpoint_usage", 4)
    used = {row["databricks_request_id"]: row for row in used}
    first, second = used[good.headers["x-request-id"]], used[stream.headers["x-request-id"]]
    assert (first["input_token_count"], first["output_token_count"], second["output_token_count"]) == ("10", "5", "5")
    assert (first["request_streaming"], second["request_streaming"]) == ("false", "true")
    assert json.loads(first["usage_context"]) == {"team": "fraud"}


def test_an_answered_request_is_kept_though_all_is_killed(tmp_path, upstream):
    with start_workspace(tmp_path) as first:
        create(first, "kept", external(upstream, "m"))
        table = AiGatewayInferenceTableConfig("main", True, "default")
        first.client.serving_endpoints.put_ai_gateway("kept", inference_table_config=table)
        asked = [ask(first, "kept").headers["x-request-id"] for _ in range(20)]
        for engine in psutil.Process(first.process.pid).children():
            engine.kill()
        first.process.kill()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
        state.execute("UPDATE serving_endpoints SET config = json_remove(config, '$.task')")  # as an older version did
    with start_workspace(tmp_path) as second:
        assert second.client.serving_endpoints.get("kept").task == "llm/v1/chat"
        found = rows_when_there(second, "SELECT DISTINCT databricks_request_id FROM main.default.kept_payload", 20)
        assert {row["databricks_request_id"] for row in found} == set(asked)


@pytest.mark.parametrize(
    "content",
    [b'{"messages":[{"role":"user","content":"\\ud800"}]}', b'{"messages":[{"role":"user","content":"x","n":NaN}]}'],
)
def test_what_json_cannot_say_is_400_and_recorded(workspace, upstream, content):
    name = f"odd-{len(content)}"
    create(workspace, name, external(upstream, "m"))
    table = AiGatewayInferenceTableConfig("main", True, "default")
    workspace.client.serving_endpoints.put_ai_gateway(name, inference_table_config=table)
    refused = workspace.http.post(f"/serving-endpoints/{name}/invocations", content=content)
    assert (refused.status_code, refused.json()["error_code"]) == (400, "BAD_REQUEST")
    assert ask(workspace, name, usage_context={"a": "b"}).status_code == 200
    found = rows_when_there(workspace, f"SELECT * FROM main.default.odd_{len(content)}_payload", 2)
    assert sorted(row["status_code"] for row in found) == ["200", "400"]


def test_an_answer_that_is_no_completion_is_503(workspace, upstream):
    create(workspace, "html", external(upstream, "html"))
    assert ask(workspace, "html").text == "<p>Welcome</p>"
    answer = workspace.http.post("/serving-endpoints/responses", json={"model": "html", "input": "x"})
    assert (answer.status_code, "nothing of its task" in answer.json()["message"]) == (503, True)
    words = AiGatewayGuardrailParameters(invalid_keywords=["x"])
    workspace.client.serving_endpoints.put_ai_gateway("html", guardrails=AiGatewayGuardrails(output=words))
    assert ask(workspace, "html").status_code == 503


def test_what_is_too_long_is_not_kept_and_says_so(workspace, upstream):
    create(workspace, "long", external(upstream, "m"))
    table = AiGatewayInferenceTableConfig("main", True, "default")
    workspace.client.serving_endpoints.put_ai_gateway("long", inference_table_config=table)
    assert ask(workspace, "long", messages=[{"role": "user", "content": "x" * 10_000_000}]).status_code == 200
    row = rows_when_there(workspace, "SELECT * FROM main.default.long_payload", 1)[0]
    assert (row["request"], json.loads(row["logging_error_codes"])) == (None, ["MAX_REQUEST_SIZE_EXCEEDED"])
    assert row["response"]


def test_a_table_that_cannot_be_is_refused(workspace, upstream):
    create(workspace, "nowhere", external(upstream, "m"))
    put = workspace.client.serving_endpoints.put_ai_gateway
    with pytest.raises(NotFound, match=r"Schema 'main\.nowhere'"):
        put("nowhere", inference_table_config=AiGatewayInferenceTableConfig("main", True, "nowhere"))
    rows(workspace, "CREATE TABLE main.default.taken_payload (a INT)")
    with pytest.raises(BadRequest, match="has no column client_request_id"):
        put("nowhere", inference_table_config=AiGatewayInferenceTableConfig("main", True, "default", "taken"))
    with pytest.raises(BadRequest, match="catalog_name"):
        put("nowhere", inference_table_config=AiGatewayInferenceTableConfig(enabled=True))
    assert workspace.client.serving_endpoints.get("nowhere").ai_gateway is None
    with pytest.raises(NotFound):
        put("nobody", rate_limits=[limit(1)])


def test_metrics_count_what_was_answered(workspace, upstream):
    create(workspace, "counted", external(upstream, "m"), external(upstream, "500"), shares=(100, 0))
    ask(workspace, "counted")
    ask(workspace, "counted", stream=True, stream_options={"include_usage": True})
    ask(workspace, "counted", temperature=9)
    workspace.http.post("/serving-endpoints/counted/served-models/500/invocations", json={"messages": HELLO})
    text = workspace.client.serving_endpoints.export_metrics("counted").contents.read().decode()
    values = dict(re.findall(r'^(\w+)\{endpoint_name="counted"\} (\S+)$', text, re.MULTILINE))
    assert {name: float(value) for name, value in values.items() if "count" in name} == {
        "request_count_total": 4,
        "request_4xx_count_total": 1,
        "request_5xx_count_total": 1,
        "input_token_count_total": 20,
        "output_token_count_total": 10,
        "request_latency_ms_count": 4,
    }
    assert 'request_latency_ms_bucket{endpoint_name="counted",le="+Inf"} 4.0' in text


def test_other_providers_are_reached_with_their_keys(workspace, upstream):
    workspace.client.secrets.create_scope("providers")
    workspace.client.secrets.put_secret("providers", "key", string_value="k-1")
    custom = ExternalModelProvider.CUSTOM
    key = CustomProviderConfig(upstream, api_key_auth=ApiKeyAuth("x-key", value="{{secrets/providers/key}}"))
    bearer = CustomProviderConfig(
        f"{upstream}/chat/completions", bearer_token_auth=BearerTokenAuth(token_plaintext="t")
    )
    for name, config in (("by-key", key), ("by-bearer", bearer)):
        entity = external(upstream, name, provider=custom, custom_provider_config=config, openai_config=None)
        made = create(workspace, name, entity)
        assert ask(workspace, name).status_code == 200
        assert Upstream.seen[-1]["path"] == "/v1/chat/completions"
        assert '"t"' not in json.dumps(made.as_dict())
        assert "plaintext" not in json.dumps(made.as_dict())
    assert Upstream.seen[-2]["headers"]["x-key"] == "k-1"
    assert Upstream.seen[-1]["headers"]["Authorization"] == "Bearer t"


def databricks(workspace, name: str, url: str | None = None) -> ServedEntityInput:
    config = DatabricksModelServingConfig(url or workspace.host, databricks_api_token_plaintext=workspace.token)
    provider = ExternalModelProvider.DATABRICKS_MODEL_SERVING
    return external("", name, provider=provider, databricks_model_serving_config=config, openai_config=None)


def test_an_endpoint_may_lead_to_another_but_never_to_itself(workspace, upstream):
    create(workspace, "last", external(upstream, "m"))
    create(workspace, "middle", databricks(workspace, "last"))
    create(workspace, "first", databricks(workspace, "middle"))
    assert ask(workspace, "first").json()["model"] == "m"
    with pytest.raises(InvalidParameterValue, match="last → first → middle → last"):
        workspace.client.serving_endpoints.update_config("last", served_entities=[databricks(workspace, "first")])
    aliased = workspace.host.replace("127.0.0.1", "localhost")
    with pytest.raises(InvalidParameterValue, match="call itself"):
        create(workspace, "self", external(f"{aliased}/serving-endpoints", "self"))


def test_settings_are_stored_and_shown(workspace, upstream):
    told = EmailNotifications(on_update_failure=["a@b.c"])
    made = create(workspace, "stored", external(upstream, "m"), email_notifications=told, budget_policy_id="p")
    assert (made.email_notifications, made.budget_policy_id) == (told, "p")
    told = EmailNotifications(on_update_success=["d@e.f"])
    changed = workspace.client.serving_endpoints.update_notifications("stored", email_notifications=told)
    assert (changed.name, changed.email_notifications) == ("stored", told)
    assert workspace.client.serving_endpoints.get("stored").email_notifications == told
    document = json.loads(workspace.client.serving_endpoints.get_open_api("stored").contents.read())
    assert "messages" in json.dumps(document["paths"]["/invocations"]["post"]["requestBody"])
    with pytest.raises(BadRequest, match="no such log"):
        workspace.client.serving_endpoints.logs("stored", "m")
    assert isinstance(workspace.client, WorkspaceClient)

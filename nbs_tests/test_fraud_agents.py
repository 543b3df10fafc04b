"""The example's agents and graph on a real workspace with a real model, and without what they need."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lib.agents import Services
from lib.catalog import Catalog
from lib.config import AgentConfig, MemoryConfig, ServingConfig
from lib.core import AgentInput, ConfigurationError, InvalidInput, Unavailable, new_id
from lib.fraud.agents import Case, FraudOptions, RiskScorerAgent, assess, factual_sentence, find_similar
from lib.fraud.data import FRAUD_MIGRATIONS, Profiles, Transaction, load_history, load_profiles, simulate, split_history
from lib.fraud.graph import seed_memory
from lib.memory import MemoryStore
from lib.prompts import Prompt, PromptCache, Snapshot
from lib.router import AgentRouter
from lib.serving import CHAT, EMBEDDINGS, Endpoints, EndpointSpec, ModelServingClient
from lib.settings import load_settings
from lib.workspace import Workspace
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import scripted_endpoint

AGENTS = ROOT / "app" / "config" / "agents.yaml"


def payment(amount: float = 20, **changes: object) -> Transaction:
    known = {"transaction_id": new_id(), "timestamp": datetime(2026, 3, 1, tzinfo=UTC), "customer_id": "C1"}
    return Transaction(**known | {"amount": amount, "merchant": "M1", "location": "Ghent"} | changes)


def wire(one: Transaction) -> dict:
    return one.model_dump(mode="json", exclude_none=True)


@pytest.fixture
def profiles() -> Profiles:
    known = Profiles()
    for day in range(40):
        when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
        known.observe(payment(18 + day % 5, timestamp=when))
        known.learn(payment(18 + day % 5, timestamp=when), is_fraud=False)
        known.learn(payment(18, timestamp=when, merchant="M7"), is_fraud=day > 30)
    return known


def test_each_rule_raises_the_risk_and_says_so(profiles: Profiles):
    usual = assess(payment(), profiles)
    assert usual.score < 0.1 and usual.reasons == ["nothing unusual for this customer and this terminal"]
    for changes, word in (
        ({"amount": 80}, "standard deviations above the customer's mean"),
        ({"amount": 80, "customer_id": "new"}, "standard deviations above the population's mean"),
        ({"merchant": "M7"}, "at M7 expected to be fraud"),
        ({"location": "Liège"}, "first payment in Liège"),
        ({"amount": 500}, "above every genuine payment"),
    ):
        risk = assess(payment(**changes), profiles)
        assert risk.score > usual.score, changes
        assert any(word in reason for reason in risk.reasons), risk.reasons


@pytest.mark.parametrize("amount", [0, 0.01, 1e9])
def test_the_risk_is_a_probability_for_any_amount_and_anybody(profiles: Profiles, amount: float):
    for known in (profiles, Profiles()):
        assert 0 <= assess(payment(amount), known).score <= 1


def test_a_label_changes_no_risk(profiles: Profiles):
    assert assess(payment(80, is_fraud=True), profiles) == assess(payment(80, is_fraud=False), profiles)


def test_the_action_follows_the_score():
    options = FraudOptions(low=0.1, high=0.6)
    assert [options.action(score) for score in (0, 0.099, 0.1, 0.599, 0.6, 1)] == ["approve"] * 2 + ["review"] * 2 + [
        "block"
    ] * 2


async def test_the_scorer_answers_within_its_deadline_and_names_a_wrong_field(profiles: Profiles):
    scorer = RiskScorerAgent("risk_scorer", AgentConfig(class_="lib.fraud.agents:RiskScorerAgent"))
    scorer.profiles = profiles
    answer = await scorer.run(AgentInput(agent_name="risk_scorer", data=wire(payment(80))))
    assert answer.result["recommended_action"] == "block" and answer.metadata.model == "rules"
    assert not answer.metadata.degraded
    for field in ("transaction_id", "timestamp", "customer_id", "amount", "merchant", "location"):
        data = wire(payment())
        del data[field]
        with pytest.raises(InvalidInput) as caught:
            await scorer.run(AgentInput(agent_name="risk_scorer", data=data))
        assert caught.value.field == f"data.{field}"


def test_a_wrong_option_is_named():
    config = AgentConfig(class_="lib.fraud.agents:RiskScorerAgent", options={"low": "none"})
    with pytest.raises(ConfigurationError, match=r"agents\.risk_scorer\.options\.low"):
        RiskScorerAgent("risk_scorer", config)


async def test_a_graph_without_its_agents_is_a_configuration_error(tmp_path: Path):
    path = tmp_path / "agents.yaml"
    path.write_text("agents: {fraud_case: {class: 'lib.fraud.graph:FraudCaseAgent'}}")
    with pytest.raises(ConfigurationError, match="fraud_case needs an agent risk_scorer"):
        await AgentRouter.from_yaml(path).initialize()


def prompts(**changed: str) -> PromptCache:
    texts = {path.stem: path.read_text() for path in (ROOT / "app" / "prompts").glob("*.txt")} | changed
    cache = PromptCache(lambda: {(name, 3): Prompt(name, 3, text) for name, text in texts.items()})
    cache.refresh()
    return cache


@pytest.fixture(scope="module")
async def services(environment: dict[str, str]) -> AsyncIterator[Services]:
    """Everything, in a schema of its own, with the example's history in it."""
    settings = replace(load_settings(environment), schema=f"fraud_{new_id()[:8]}")
    workspace = Workspace(settings)
    catalog = Catalog(workspace, settings)
    catalog.setup()
    catalog.migrate(FRAUD_MIGRATIONS)
    for spec in (
        EndpointSpec(settings.chat_endpoint, settings.chat_entity, CHAT),
        EndpointSpec(settings.embedding_endpoint, settings.embedding_entity, EMBEDDINGS),
    ):
        Endpoints(workspace).ensure(spec)
    history, _ = split_history(simulate())
    load_history(workspace, settings, history)
    config = ServingConfig(timeout_seconds=60)
    serving = ModelServingClient(workspace.client.config.host, workspace.auth_headers, config)
    memory = MemoryStore(workspace, serving, settings, MemoryConfig())
    memory.ensure()
    profiles = load_profiles(workspace, settings)
    assert (
        await seed_memory(memory, profiles, history, n=20) == await seed_memory(memory, profiles, history, n=20) == 20
    )
    assert await memory.count() == 20
    yield Services(settings=settings, serving=serving, prompts=prompts(), memory=memory, workspace=workspace)
    await serving.aclose()


async def router(services: Services, *more: Path) -> AgentRouter:
    assert services.settings
    variables = {"CHAT_ENDPOINT": services.settings.chat_endpoint}
    made = AgentRouter.from_yaml(AGENTS, *more, services=services, variables=variables)
    await made.initialize()
    return made


def kept(services: Services, subject: str) -> list[dict]:
    assert services.workspace and services.settings
    table = services.settings.table("decisions")
    return services.workspace.sql(f"SELECT * FROM {table} WHERE subject_id = :subject", subject=subject)


def suspicious(**changes: object) -> Transaction:
    return payment(950, customer_id="C0008", merchant="M0081", location="Ostend", **changes)


async def test_a_harmless_payment_is_decided_without_a_model(services: Services):
    harmless = payment(15, customer_id="C0008", merchant="M0081", location="Ostend")
    answer = await (await router(services)).route("fraud_case", wire(harmless))
    assert answer.result["path"] == "low_risk" and answer.result["recommended_action"] == "approve"
    assert answer.result["fraud_score"] == answer.result["risk_score"] < 0.1 and answer.result["similar_cases"] == []
    assert (answer.metadata.model, answer.metadata.prompt, answer.metadata.output_tokens) == ("rules", None, 0)
    assert answer.metadata.stored and not answer.metadata.degraded
    assert "15.00" in answer.result["narrative"] and "approved" in answer.result["narrative"]


async def test_a_suspicious_payment_goes_the_whole_way_and_is_kept(services: Services):
    case = suspicious(is_fraud=False)
    answer = await (await router(services)).route("fraud_case", AgentInput(agent_name="fraud_case", data=wire(case)))
    found, metadata = answer.result, answer.metadata
    assert found["path"] == "model" and not metadata.degraded and metadata.reason is None, metadata.reason
    assert found["fraud_score"] == pytest.approx(0.7 * found["risk_score"] + 0.3 * found["model_score"], abs=1e-3)
    assert found["recommended_action"] in ("review", "block") and found["narrative"]
    assert len(found["similar_cases"]) == 3 and set(found["similar_cases"][0]) == {"subject_id", "outcome", "score"}
    assert metadata.prompt == "fraud_detector v3" and metadata.model == services.settings.chat_endpoint
    assert 0 < metadata.output_tokens <= 140
    [row] = kept(services, case.transaction_id)
    assert row["request_id"] == answer.request_id and row["action"] == found["recommended_action"]
    assert row["score"] == found["fraud_score"] and json.loads(row["result"]) == found and row["degraded"] is False
    like = Case(**vars(case) | {"transaction_id": "another", "reasons": found["reasons"]})
    assert (await find_similar(services.memory, like, top_k=1))[0].subject_id == case.transaction_id
    assert case.transaction_id not in {
        hit.subject_id for hit in await find_similar(services.memory, Case(**vars(case)))
    }


async def test_the_detector_and_the_narrator_work_alone(services: Services):
    agents = await router(services)
    detected = await agents.route("fraud_detector", wire(suspicious()))
    assert detected.result["recommended_action"] in ("review", "block") and len(detected.result["similar_cases"]) == 3
    told = await agents.route("narrative", wire(suspicious()))
    assert told.result["narrative"] and told.metadata.output_tokens <= 60


def unreachable() -> ModelServingClient:
    return ModelServingClient("http://127.0.0.1:9", dict, ServingConfig(retries=0))


async def test_without_a_model_the_rules_decide_and_the_decision_is_kept(services: Services):
    for without in (
        replace(services, serving=unreachable()),
        replace(services, prompts=PromptCache(dict)),
        replace(services, prompts=prompts(fraud_detector="Needs {{something_else}}")),
        replace(services, serving=None),
    ):
        case = suspicious()
        answer = await (await router(without)).route("fraud_case", wire(case))
        assert answer.result["path"] == "rules" and answer.result["recommended_action"] == "block"
        assert answer.result["fraud_score"] == answer.result["risk_score"]
        assert answer.metadata.degraded and answer.metadata.reason
        assert (answer.metadata.model, answer.metadata.prompt) == ("rules", None)
        assert answer.metadata.stored
        [row] = kept(services, case.transaction_id)
        assert row["degraded"] is True and row["reason"]


async def test_an_answer_that_breaks_its_schema_names_the_prompt_that_led_to_it(
    services: Services, environment: dict[str, str]
):
    with scripted_endpoint(environment, lambda _: '{"fraud_score": "high"}') as model:
        made = AgentRouter.from_yaml(AGENTS, services=services, variables={"CHAT_ENDPOINT": model.endpoint})
        await made.initialize()
        case = suspicious()
        answer = await made.route("fraud_case", wire(case))
    metadata = answer.metadata
    assert (metadata.model, metadata.prompt, metadata.degraded) == ("rules", "fraud_detector v3", True)
    assert "broke the schema Judgement" in metadata.reason and metadata.output_tokens > 0
    assert model.count == 1, "the narrator does not ask a model that has just failed"
    [row] = kept(services, case.transaction_id)
    assert (row["model"], row["prompt"], row["degraded"]) == ("rules", "fraud_detector v3", True)
    assert "broke the schema" in row["reason"] and json.loads(row["result"])["path"] == "rules"


async def test_a_challenger_answers_its_share_and_a_payment_meets_the_same_version_again(
    services: Services, environment: dict[str, str]
):
    texts = {path.stem: path.read_text() for path in (ROOT / "app" / "prompts").glob("*.txt")}
    versions = {(name, number): Prompt(name, number, text) for name, text in texts.items() for number in (1, 2)}
    snapshot = Snapshot(versions, {"fraud_detector": {"production": 1, "challenger": 2}})
    cache = PromptCache(lambda: snapshot, shares={"fraud_detector": 0.5})
    cache.refresh()
    with scripted_endpoint(environment, lambda _: '{"reason": "so", "fraud_score": 5}') as model:
        variables = {"CHAT_ENDPOINT": model.endpoint}
        made = AgentRouter.from_yaml(AGENTS, services=replace(services, prompts=cache), variables=variables)
        seen = []
        for case in [wire(suspicious(transaction_id=f"T{n}")) | {"similar_cases": []} for n in range(12)]:
            first, again = [await made.route("fraud_detector", case) for _ in range(2)]
            assert first.metadata.prompt == again.metadata.prompt
            seen.append(first.metadata.prompt)
    assert set(seen) == {"fraud_detector v1", "fraud_detector v2"}


async def test_without_similar_cases_the_model_still_judges(services: Services):
    class Away(MemoryStore):
        async def retrieve(self, *_: object, **__: object):
            raise Unavailable("the index is away")

    memory = Away(services.workspace, services.serving, services.settings, MemoryConfig())
    answer = await (await router(replace(services, memory=memory))).route("fraud_case", wire(suspicious()))
    assert answer.result["path"] == "model" and answer.result["similar_cases"] == []
    assert answer.metadata.degraded and "the index is away" in answer.metadata.reason and answer.metadata.stored


async def test_what_cannot_be_kept_is_still_decided(services: Services):
    nowhere = replace(
        services, settings=replace(services.settings, schema="nowhere"), serving=unreachable(), memory=None
    )
    answer = await (await router(nowhere)).route("fraud_case", wire(suspicious()))
    assert answer.result["recommended_action"] == "block"
    assert answer.metadata.stored is False and "not stored" in answer.metadata.reason


async def test_out_of_time_the_rules_decide_and_the_decision_is_kept(services: Services, tmp_path: Path):
    hurry = tmp_path / "hurry.yaml"
    hurry.write_text("agents: {fraud_case: {timeout_seconds: 0.2}}")
    case = suspicious()
    answer = await (await router(services, hurry)).route("fraud_case", wire(case))
    assert answer.result["path"] == "rules" and answer.result["recommended_action"] == "block"
    assert answer.metadata.degraded and answer.metadata.stored
    assert kept(services, case.transaction_id)[0]["degraded"] is True


async def test_a_callers_deadline_holds_for_keeping_too(services: Services):
    answer = await (await router(services)).route("fraud_case", wire(suspicious()), timeout=0.2)
    assert answer.result["path"] == "rules" and answer.metadata.degraded
    assert answer.metadata.stored is False and "not stored" in answer.metadata.reason


async def test_decisions_teach_habits(services: Services):
    agents = await router(services)
    scorer = agents.registry.get("risk_scorer")
    assert isinstance(scorer, RiskScorerAgent)
    for _ in range(3):
        await agents.route("fraud_case", wire(payment(30, customer_id="new here")))
    assert scorer.profiles.customers["new here"].count == 3
    assert scorer.profiles.habit("new here")[0] < scorer.profiles.habit("nobody")[0]


async def test_a_wrong_field_reaches_no_table(services: Services):
    with pytest.raises(InvalidInput) as caught:
        await (await router(services)).route(
            "fraud_case", wire(suspicious(transaction_id="wrong")) | {"amount": "much"}
        )
    assert caught.value.field == "data.amount" and kept(services, "wrong") == []


def test_the_factual_sentence_has_the_facts():
    case = Case(
        **vars(payment(12.5, currency="EUR")), risk_score=0.02, recommended_action="approve", reasons=["all quiet"]
    )
    assert factual_sentence(case) == "12.50 EUR at M1 in Ghent was approved with a fraud score of 0.02: all quiet."

"""Examples of the fraud detector: no look ahead, no customer in two splits, word for word what production sends."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from lib.agents import Services
from lib.catalog import Catalog
from lib.config import AgentConfig, ServingConfig
from lib.core import AgentInput, InvalidInput, NotFound, new_id
from lib.evaluation import Example, RefreshingTask, load_dataset, split_of
from lib.fraud.agents import Case, FraudDetectorAgent, Judgement
from lib.fraud.data import FRAUD_MIGRATIONS, LABEL_DELAY, load_history, simulate, split_history
from lib.fraud.examples import (
    DetectorTask,
    FraudCosts,
    draw_balanced,
    labelled_payments,
    load_examples,
    split_of_customer,
    suspicious_cases,
)
from lib.prompts import PromptCache, read_prompts
from lib.serving import EMBEDDINGS, Endpoints, EndpointSpec, ModelServingClient
from lib.settings import Settings, load_settings
from lib.workspace import Workspace
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import scripted_endpoint

DAYS = 19  # of history before the first example: half of the world, as `load_examples` has it


def example(label: object = "fraud", amount: object = 300.0) -> Example:
    findings = "amount 6.2 standard deviations above the customer's mean of 31.00; first payment in Ghent"
    inputs = {"payment": "300.00 EUR at M1 in Ghent", "findings": findings, "similar": "none"}
    return Example("T1-abc", inputs, {"label": label, "amount": amount}, "C1")


@pytest.mark.parametrize(
    ("label", "score", "correct", "cost"),
    [
        ("fraud", 90, True, 7.0),
        ("fraud", 50, True, 7.0),
        ("fraud", 49, False, 300.0),
        ("genuine", 90, False, 7.0),
        ("genuine", 49, True, 0.0),
        ("fraud", None, False, 7.0),
        ("genuine", None, False, 7.0),
    ],
)
def test_an_answer_is_worth_what_it_costs(label: str, score: int | None, correct: bool, cost: float):
    output = None if score is None else {"reason": "so", "fraud_score": score}
    judged = DetectorTask(FraudCosts(review=7.0)).judge(example(label), output)
    brier = 0.0 if score is None else 1 - (score / 100 - (label == "fraud")) ** 2
    assert (judged.correct, judged.cost) == (correct, cost) and judged.score == pytest.approx(brier)


def test_an_output_that_breaks_the_schema_counts_as_none():
    task = DetectorTask()
    for broken in ({}, {"fraud_score": 90}, {"reason": "so", "fraud_score": 101}, {"reason": "", "fraud_score": 90}):
        assert task.judge(example(), broken) == task.judge(example(), None)


def test_a_right_answer_is_right_and_keeps_the_schema():
    task = DetectorTask()
    for label in ("fraud", "genuine"):
        one = example(label)
        one.inputs["findings"] = "x" * 300
        output = task.expected_output(one)
        assert Judgement.model_validate(output) and task.judge(one, output).correct
        assert task.judge(one, output).score > 0.99


@pytest.mark.parametrize(
    ("expected", "field"),
    [({"label": "maybe", "amount": 1}, "label"), ({"label": "fraud"}, "amount"), ({"amount": 1}, "label")],
    ids=["no such class", "no amount", "no label"],
)
def test_a_row_that_nobody_can_judge_is_named(expected: dict, field: str):
    with pytest.raises(InvalidInput, match="example T9") as caught:
        DetectorTask().judge(Example("T9", {}, expected), None)
    assert caught.value.field == f"expected.{field}"


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return simulate(n_customers=80, n_terminals=160, days=40, seed=3, terminals_per_day=0.2, customers_per_day=2)


@pytest.fixture(scope="module")
def cases(world: pd.DataFrame) -> list[tuple[Case, bool]]:
    return list(suspicious_cases(world, DAYS))


def test_cases_are_what_reaches_the_model(world: pd.DataFrame, cases: list[tuple[Case, bool]]):
    labels = dict(zip(world.transaction_id, world.is_fraud, strict=True))
    start = split_history(world, DAYS)[1].timestamp.iloc[0]
    for case, is_fraud in cases:
        assert case.risk_score is not None and case.risk_score >= 0.1
        assert case.timestamp >= start and case.reasons
        assert labels[case.transaction_id] == is_fraud and case.is_fraud is None
    assert 0 < len(cases) < 0.5 * len(split_history(world, DAYS)[1])


def test_no_case_knows_what_came_later(world: pd.DataFrame, cases: list[tuple[Case, bool]]):
    now = world.timestamp.iloc[-1] - timedelta(days=8)
    seen = [case for case, _ in cases if case.timestamp <= now]
    assert [case for case, _ in suspicious_cases(world[world.timestamp <= now], DAYS)] == seen
    fresh = (world.timestamp > now - LABEL_DELAY) & (world.timestamp <= now)
    doubted = world.assign(is_fraud=world.is_fraud ^ fresh)
    assert [case for case, _ in suspicious_cases(doubted, DAYS) if case.timestamp <= now] == seen


def test_no_customer_lies_in_two_splits(cases: list[tuple[Case, bool]]):
    drawn = draw_balanced(cases, {"train": 20, "validation": 20, "holdout": 60})
    for split, rows in drawn.items():
        assert {split_of_customer(case.customer_id) for case, _ in rows} == {split}
        assert sum(is_fraud for _, is_fraud in rows) == len(rows) / 2
    for split in ("train", "validation"):
        assert {split_of(case.customer_id) for case, _ in drawn[split]} == {split}
    # The holdout is drawn by a hash of its own: it holds customers of either side of the other one.
    assert {split_of(case.customer_id) for case, _ in drawn["holdout"]} == {"train", "validation"}


def test_customers_take_turns_and_fewer_rows_are_the_first_of_more(cases: list[tuple[Case, bool]]):
    many, few = ([case.transaction_id for case, _ in draw_balanced(cases, {"holdout": n})["holdout"]] for n in (60, 20))
    assert set(few) < set(many)
    frauds = [case for case, is_fraud in draw_balanced(cases, {"holdout": 20})["holdout"] if is_fraud]
    assert len({case.customer_id for case in frauds}) == 10
    again = draw_balanced(cases[::-1], {"holdout": 20})["holdout"]
    assert [case.transaction_id for case, _ in again] == few


def test_too_few_payments_are_told_by_split_and_class(cases: list[tuple[Case, bool]]):
    with pytest.raises(InvalidInput, match=r"holdout: 5000 suspicious fraud payments are needed") as caught:
        draw_balanced(cases, {"holdout": 10_000})
    assert caught.value.field == "holdout"
    with pytest.raises(InvalidInput, match="suspicious genuine"):
        draw_balanced([(case, True) for case, _ in cases], {"holdout": 20})


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> tuple[Workspace, Settings]:
    settings = replace(load_settings(environment), schema=f"examples_{new_id()[:8]}")
    workspace = Workspace(settings)
    catalog = Catalog(workspace, settings)
    catalog.setup()
    catalog.migrate(FRAUD_MIGRATIONS)
    Endpoints(workspace).ensure(EndpointSpec(settings.embedding_endpoint, settings.embedding_entity, EMBEDDINGS))
    return workspace, settings


def test_the_tables_are_filled_once_and_hold_no_leak(ground: tuple[Workspace, Settings], world: pd.DataFrame):
    workspace, settings = ground
    with pytest.raises(NotFound, match="no labelled payment"):
        labelled_payments(workspace, settings)
    load_history(workspace, settings, world)
    table = labelled_payments(workspace, settings)
    sizes = {"train": 8, "validation": 6, "holdout": 12}
    found = load_examples(workspace, settings, table, **sizes)
    assert found == {"training_examples": {"fraud": 7, "genuine": 7}, "holdout": {"fraud": 6, "genuine": 6}}
    data = load_dataset(workspace, settings, "fraud_detector")
    assert {name: len(getattr(data, name)) for name in sizes} == sizes
    assert load_examples(workspace, settings, table, **sizes) == found
    assert load_dataset(workspace, settings, "fraud_detector").version == data.version
    amounts = dict(zip(world.transaction_id, world.amount, strict=True))
    for one in (*data.train, *data.validation, *data.holdout):
        assert one.inputs.keys() == FraudDetectorAgent.prompt_inputs
        assert one.expected["amount"] == amounts[one.id.partition("-")[0]]
        assert one.inputs["similar"].count("fraud: ") + one.inputs["similar"].count("genuine: ") == 3
        assert DetectorTask().judge(one, DetectorTask().expected_output(one)).correct
    more = load_examples(workspace, settings, table, **sizes | {"holdout": 16})
    assert more["holdout"] == {"fraud": 8, "genuine": 8} and more["training_examples"] == found["training_examples"]
    wanted = {"train": 8, "validation": 6, "holdout": 10**6}  # as many as there are
    cases = suspicious_cases(table, (table.timestamp.iloc[-1] - table.timestamp.iloc[0]).days // 2)
    held = Counter(is_fraud for case, is_fraud in cases if split_of_customer(case.customer_id) == "holdout")
    DetectorTask().refresh_examples(workspace, settings, wanted)
    full = load_dataset(workspace, settings, "fraud_detector")
    assert (len(full.train), len(full.holdout)) == (8, 2 * min(held.values())) and len(full.holdout) > 16


def test_a_study_begins_with_what_was_labelled_since(environment: dict[str, str]):
    assert isinstance(DetectorTask(), RefreshingTask)
    bare = replace(load_settings(environment), schema=f"bare_{new_id()[:8]}")
    Catalog(Workspace(bare), bare).setup()
    DetectorTask().refresh_examples(Workspace(bare), bare, {"train": 2})  # nothing labelled: nothing to do
    with pytest.raises(NotFound, match="no training rows"):
        load_dataset(Workspace(bare), bare, "fraud_detector")


async def test_an_example_is_word_for_word_what_production_sends(
    environment: dict[str, str], ground: tuple[Workspace, Settings], cases: list[tuple[Case, bool]], world: pd.DataFrame
):
    workspace, settings = ground
    load_examples(workspace, settings, world, train=2, validation=2, holdout=2)
    one = load_dataset(workspace, settings, "fraud_detector").holdout[0]
    known = {case.transaction_id: case for case, _ in cases}
    cache = PromptCache(dict, read_prompts(ROOT / "app" / "prompts"))
    serving = ModelServingClient(workspace.client.config.host, workspace.auth_headers, ServingConfig())
    with scripted_endpoint(environment, lambda _: '{"reason": "so", "fraud_score": 5}') as model:
        config = AgentConfig(
            class_="lib.fraud.agents:FraudDetectorAgent", endpoint=model.endpoint, prompt="fraud_detector"
        )
        agent = FraudDetectorAgent("fraud_detector", config, Services(serving=serving, prompts=cache))
        case = known[one.id.partition("-")[0]].model_dump(mode="json", exclude_none=True)
        similar = [{"subject_id": "T0", "outcome": "fraud", "score": 0.9, "content": "4.00 EUR at M1 in Ghent. a lot"}]
        answer = await agent.run(AgentInput(agent_name="fraud_detector", data=case | {"similar_cases": similar}))
    await serving.aclose()
    assert not answer.metadata.degraded
    [call] = model.calls
    assert call["messages"] == cache.lookup("fraud_detector").messages(**one.inputs | {"similar": "fraud: a lot"})
    assert call["max_tokens"] == DetectorTask.max_tokens

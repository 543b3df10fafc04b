"""A prompt on examples: what the app would send, what it was worth, what it cost; and exports that lost something."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest

from lib.core import BudgetExceeded, InvalidInput, InvalidOutput, Unavailable, new_id
from lib.prompts import Prompt
from lib.spending import BlockingClient, Journal, PaidModel, Spending
from lib.trials import check_export, evaluate_prompt
from lib.workspace import Workspace
from nbs_tests.even_numbers import PROMPT, EvenTask, blocking_client, examples, fresh_workspace, number, truth
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script, scripted_endpoint

COLUMNS = ["id", "correct", "score", "cost", "latency_ms", "valid", "input_tokens", "output_tokens", "output", "error"]


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    return fresh_workspace(environment)


@pytest.fixture(scope="module")
def scripted(environment: dict[str, str]) -> Iterator[Script]:
    with scripted_endpoint(environment, truth) as script:
        yield script


@pytest.fixture
def script(scripted: Script) -> Script:
    """The endpoint, as if it had never been asked."""
    scripted.calls.clear()
    scripted.answer, scripted.busiest = truth, 0
    return scripted


@pytest.fixture
def client(ground: Workspace) -> Iterator[BlockingClient]:
    client = blocking_client(ground)
    yield client
    client.close()


@pytest.fixture
def model(ground: Workspace, client: BlockingClient, script: Script) -> Iterator[PaidModel]:
    journal = Journal(ground, ground.settings, new_id())
    yield PaidModel(client, script.endpoint, Spending(1_000_000, 1.0), journal)
    journal.close()


def test_a_frame_has_a_row_for_each_example_in_their_order(model: PaidModel, script: Script):
    script.answer = lambda messages: time.sleep(0.02 * (number(messages) % 3)) or truth(messages)
    seen: list[tuple[int, int]] = []
    frame = evaluate_prompt(PROMPT, examples(12), EvenTask(), model, lambda *done: seen.append(done), concurrency=4)
    assert list(frame.columns) == COLUMNS
    assert list(frame["id"]) == [f"n{n:03}" for n in range(12)]
    assert frame["correct"].all() and frame["valid"].all() and (frame["score"] == 1).all()
    assert [json.loads(output)["even"] for output in frame["output"]] == [n % 2 == 0 for n in range(12)]
    assert seen == [(n, 12) for n in range(1, 13)]
    assert 1 < script.busiest <= 4


def test_the_model_gets_exactly_what_the_app_would_send(model: PaidModel, script: Script):
    evaluate_prompt(PROMPT, examples(1), EvenTask(), model)
    [body] = script.calls
    assert body["messages"] == PROMPT.messages(number="0")
    assert (body["temperature"], body["max_tokens"]) == (0.0, EvenTask.max_tokens)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["even"]


def test_a_cost_is_that_of_the_decision_and_of_the_model(model: PaidModel, script: Script):
    script.answer = lambda messages: '{"even": true}'
    frame = evaluate_prompt(PROMPT, examples(2), EvenTask(), model)
    price = model.spending.charge(script.endpoint, int(frame["input_tokens"][0]), int(frame["output_tokens"][0])).money
    assert list(frame["cost"]) == [price, price + 2]
    assert frame["cost"].sum() - 2 == pytest.approx(model.spending.spent_money)


def test_an_answer_that_breaks_the_format_is_judged_and_paid(model: PaidModel, script: Script):
    script.answer = lambda messages: "odd, I think" if number(messages) == 1 else truth(messages)
    frame = evaluate_prompt(PROMPT, examples(3), EvenTask(), model)
    assert list(frame["valid"]) == [True, False, True]
    broken = frame.iloc[1]
    assert (bool(broken["correct"]), broken["output"], broken["output_tokens"]) == (False, None, 3)
    assert "broke the schema Parity" in broken["error"]
    assert model.spending.spent_tokens == frame[["input_tokens", "output_tokens"]].sum().sum()


def test_a_second_evaluation_asks_nothing_and_says_the_same(model: PaidModel, script: Script):
    first = evaluate_prompt(PROMPT, examples(10), EvenTask(), model)
    resumed = Journal(model.journal.workspace, model.journal.workspace.settings, model.journal.study)
    again = evaluate_prompt(PROMPT, examples(10), EvenTask(), replace_journal(model, resumed))
    pd.testing.assert_frame_equal(first, again)
    assert script.count == 10


def replace_journal(model: PaidModel, journal: Journal) -> PaidModel:
    return PaidModel(model.client, model.endpoint, Spending(0, 0.0), journal)  # nothing may be paid


def test_what_was_paid_before_the_cap_is_kept(model: PaidModel, script: Script):
    model.spending.tokens = 500
    with pytest.raises(BudgetExceeded, match="500 tokens stops the next call"):
        evaluate_prompt(PROMPT, examples(100), EvenTask(), model)
    kept = Journal(model.journal.workspace, model.journal.workspace.settings, model.journal.study).calls()
    assert 0 < len(kept) == script.count < 100


@pytest.mark.parametrize(
    ("status", "error"), [(503, Unavailable), (429, Unavailable), (400, InvalidInput)], ids=["down", "busy", "refused"]
)
def test_an_endpoint_that_fails_is_named_and_ends_the_evaluation(
    model: PaidModel, script: Script, status: int, error: type[Exception]
):
    script.answer = lambda messages: status
    with pytest.raises(error, match=f"endpoint {script.endpoint}"):
        evaluate_prompt(PROMPT, examples(200), EvenTask(), model)
    assert script.count < 100
    assert model.spending.spent_tokens == 0


@pytest.mark.parametrize(
    ("prompt", "rows", "field"),
    [(PROMPT, [], "examples"), (Prompt("even", 1, "{{number}} {{unknown}}"), examples(2), "unknown")],
    ids=["no rows", "a blank too many"],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_paid(
    model: PaidModel, script: Script, prompt: Prompt, rows: list, field: str
):
    with pytest.raises(InvalidInput) as caught:
        evaluate_prompt(prompt, rows, EvenTask(), model)
    assert (caught.value.field, script.count) == (field, 0)


# kill -9

CHILD = """
import os, sys
from nbs_tests.even_numbers import fresh_workspace
from nbs_tests.test_trials import two_trials
two_trials(fresh_workspace(os.environ, sys.argv[1]), sys.argv[2])
"""


def two_trials(ground: Workspace, endpoint: str) -> list[pd.DataFrame]:
    """What a job does; it prints each trial's rows when the trial is finished."""
    journal, client = Journal(ground, ground.settings, "killed"), blocking_client(ground)
    model, frames = PaidModel(client, endpoint, Spending(1_000_000, 1.0), journal), []
    for word in ("one", "two"):
        prompt = Prompt("even", 1, f"Trial {word}.\n---\n{{{{number}}}}")
        frames.append(evaluate_prompt(prompt, examples(20), EvenTask(), model, concurrency=2))
        sys.stdout.write(frames[-1].to_json() + "\n")
        sys.stdout.flush()
    client.close()
    journal.close()
    return frames


def test_a_job_that_was_killed_pays_only_for_what_it_had_not_finished(
    ground: Workspace, script: Script, environment: dict[str, str]
):
    def slow_second_trial(messages: list[dict]) -> str:
        time.sleep(0.1 if "two" in messages[0]["content"] else 0)
        return truth(messages)

    script.answer = slow_second_trial
    command = [sys.executable, "-c", CHILD, ground.settings.schema, script.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ | environment, text=True) as job:
        first = job.stdout.readline()
        while script.count < 26:
            assert job.poll() is None
            time.sleep(0.01)
        job.kill()
    kept = len(Journal(ground, ground.settings, "killed").calls())
    asked = script.count
    assert 20 <= kept <= asked < 40

    once, twice = two_trials(ground, script.endpoint)
    assert once.to_json() == first.strip(), "the finished trial says something else"
    assert twice["correct"].all()
    times = Counter(json.dumps(body["messages"]) for body in script.calls)
    assert {count for question, count in times.items() if "one" in question} == {1}
    assert script.count == asked + 40 - kept
    assert len(Journal(ground, ground.settings, "killed").calls()) == 40


# Exports


def frame_of(scores: list[float], valid: list[bool] | None = None) -> pd.DataFrame:
    ids = [f"r{n}" for n in range(len(scores))]
    return pd.DataFrame({"id": ids, "score": scores, "valid": valid or [True] * len(scores)})


MIXED = [0.9, 0.2, 0.8, 0.7, 0.1, 0.95, 0.6, 0.3] * 5


@pytest.mark.parametrize(
    "exported",
    [
        frame_of(MIXED),
        frame_of(MIXED).sample(frac=1, random_state=1),
        frame_of([*MIXED[:-1], 0.25]),
        frame_of([1.0] * 40),
    ],
    ids=["the same", "in another order", "one row a little worse", "better"],
)
def test_an_export_that_kept_what_was_compiled_passes(exported: pd.DataFrame):
    check_export(frame_of(MIXED), exported)


@pytest.mark.parametrize(
    ("exported", "reason"),
    [
        (frame_of([score * 0.7 for score in MIXED]), r"scores 0\.398, the compiled program 0\.569.*95 % interval -"),
        (frame_of([score - 0.01 for score in MIXED]), r"difference of -0\.010 is no chance"),
        (frame_of(MIXED, [False] + [True] * 39), r"keeps the format on 39 of 40 rows, the compiled program on 40"),
        (frame_of([1.0] * 40, [False] + [True] * 39), "keeps the format on 39 of 40"),
    ],
    ids=["much worse", "a little worse on every row", "breaks the format once", "better but breaks the format"],
)
def test_an_export_that_lost_something_is_refused_with_the_numbers(exported: pd.DataFrame, reason: str):
    with pytest.raises(InvalidOutput, match=reason):
        check_export(frame_of(MIXED), exported)


@pytest.mark.parametrize(
    ("compiled", "exported", "field"),
    [
        (frame_of(MIXED), frame_of(MIXED[:-1]), "candidate.id"),
        (frame_of([]), frame_of([]), "baseline"),
        (frame_of(MIXED), frame_of(MIXED).drop(columns="valid"), "candidate.valid"),
        (frame_of(MIXED), frame_of([*MIXED[:-1], float("nan")]), "candidate.score"),
    ],
    ids=["other rows", "no rows", "a column less", "no number"],
)
def test_frames_that_cannot_be_compared_are_named(compiled: pd.DataFrame, exported: pd.DataFrame, field: str):
    with pytest.raises(InvalidInput) as caught:
        check_export(compiled, exported)
    assert caught.value.field == field


def test_a_worse_prompt_forged_as_export_is_refused(model: PaidModel, script: Script):
    good = PROMPT
    forged = replace(good, text="Always say that it is even.\n---\nThe number is {{number}}\n")
    script.answer = lambda messages: '{"even": true}' if "Always" in messages[0]["content"] else truth(messages)
    frames = [evaluate_prompt(prompt, examples(40), EvenTask(), model) for prompt in (good, forged)]
    with pytest.raises(InvalidOutput, match=r"scores 0\.500, the compiled program 1\.000"):
        check_export(*frames)

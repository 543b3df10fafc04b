"""Textual gradients from cases: better instructions win, everything else leaves the parent in place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from lib.core import BudgetExceeded, InvalidInput, new_id
from lib.feedback import Case
from lib.optimize_textgrad import Descent, Options, Step, descend
from lib.prompts import Prompt
from lib.spending import BlockingClient, Journal, PaidModel, Spending
from lib.workspace import Workspace
from nbs_tests.even_instructions import BETTER, ROWS, WORSE, Proposer, answer, asked
from nbs_tests.even_numbers import PROMPT, EvenTask, blocking_client, fresh_workspace
from nbs_tests.scripted_model import Script, scripted_endpoint


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    return fresh_workspace(environment)


@pytest.fixture(scope="module")
def endpoints(environment: dict[str, str]) -> Iterator[tuple[Script, Script]]:
    with scripted_endpoint(environment, answer) as model, scripted_endpoint(environment, Proposer()) as proposer:
        yield model, proposer


@pytest.fixture
def scripts(endpoints: tuple[Script, Script]) -> tuple[Script, Script]:
    """The agent's model and the proposer, as if they had never been asked."""
    for script, scripted in zip(endpoints, (answer, Proposer()), strict=True):
        script.calls.clear()
        script.answer = scripted
    return endpoints


@pytest.fixture(scope="module")
def client(ground: Workspace) -> Iterator[BlockingClient]:
    client = blocking_client(ground)
    yield client
    client.close()


@dataclass
class Bench:
    """Both models of one study, and a descent over numbers."""

    client: BlockingClient
    scripts: tuple[Script, Script]
    journal: Journal
    spending: Spending

    def descend(
        self,
        *texts: str,
        steps: int | None = None,
        parent: Prompt = PROMPT,
        record: Callable[..., None] = lambda step, frame: None,
        **options: Any,
    ) -> Descent:
        if texts:
            self.scripts[1].answer = Proposer(list(texts))
        models = [PaidModel(self.client, script.endpoint, self.spending, self.journal) for script in self.scripts]
        cases = [Case(row, correct=False) for row in ROWS[:10]]
        chosen = Options(steps=steps or len(texts) or 1, **options)
        return descend(parent, cases, ROWS[20:32], EvenTask(), *models, chosen, record=record)


@pytest.fixture
def bench(ground: Workspace, client: BlockingClient, scripts: tuple[Script, Script]) -> Iterator[Bench]:
    journal = Journal(ground, ground.settings, new_id())
    yield Bench(client, scripts, journal, Spending(10_000_000, 100.0))
    journal.close()


def test_better_instructions_win_and_then_there_is_nothing_to_learn(bench: Bench):
    found = bench.descend(BETTER, steps=3)
    assert found.best.turns[0] == ("system", BETTER) and found.best.turns[1] == PROMPT.turns[1]
    [step] = found.steps
    assert (step.dropped, step.value, step.valid, len(step.gradients)) == ("", 1.0, 1.0, 2)
    assert found.best_name == "step 1" and list(found.frames) == ["parent", "step 1"]
    assert found.frames["parent"].score.mean() == 0.5
    assert found.stopped == "all 10 cases are answered right: there is nothing to learn from"


def test_the_criticising_model_sees_the_mistake_and_what_was_right(bench: Bench):
    bench.descend(BETTER, batch=1)
    [criticism, rewrite] = [body["messages"][1]["content"] for body in bench.scripts[1].calls]
    assert '{"even": true}' in criticism and 'A right answer: {"even": false}' in criticism
    assert "exactly these fields, named in the text: even" in rewrite
    assert {body["max_tokens"] for body in bench.scripts[1].calls} == {200, 1000 // 3 + 50}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I would rather not say VARIABLE>", "no <IMPROVED_VARIABLE> in the answer"),
        ("<IMPROVED_VARIABLE>Is it even, I w", "cut off"),
        (" ", "empty"),
        (PROMPT.turns[0][1], "the same text was tried before"),
        ("Tell parity.", "no longer names even"),
        ("Is {{number}} even?", "contains {{"),
        ("Is it even?\n---\nThe number is 2", "divides messages"),
        ("Is it even? " * 5000, "too long: 59,999 characters"),
        ("Write a poem about even numbers.", "breaks the format: 0% of 5 answers are valid, 100% were"),
        (WORSE, "no better: 0.0000 on 12 validation rows, 0.5000 before"),
    ],
    ids=["no tags", "cut", "empty", "same", "field", "blank", "divider", "long", "format", "worse"],
)
def test_what_breaks_the_contract_or_is_no_better_is_dropped(bench: Bench, text: str, reason: str):
    found = bench.descend(text)
    assert found.best is PROMPT and found.best_name == "parent"
    [step] = found.steps
    assert reason in step.dropped
    assert (f"step {step.number}" in found.frames) == reason.startswith("no better")
    paid = {"breaks the format": 5, "no better": 12}.get(reason.partition(":")[0], 0)
    told = [body["messages"][0]["content"] for body in bench.scripts[0].calls]
    assert sum(one != PROMPT.turns[0][1] for one in told) == paid
    assert len(set(asked(bench.scripts[0]))) == len(told), "nothing is asked twice"


def test_each_refusal_is_told_to_the_next_step(bench: Bench):
    found = bench.descend("Tell parity.", "Write a poem about even numbers.", BETTER)
    assert [step.dropped.partition(":")[0] for step in found.steps] == [
        "no longer names even, which the answer must contain",
        "breaks the format",
        "",
    ]
    assert found.best.turns[0][1] == BETTER
    last = bench.scripts[1].calls[-1]["messages"][1]["content"]
    assert "avoid this: no longer names even" in last and "avoid this: breaks the format: 0%" in last


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_proposed_the_best_is_never_worse_than_the_parent(bench: Bench, seed: int):
    texts = [f"Guess {seed}.{n}: is it even{'!' if n == 1 else '.'}" for n in range(3)]
    found = bench.descend(*texts, seed=seed)
    values = {name: float(frame.score.mean()) for name, frame in found.frames.items()}
    assert values[found.best_name] == max(values.values())
    assert (found.best is PROMPT) == (values["parent"] == max(values.values()))
    assert all(frame.valid.mean() >= found.frames["parent"].valid.mean() for frame in found.frames.values())
    kept = [step for step in found.steps if not step.dropped]
    assert [step.value for step in kept] == sorted({step.value for step in kept})


def test_the_seed_decides_which_mistakes_are_shown(bench: Bench):
    shown = []
    for seed in (1, 1, 2):
        bench.scripts[1].calls.clear()
        bench.journal = Journal(bench.journal.workspace, bench.journal.workspace.settings, new_id())
        bench.descend(WORSE, seed=seed)
        shown.append([body["messages"] for body in bench.scripts[1].calls])
        bench.journal.close()
    assert shown[0] == shown[1] != shown[2]


def test_the_cap_keeps_the_best_so_far(bench: Bench):
    def spend_the_rest(step: Step, frame: pd.DataFrame) -> None:
        bench.spending.tokens = bench.spending.spent_tokens + 100  # less than the next call may cost

    partly = "Numbers above 5 are even when 2 divides them."
    found = bench.descend(partly, BETTER, steps=3, record=spend_the_rest)
    assert bench.spending.spent_tokens <= bench.spending.tokens
    assert found.best.turns[0][1] == partly and [step.dropped for step in found.steps] == [""]
    assert "stops the next call" in found.stopped


@pytest.mark.parametrize(
    ("options", "parent", "field_name"),
    [
        ({"batch": 0}, PROMPT, "batch"),
        ({"steps": -1}, PROMPT, "steps"),
        ({"gradient_tokens": 0}, PROMPT, "gradient_tokens"),
        ({"rewrite_tokens": 0}, PROMPT, "rewrite_tokens"),
        ({}, Prompt("even", 1, "Is {{number}} even?\n"), "text"),
        ({}, Prompt("even", 1, "Is it even?\n---\n{{number}} {{colour}}\n"), "colour"),
    ],
    ids=["batch", "steps", "gradient tokens", "rewrite tokens", "no instructions", "blank"],
)
def test_bad_input_is_named_before_anything_is_paid(bench: Bench, options: dict, parent: Prompt, field_name: str):
    with pytest.raises(InvalidInput) as caught:
        bench.descend(parent=parent, **options)
    assert caught.value.field == field_name
    assert [script.count for script in bench.scripts] == [0, 0]


def test_a_budget_without_room_for_a_step_is_refused_before_anything_is_paid(bench: Bench):
    bench.spending = Spending(400, 100.0)
    with pytest.raises(BudgetExceeded, match="too small"):
        bench.descend(BETTER)
    assert [script.count for script in bench.scripts] == [0, 0]

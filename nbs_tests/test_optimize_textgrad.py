"""Instructions that learn from feedback: better ones become challengers, everything else leaves the parent in place."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from lib.config import OptimizerConfig
from lib.context import AppContext
from lib.core import BudgetExceeded, InvalidInput, NotFound, new_id
from lib.evaluation import Example
from lib.feedback import Case, record_feedback
from lib.optimize_textgrad import Descent, Optimised, Options, Step, descend, load_cases, open_textgrad_study, optimise
from lib.prompts import Prompt
from lib.spending import BlockingClient, Journal, PaidModel, Spending
from lib.studies import plan_study
from lib.workspace import Workspace
from nbs_tests.even_numbers import (
    PROMPT,
    EvenTask,
    blocking_client,
    even_context,
    examples,
    fresh_workspace,
    insert_examples,
    number,
    truth,
)
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script, scripted_endpoint

BETTER = "Look at the last digit: a number is even (gerade) when 2 divides it."
WORSE = "Say odd for what is even: never the truth."
ROWS = examples(40)
PLENTY = {"budget_tokens": 10_000_000, "budget_money": 100.0}


def answer(messages: list[dict[str, Any]]) -> str | int:
    """Right with BETTER; else `even` always, or what the instructions say."""
    told = messages[0]["content"]
    if "last digit" in told:
        return truth(messages)
    if "poem" in told:
        return "Two by two, the even few."
    if told.startswith("Guess"):  # right on a share of the numbers that only its text decides
        luck = hashlib.sha256(f"{told}{number(messages)}".encode()).digest()[0] % 3
        return truth(messages) if luck else "no idea" if told.endswith("!") else '{"even": false}'
    if "above 5" in told:
        return truth(messages) if number(messages) > 5 else '{"even": true}'
    return json.dumps({"even": number(messages) % 2 == 1}) if "never" in told else '{"even": true}'


@dataclass
class Proposer:
    """Writes criticisms, and one text after the other for each that was refused."""

    texts: list[str] = field(default_factory=lambda: [BETTER])

    def __call__(self, messages: list[dict[str, Any]]) -> str | int:
        system, question = (message["content"] for message in messages)
        if "gradient (feedback) engine" in system:
            return "It does not say what even means."
        text = self.texts[question.count("An earlier proposal was refused") % len(self.texts)]
        return text if "VARIABLE>" in text else f"<IMPROVED_VARIABLE>{text}</IMPROVED_VARIABLE>"


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    workspace = fresh_workspace(environment)
    insert_examples(workspace, ROWS)
    insert_examples(
        workspace,
        [Example(f"h{n}", {"number": str(100 + n)}, row.expected) for n, row in enumerate(ROWS[:4])],
        "holdout",
    )
    return workspace


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


# One descent


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
        ({}, Prompt("even", 1, "Is {{number}} even?\n"), "text"),
        ({}, Prompt("even", 1, "Is it even?\n---\n{{number}} {{colour}}\n"), "colour"),
    ],
    ids=["batch", "steps", "tokens", "no instructions", "blank"],
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


# A whole study


@pytest.fixture
def context(
    ground: Workspace, environment: dict[str, str], scripts: tuple, monkeypatch: pytest.MonkeyPatch
) -> AppContext:
    """The app's context, with PROMPT in production and nobody's opinion on any decision."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for table in ("decisions", "feedback"):
        ground.execute(f"DELETE FROM {ground.settings.table(table)}")
    return study_context(ground, *(script.endpoint for script in scripts))


def study_context(workspace: Workspace, endpoint: str, proposer: str) -> AppContext:
    config = OptimizerConfig(proposer_endpoint=proposer, steps=2, **PLENTY)
    context = even_context(workspace, config, endpoint=endpoint)
    if "production" not in context.prompt_store.aliases(PROMPT.name):
        context.prompt_store.save(PROMPT.name, PROMPT.text, alias="production", why="first")
    return context


def judge_decisions(workspace: Workspace, numbers: range, **words: str) -> None:
    """Decisions about numbers that nobody validates on, and what was right."""
    table = workspace.settings.table("decisions")
    for n in numbers:
        decision, result = new_id(), json.dumps({"even": True, "inputs": {"number": str(n)}})
        workspace.execute(
            f"INSERT INTO {table} (decision_id, subject_id, agent_name, prompt, result, created_at) "
            "VALUES (:decision, :subject, 'graph', 'even v1', :result, current_timestamp())",
            decision=decision,
            subject=f"s{n}",
            result=result,
        )
        expected = {"label": "odd" if n % 2 else "even"}
        record_feedback(workspace, workspace.settings, decision, correct=n % 2 == 0, expected=expected, **words)


def run(context: AppContext, **options: Any) -> Optimised:
    with open_textgrad_study(context, EvenTask.agent_name, **options) as (study, cases):
        return optimise(study, cases)


def test_better_instructions_become_a_challenger_that_says_where_it_comes_from(context: AppContext, scripts: tuple):
    judge_decisions(context.workspace, range(201, 207), comment="An odd one.")
    found = run(context)
    store = context.prompt_store
    production, saved = store.get("even", "production"), store.get("even", "challenger")
    assert saved == found.candidate and saved.turns[0][1] == BETTER and production.text == PROMPT.text
    assert saved.messages(number="7")[1:] == PROMPT.messages(number="7")[1:]
    about = saved.metadata
    assert (about["optimizer"], about["parent"], about["cases"], about["steps"]) == (
        "textgrad",
        production.version,
        6,
        1,
    )
    assert about["scores"]["candidate"]["accuracy"] == 1.0 > about["scores"]["parent"]["accuracy"]
    assert "is a challenger: score" in found.reason
    assert "An odd one." in scripts[1].calls[0]["messages"][1]["content"]
    paid = [script.count for script in scripts]
    assert run(context).candidate == saved
    assert [script.count for script in scripts] == paid and store.versions()["even"] == [1, saved.version]
    recorded(context, about["run_id"], ["parent", "step 1"])


def recorded(context: AppContext, run_id: str, trials: list[str]) -> None:
    from mlflow import MlflowClient

    runs = MlflowClient(tracking_uri="databricks")
    parent = runs.get_run(run_id)
    children = runs.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert sorted(child.data.tags["sota.trial"] for child in children) == trials
    assert "steps.json" in {artifact.path for artifact in runs.list_artifacts(run_id)}


def test_new_feedback_is_another_study(context: AppContext):
    judge_decisions(context.workspace, range(301, 304))
    with open_textgrad_study(context, EvenTask.agent_name) as (study, cases):
        assert len(cases) == 3
    judge_decisions(context.workspace, range(305, 306))
    with open_textgrad_study(context, EvenTask.agent_name) as (other, _):
        assert other.plan.study != study.plan.study


def test_nothing_is_saved_when_nothing_is_better(context: AppContext, scripts: tuple):
    judge_decisions(context.workspace, range(401, 405))
    before = context.prompt_store.versions()
    scripts[1].answer = Proposer(["Write a poem about even numbers.", WORSE])
    found = run(context)
    assert found.candidate is None and context.prompt_store.versions() == before
    assert found.reason.startswith("even v1 stays: step 1: breaks the format") and "step 2: no better" in found.reason


def test_feedback_on_what_is_validated_is_not_learned_from(context: AppContext, scripts: tuple):
    plan = plan_study(context, EvenTask.agent_name, "textgrad")
    with pytest.raises(NotFound, match="no feedback on decisions of agent even_sayer"):
        load_cases(context, plan)
    unseen = [int(example.inputs["number"]) for example in plan.dataset.validation]
    for n in unseen[:2]:
        judge_decisions(context.workspace, range(n, n + 1))
    with pytest.raises(
        InvalidInput, match="all 2 decisions with feedback are on subjects of the validation rows"
    ) as caught:
        load_cases(context, plan)
    assert caught.value.field == "source"
    judge_decisions(context.workspace, range(501, 502))
    assert [case.example.inputs for case in load_cases(context, plan)] == [{"number": "501"}]
    assert [script.count for script in scripts] == [0, 0]


def test_training_examples_are_learned_from_only_when_asked_for(context: AppContext):
    plan = plan_study(context, EvenTask.agent_name, "textgrad")
    assert [case.example for case in load_cases(context, plan, "examples")] == plan.dataset.train
    with pytest.raises(InvalidInput, match="there are feedback and examples"):
        load_cases(context, plan, "guesses")


def test_a_killed_study_goes_on_without_paying_twice(
    context: AppContext, environment: dict[str, str], scripts: tuple[Script, Script]
):
    judge_decisions(context.workspace, range(601, 606))
    model, proposer = scripts
    arguments = [context.settings.schema, model.endpoint, proposer.endpoint]
    child = subprocess.Popen([sys.executable, "-m", __name__, *arguments], cwd=ROOT, env=os.environ | environment)
    kept = f"SELECT count(*) AS n FROM {context.settings.table('optimizer_calls')} WHERE endpoint = :endpoint"

    def deadly(messages: list[dict[str, Any]]) -> str | int:
        if (
            "last digit" in messages[0]["content"]
        ):  # the first proposal is on trial: two gradients and a rewrite are paid
            while child.poll() is None and context.workspace.sql(kept, endpoint=proposer.endpoint)[0]["n"] < 3:
                time.sleep(0.3)
            child.kill()
        return answer(messages)

    model.answer = deadly
    try:
        assert child.wait(120) == -signal.SIGKILL
    finally:
        child.kill()
    model.answer, before = answer, model.count
    assert run(context).candidate is not None
    assert proposer.count == 3, "the same questions in another process: all of them were paid"
    on_trial = [one for one in asked(model) if "last digit" in one]
    assert len(set(asked(model))) >= model.count - 5 and model.count > before
    assert all(asked(model).count(one) == 1 for one in asked(model) if one not in on_trial)


def asked(script: Script) -> list[str]:
    return [json.dumps(body["messages"]) for body in script.calls]


if __name__ == "__main__":  # one study in a process of its own
    run(study_context(fresh_workspace(dict(os.environ), sys.argv[1]), *sys.argv[2:]))

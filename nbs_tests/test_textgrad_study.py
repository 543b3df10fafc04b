"""Studies from feedback: what is better becomes a challenger, nothing else is saved, a killed one goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lib.config import OptimizerConfig
from lib.context import AppContext
from lib.core import InvalidInput, NotFound, new_id
from lib.evaluation import Example
from lib.feedback import record_feedback
from lib.optimize_textgrad import Optimised, load_cases, open_textgrad_study, optimise
from lib.studies import plan_study
from lib.workspace import Workspace
from nbs_tests.even_instructions import BETTER, ROWS, WORSE, Proposer, answer, asked
from nbs_tests.even_numbers import PROMPT, EvenTask, even_context, fresh_workspace, insert_examples
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script, scripted_endpoint

PLENTY = {"budget_tokens": 10_000_000, "budget_money": 100.0}


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
    table = context.settings.table("optimizer_calls")

    def kept() -> int:
        found = context.workspace.sql(f"SELECT count(*) AS n FROM {table} WHERE endpoint = :it", it=proposer.endpoint)
        return found[0]["n"]

    already, one_at_a_time = kept(), threading.Lock()
    child = subprocess.Popen([sys.executable, "-m", __name__, *arguments], cwd=ROOT, env=os.environ | environment)

    def deadly(messages: list[dict[str, Any]]) -> str | int:
        if "last digit" in messages[0]["content"]:  # a proposal is on trial: two gradients and a rewrite are paid
            with one_at_a_time:
                while child.poll() is None and kept() < already + 3:
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


if __name__ == "__main__":  # one study in a process of its own
    run(study_context(fresh_workspace(dict(os.environ), sys.argv[1]), *sys.argv[2:]))

"""Studies: bad input is named before anything is paid, MLflow has every trial once, a candidate is saved once."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from lib.config import OptimizerConfig
from lib.context import AppContext
from lib.core import (
    BudgetExceeded,
    ConfigurationError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    SotaError,
)
from lib.evaluation import Example
from lib.prompts import PromptStore
from lib.studies import Study, open_study, plan_study
from lib.trials import evaluate_prompt
from lib.workspace import Workspace
from nbs_tests.even_numbers import (
    PROMPT,
    EvenTask,
    even_context,
    examples,
    fresh_workspace,
    insert_examples,
    number,
    truth,
)
from nbs_tests.scripted_model import Script, scripted_endpoint

AGENT = EvenTask.agent_name
SMALL = OptimizerConfig(train_rows=10, validation_rows=10, holdout_rows=10, budget_tokens=100_000)
BETTER = "Say whether a number is even. Think.\n---\nThe number is {{number}}\n"


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    """A schema with a prompt in production and labelled rows."""
    ground = fresh_workspace(environment)
    store = PromptStore(ground, ground.settings)
    store.save("even", PROMPT.text, alias="production")
    insert_examples(ground, examples(60))
    insert_examples(ground, examples(80)[60:], "holdout")
    return ground


@pytest.fixture(scope="module")
def scripted(environment: dict[str, str]) -> Iterator[Script]:
    with scripted_endpoint(environment, truth) as script:
        yield script


def half_right(messages: list[dict[str, Any]]) -> str:
    """The parent always says even; the better text is told the truth."""
    return truth(messages) if "Think" in messages[0]["content"] else '{"even": true}'


@pytest.fixture
def script(scripted: Script) -> Script:
    scripted.calls.clear()
    scripted.answer = half_right
    return scripted


@pytest.fixture
def context(
    ground: Workspace, script: Script, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AppContext:
    """The app's context; MLflow finds the workspace in the environment, as in a job."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return even_context(ground, SMALL, endpoint=script.endpoint)


def frames(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The parent's and the better text's validation rows."""
    parent, plan = study.plan.parent, study.plan
    better = type(parent)(parent.name, 0, BETTER)
    before, after = (
        evaluate_prompt(prompt, plan.dataset.validation, plan.task, study.model) for prompt in (parent, better)
    )
    return before, after


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"agent_name": "nobody"}, NotFound, "no agent is named 'nobody'.*even_sayer"),
        ({"optimizer": "magic"}, NotFound, "unknown optimizer 'magic'.*miprov2.*gepa.*textgrad"),
        ({"metric_name": "length"}, NotFound, "unknown metric 'length'.*accuracy, score, cost"),
        ({"budget_tokens": 300}, BudgetExceeded, "300 tokens is too small for one trial: 10 calls.*nothing was paid"),
        ({"budget_money": 0.0001}, BudgetExceeded, "in money is too small for one trial"),
        ({"budget_tokens": 0}, InvalidInput, "budget_tokens: .*greater than or equal to 1, not 0"),
        ({"colour": "red"}, InvalidInput, "no option colour: there are optimizer, proposer_endpoint"),
        ({"proposer_endpoint": "nowhere"}, NotFound, "nowhere"),
        ({"validation_rows": 1}, InvalidInput, "all 1 validation rows are of one class"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_is_wrong_is_named_before_anything_is_paid(
    context: AppContext, script: Script, options: dict[str, Any], error: type[SotaError], words: str
):
    with pytest.raises(error, match=words), open_study(context, **{"agent_name": AGENT} | options):
        pytest.fail("the study was opened")
    assert script.count == 0


@pytest.mark.parametrize(
    ("agent", "error", "words"),
    [
        ({"task": None}, ConfigurationError, r"agents\.even_sayer\.task is not set"),
        ({"prompt": None}, ConfigurationError, r"agents\.even_sayer\.prompt is not set"),
        ({"endpoint": None}, ConfigurationError, r"agents\.even_sayer\.endpoint is not set"),
        ({"task": "nbs_tests.even_numbers:Nothing"}, ConfigurationError, r"agents\.even_sayer\.task: .*Nothing"),
        ({"prompt": "unheard"}, NotFound, "prompt unheard"),
        ({"endpoint": "nowhere"}, NotFound, "nowhere"),
    ],
    ids=["no task", "no prompt", "no endpoint", "unknown task", "unknown prompt", "unknown endpoint"],
)
def test_an_agent_that_cannot_be_improved_says_why(
    context: AppContext, script: Script, agent: dict[str, Any], error: type[SotaError], words: str
):
    other = even_context(context.workspace, SMALL, **{"endpoint": script.endpoint} | agent)
    with pytest.raises(error, match=words):
        plan_study(other, AGENT)
    assert script.count == 0


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([], NotFound, "no training rows"),
        (examples(60)[::2], InvalidInput, "one class, 'even'"),
        ([replace(row, inputs={"nummer": row.id}) for row in examples(60)], InvalidInput, "even v1 needs number"),
    ],
    ids=["no rows", "one class", "other inputs"],
)
def test_rows_that_teach_nothing_are_refused(
    environment: dict[str, str], script: Script, rows: list[Example], error: type[SotaError], words: str
):
    ground = fresh_workspace(environment)
    PromptStore(ground, ground.settings).save("even", PROMPT.text, alias="production")
    if rows:
        insert_examples(ground, rows)
        insert_examples(ground, examples(80)[60:], "holdout")
    with pytest.raises(error, match=words):
        plan_study(even_context(ground, SMALL, endpoint=script.endpoint), AGENT)
    assert script.count == 0


def test_a_registry_that_may_not_be_read_is_named_with_the_cure(
    context: AppContext, script: Script, monkeypatch: pytest.MonkeyPatch
):
    from databricks.sdk.core import ApiClient
    from databricks.sdk.errors import PermissionDenied as Refused

    genuine = ApiClient.do

    def refuse(self: ApiClient, method: str, path: str, *args: Any, **options: Any) -> Any:
        if "/prompts" in path:
            raise Refused("the principal lacks EXECUTE")
        return genuine(self, method, path, *args, **options)

    monkeypatch.setattr(ApiClient, "do", refuse)
    with pytest.raises(PermissionDenied, match="CREATE FUNCTION"):
        plan_study(context, AGENT)
    assert script.count == 0


# The plan


def test_the_same_question_is_the_same_study(context: AppContext):
    plan = plan_study(context, AGENT)
    same = plan_study(context, AGENT, budget_tokens=99_999, budget_money=5.0)
    others = [
        plan_study(context, AGENT, **change)
        for change in ({"seed": 1}, {"optimizer": "gepa"}, {"demos": 2}, {"metric_name": "cost"})
    ]
    assert plan.study == same.study
    assert len({plan.study, *(other.study for other in others)}) == 5


def test_what_is_maximised_is_chosen_by_name(context: AppContext):
    frame = pd.DataFrame({"correct": [True, False], "score": [0.9, 0.4], "cost": [0.0, 3.0]})
    values = {name: plan_study(context, AGENT, metric_name=name).value(frame) for name in ("accuracy", "score", "cost")}
    assert values == pytest.approx({"accuracy": 0.5, "score": 0.65, "cost": -1.5})


# The record


def test_a_study_that_was_stopped_goes_on_in_the_same_run_and_pays_nothing_twice(context: AppContext, script: Script):
    stopped = Study(context, plan_study(context, AGENT, seed=7))
    before, after = frames(stopped)
    stopped.trial("parent", stopped.plan.parent.text, before, optimizer_step=0)
    stopped._client.close()  # and nothing else: as kill -9 leaves it
    paid = script.count

    with open_study(context, AGENT, seed=7) as study:
        assert study.spending.spent_tokens == stopped.spending.spent_tokens > 0
        again_before, again_after = frames(study)
        assert study.trial("parent", study.plan.parent.text, again_before, optimizer_step=0) == 0.5
        assert study.trial("better", BETTER, again_after) == 1.0
        saved = study.save_candidate(BETTER, again_before, again_after)
    pd.testing.assert_frame_equal(before, again_before)
    pd.testing.assert_frame_equal(after, again_after)
    assert script.count == paid == 20

    assert [row["trial"] for row in study.run.rows] == ["parent", "better"]
    client, run_id = study.run.client, study.run.run_id
    assert run_id == stopped.run.run_id
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["sota.candidate"], run.data.metrics["trials"]) == (
        "FINISHED",
        saved.label,
        2,
    )
    assert run.data.params["optimizer"] == "bootstrap_few_shot"
    trials = client.search_runs([study.run.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert sorted(trial.data.tags["sota.trial"] for trial in trials) == ["better", "parent"]
    assert {trial.data.metrics["value"] for trial in trials} == {0.5, 1.0}
    assert {file.path for file in client.list_artifacts(trials[0].info.run_id)} == {"prompt.txt", "rows.json"}


def test_a_study_that_fails_says_so_and_keeps_what_was_paid(context: AppContext, script: Script):
    with pytest.raises(RuntimeError), open_study(context, AGENT, seed=8) as study:
        frames(study)
        raise RuntimeError("somebody's optimiser broke")
    assert study.run.client.get_run(study.run.run_id).info.status == "FAILED"
    with open_study(context, AGENT, seed=8) as again:
        frames(again)
    assert again.run.client.get_run(study.run.run_id).info.status == "FINISHED"
    assert script.count == 20


def test_the_budget_counts_what_earlier_runs_paid(context: AppContext):
    with (
        pytest.raises(BudgetExceeded, match="stops the next call"),
        open_study(context, AGENT, seed=9, budget_tokens=4_000) as study,
    ):
        for index in range(1_000):
            study.model.complete([{"role": "user", "content": f"{index} {'word ' * 40}0"}], max_tokens=20)
    first = study.spending.spent_tokens
    with open_study(context, AGENT, seed=9, budget_tokens=4_000) as again, pytest.raises(BudgetExceeded):
        again.model.complete([{"role": "user", "content": "words " * 200 + "0"}], max_tokens=20)
    assert again.spending.spent_tokens == first


# The candidate


def test_a_candidate_says_where_it_comes_from_and_is_saved_once(context: AppContext):
    store = context.prompt_store
    with open_study(context, AGENT, seed=3) as study:
        before, after = frames(study)
        first = study.save_candidate(BETTER, before, after, steps_done=2)
    with open_study(context, AGENT, seed=3) as study:
        second = study.save_candidate(BETTER, *frames(study), steps_done=2)
    assert first.version == second.version == store.aliases("even")["challenger"]
    assert store.get("even").version != first.version, "production moves by the gate alone"
    about = store.get("even", first.version).metadata
    assert about["scores"]["parent"]["accuracy"] == 0.5
    assert about["scores"]["candidate"]["accuracy"] == 1.0
    told = {name: about[name] for name in ("optimizer", "seed", "study", "run_id", "parent", "steps_done")}
    assert told == {"optimizer": "bootstrap_few_shot", "seed": 3, "study": study.plan.study, "run_id": study.run.run_id,
                    "parent": study.plan.parent.version, "steps_done": 2}  # fmt: skip
    assert about["data_version"] == study.plan.dataset.version
    assert about["tokens"] == study.spending.spent_tokens


def test_a_candidate_saved_just_before_a_kill_still_becomes_challenger(context: AppContext):
    store = context.prompt_store
    with open_study(context, AGENT, seed=4) as study:
        before, after = frames(study)
        other = store.save("even", BETTER.replace("Think.", "Think twice."), study=study.plan.study)
        orphan = store.save("even", BETTER, study=study.plan.study)
        assert store.aliases("even").get("challenger") != orphan.version
        assert study.save_candidate(BETTER, before, after).version == orphan.version
    assert store.aliases("even")["challenger"] == orphan.version != other.version


@pytest.mark.parametrize("worse", [PROMPT.text, BETTER], ids=["the parent's text", "a text that is no better"])
def test_nothing_that_is_no_better_becomes_a_candidate(context: AppContext, script: Script, worse: str):
    script.answer = lambda messages: '{"even": true}' if number(messages) >= 0 else ""
    versions = context.prompt_store.versions()
    with open_study(context, AGENT, seed=5 if worse == BETTER else 6) as study:
        before, after = frames(study)
        if worse == PROMPT.text:
            after = after.assign(score=1.0)  # however well it is said to do
        with pytest.raises(InvalidInput, match=r"even v1 stays.*only a new text that is better"):
            study.save_candidate(worse, before, after)
    assert context.prompt_store.versions() == versions

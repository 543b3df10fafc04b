"""From challenger to production: the gate's word moves the aliases, once and on record."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lib.core import BudgetExceeded, ConfigurationError, InvalidInput, NotFound, Unavailable
from lib.evaluation import read_verdict
from lib.promotion import ab_test, compare_versions
from nbs_tests.mail import ROWS, Case, killed, post_office, text


@pytest.fixture(scope="module")
def office(environment: dict[str, str]) -> Iterator[Callable[[], Case]]:
    with post_office(environment) as office:
        yield office


@pytest.fixture
def case(office: Callable[[], Case], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Case:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, environment[name])  # where MLflow reads them
    return office()


def test_a_better_challenger_is_promoted_once_and_on_record(case: Case):
    from mlflow import MlflowClient

    case.start()
    outcome, paid = case.test()
    assert (outcome.decision, outcome.production, outcome.before, paid) == ("promoted", 2, 1, 2 * ROWS)
    assert case.store.aliases(case.name) == {"production": 2}
    *_, move, withdrawn = case.store.history(case.name)
    assert (move.alias, move.from_version, move.to_version, move.moved_by) == ("production", 1, 2, "ab_test")
    assert move.why == outcome.reason == outcome.verdict.reason and "100.0 % right against 65.0 %" in move.why
    assert (withdrawn.alias, withdrawn.to_version) == ("challenger", None)
    path, _, digest = move.evidence.partition(" sha256:")
    content = case.workspace.read_file(path)
    assert hashlib.sha256(content).hexdigest() == digest
    assert read_verdict(content.decode()).verdict == outcome.verdict
    client = MlflowClient(tracking_uri="databricks")
    experiment = client.get_experiment_by_name(f"/Shared/{case.settings.app_name}-prompts")
    [logged] = client.search_runs([experiment.experiment_id], f"params.candidate = '{case.name} v2'")
    assert (logged.data.tags["decision"], logged.data.metrics["n"]) == ("promote", ROWS)
    assert case.test()[0].decision == "nothing to do"
    assert case.production_moves() == [(None, 1, "me"), (1, 2, "ab_test")]


@pytest.mark.parametrize("kind", ["WRONG", "BROKEN"])
def test_a_worse_challenger_is_challenger_no_more(case: Case, kind: str):
    case.start(kind)
    outcome, _ = case.test()
    assert outcome.decision == "kept" and "worse" in outcome.reason
    assert case.store.aliases(case.name) == {"production": 1}
    withdrawn = case.store.history(case.name)[-1]
    assert (withdrawn.alias, withdrawn.from_version, withdrawn.to_version) == ("challenger", 2, None)
    assert withdrawn.why == outcome.reason and "sha256:" in withdrawn.evidence
    case.store.promote(case.name, 2, by="stubborn", why="once more", alias="challenger")
    assert (case.test()[1], case.store.aliases(case.name)) == (0, {"production": 1})


def test_too_few_rows_leave_both_and_are_not_paid_twice(case: Case):
    case.start()
    first, paid = case.test(min_effect=0.4)
    assert (first.decision, paid) == ("inconclusive", 2 * ROWS) and "7 more rows are needed" in first.reason
    again, paid = case.test(min_effect=0.4)
    assert (again.decision, again.reason, paid) == ("inconclusive", first.reason, 0)
    assert case.store.aliases(case.name) == {"production": 1, "challenger": 2}
    case.add_examples("holdout", range(ROWS, 40))
    more, paid = case.test(min_effect=0.4)
    assert (more.decision, more.verdict.n, paid) == ("promoted", 40, 2 * 20)


def test_an_edited_verdict_moves_nothing(case: Case):
    case.start("WRONG")
    outcome, _ = case.test()
    path = outcome.evidence.split()[0]
    edited = case.workspace.read_file(path).replace(b'"keep"', b'"promote"')
    case.workspace.write_file(path, edited, overwrite=True)
    case.store.promote(case.name, 2, by="a forger", why="so close", alias="challenger")
    with pytest.raises(ConfigurationError, match=r"look1\.json: the verdict file was edited"):
        case.test()
    assert case.production_moves() == [(None, 1, "me")]


def test_a_fifth_look_at_four_planned_ones_is_refused(case: Case):
    case.start("COSTLY")
    seen = [case.test(looks=4) for _ in range(5)]
    assert [(outcome.decision, paid) for outcome, paid in seen] == [("inconclusive", 10)] * 4 + [("refused", 0)]
    assert [outcome.verdict.n for outcome, _ in seen] == [5, 10, 15, 20, 20]
    assert "all 4 planned looks" in seen[-1][0].reason
    assert case.store.aliases(case.name) == {"production": 1, "challenger": 2}


@pytest.mark.parametrize("method", ["promote", "withdraw"])
def test_killed_between_the_verdict_and_the_alias_it_moves_once(case: Case, method: str):
    case.start()
    context = case.context()
    with killed(context.prompt_store, method):
        ab_test(context, case.name)
    outcome, paid = case.test()
    assert paid == 0 and outcome.production == 2
    assert case.store.aliases(case.name) == {"production": 2}
    assert case.production_moves() == [(None, 1, "me"), (1, 2, "ab_test")]


def test_a_comparison_sees_what_the_first_of_several_looks_would(case: Case):
    case.start()
    verdict, *frames = compare_versions(case.context(looks=2), case.name)
    assert [len(frame) for frame in frames] == [ROWS // 2] * 2
    assert case.test(looks=2)[0].verdict == verdict
    assert verdict.n == ROWS // 2


def test_killed_while_answers_are_paid_it_goes_on(case: Case):
    case.start()
    usual, calls = case.script.answer, []

    def fail_later(messages: list[dict[str, Any]]) -> str | int:
        calls.append(messages)
        return usual(messages) if len(calls) <= 12 else 500

    case.script.answer = fail_later
    with pytest.raises(Unavailable):
        case.test()
    case.script.answer = usual
    outcome, paid = case.test()
    assert outcome.decision == "promoted" and 2 * ROWS - 12 <= paid < 2 * ROWS


def test_a_production_that_moved_meanwhile_is_left_alone(case: Case):
    case.start()
    usual, store = case.script.answer, case.store
    third = store.save(case.name, text("RIGHT, and polite"))

    def moving(messages: list[dict[str, Any]]) -> str:
        case.script.answer = usual
        store.promote(case.name, third.version, by="somebody", why="in a hurry")
        return usual(messages)

    case.script.answer = moving
    try:
        outcome = ab_test(case.context(), case.name, holdout_rows=16)
    finally:
        case.script.answer = usual
    assert (outcome.decision, outcome.production) == ("refused", 3) and "production is v3" in outcome.reason
    assert case.production_moves()[-1] == (1, 3, "somebody")


def test_a_quiet_night_is_no_error(case: Case):
    case.start(None)
    outcome, paid = case.test()
    assert (outcome.decision, paid) == ("nothing to do", 0) and "has no challenger" in outcome.reason
    case.store.save(case.name, text("USUAL"), alias="challenger")
    outcome, paid = case.test()
    assert (outcome.decision, paid) == ("nothing to do", 0) and "says what production says" in outcome.reason
    assert case.store.aliases(case.name) == {"production": 1}


def test_without_production_nobody_is_promoted(case: Case):
    case.store.save(case.name, text("RIGHT"), alias="challenger")
    outcome, paid = case.test()
    assert (outcome.decision, paid) == ("nothing to do", 0) and "no production version" in outcome.reason


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("budget", BudgetExceeded, "budget of 10 tokens"),
        ("task", ConfigurationError, r"agents\.mail_\w+\.task"),
        ("row", InvalidInput, "has no label that anybody could judge"),
        ("blank", InvalidInput, "needs letter"),
        ("agent", NotFound, "no agent is named 'nobody'"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_paid(case: Case, kind: str, error: type[Exception], message: str):
    case.start(None if kind == "blank" else "RIGHT")
    if kind == "row":
        case.add_examples("holdout", range(90, 91), label="broken")
    if kind == "blank":
        case.store.save(case.name, text("RIGHT", blank="letter"), alias="challenger")
    options: dict[str, Any] = {"optimizer": {"budget_tokens": 10}} if kind == "budget" else {}
    context = case.context(task="nobody.knows:It" if kind == "task" else None, **options)
    before = case.script.count
    with pytest.raises(error, match=message):
        ab_test(context, "nobody" if kind == "agent" else case.name)
    assert case.script.count == before
    assert case.production_moves() == [(None, 1, "me")]

"""After a move: live decisions can take it back, and three refusals stand between a worse prompt and the customers."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from lib.core import InvalidOutput, new_id
from lib.evaluation import load_dataset
from lib.promotion import Outcome, describe, taken_back, watch
from lib.prompts import Prompt
from lib.spending import Journal, PaidModel, Spending
from lib.trials import check_export, evaluate_prompt
from nbs_tests.even_numbers import blocking_client
from nbs_tests.mail import ROWS, Case, MailTask, killed, post_office, text


@pytest.fixture(scope="module")
def office(environment: dict[str, str]) -> Iterator[Callable[[], Case]]:
    with post_office(environment) as office:
        yield office


@pytest.fixture
def case(office: Callable[[], Case], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Case:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, environment[name])  # where MLflow reads them
    return office()


def test_a_healthy_version_stays(case: Case):
    case.promoted("USUAL", "RIGHT")
    case.decide(2, 50, broken=1, wrong=8)
    outcome = watch(case.context(), case.name)
    assert (outcome.decision, outcome.production) == (
        "healthy",
        2,
    ) and "1 of 40 answers broke the format" in outcome.reason
    assert case.production_moves() == [(None, 1, "me"), (1, 2, "me")]


@pytest.mark.parametrize(
    ("fall", "words"),
    [({"broken": 50}, "40 of 40 answers broke the format"), ({"wrong": 50}, "40 of 40 judged decisions were wrong")],
)
def test_a_fall_takes_the_version_back_at_once_and_for_good(case: Case, fall: dict[str, int], words: str):
    case.promoted("USUAL", "RIGHT")
    case.decide(2, 50, **fall)
    outcome = watch(case.context(), case.name)
    assert (outcome.decision, outcome.production, outcome.before) == ("rolled back", 1, 2) and words in outcome.reason
    move = case.store.history(case.name)[-1]
    assert (move.from_version, move.to_version, move.moved_by, move.why) == (2, 1, "watch", outcome.reason)
    assert move.undoes and '"bad": 40' in move.evidence
    assert watch(case.context(), case.name).decision == "nothing to do"
    case.store.save(case.name, text("RIGHT"), alias="challenger")  # the next night finds the same text again
    refused, paid = case.test()
    assert (refused.decision, paid) == ("refused", 0) and "gave back as v2" in refused.reason
    assert case.store.aliases(case.name) == {"production": 1}
    case.store.promote(case.name, 2, by="me", why="I know better")
    assert case.production_moves()[1:] == [(1, 2, "me"), (2, 1, "watch"), (1, 2, "me")]
    assert watch(case.context(), case.name).decision == "waiting", "only what came after the last move counts"


def test_a_rollback_killed_before_its_record_is_still_one(case: Case):
    case.promoted("USUAL", "RIGHT")
    case.decide(2, 50, broken=50)
    context = case.context()
    with killed(context.prompt_store.record, "add"):
        watch(context, case.name)
    assert case.store.aliases(case.name) == {"production": 1}
    assert watch(case.context(), case.name).decision == "nothing to do"
    assert taken_back(case.store.history(case.name)).keys() == {2}


def test_what_cannot_be_compared_waits(case: Case):
    assert watch(case.context(), case.name).decision == "nothing to do"  # no prompt at all
    case.promoted("USUAL")
    assert watch(case.context(), case.name).decision == "nothing to do"  # never moved from one version to another
    case.store.promote(case.name, case.store.save(case.name, text("RIGHT")).version, by="me", why="better")
    case.decide(2, 50, broken=50)
    outcome = watch(case.context(), case.name)
    assert outcome.decision == "waiting" and "of v1 there are 0" in outcome.reason
    case.decide(1, 100, minute=-1)
    case.decide(20, 100, broken=100)  # another label that begins alike
    assert watch(case.context(watch_rows=51), case.name).decision == "waiting"
    case.decide(2, 50, minute=30)  # from a clock that is ahead
    assert watch(case.context(watch_rows=51), case.name).decision == "waiting"
    assert watch(case.context(), case.name).decision == "rolled back"


def test_a_move_from_a_clock_that_is_ahead_is_named(case: Case):
    case.promoted("USUAL", "RIGHT")
    case.workspace.execute(
        f"UPDATE {case.settings.table('prompt_moves')} SET moved_at = :when WHERE name = :name AND to_version = 2",
        when=datetime.now(UTC) + timedelta(hours=1),
        name=case.name,
    )
    outcome = watch(case.context(), case.name)
    assert outcome.decision == "waiting" and "clocks is wrong" in outcome.reason


def test_an_outcome_tells_what_why_and_how_to_undo_it():
    said = describe(Outcome("rolled back", "mail", "40 of 40 answers broke the format", 1, before=2, evidence="[…]"))
    assert said.splitlines() == [
        "Prompt mail: rolled back, v1 answers in production again, v2 was taken back.",
        "40 of 40 answers broke the format",
        "Evidence: […]",
        'Undo: sota-deploy prompts promote mail 2 --why "…"',
    ]
    assert "v1 stays in production" in describe(Outcome("kept", "mail", "worse", 1, 2))
    assert "None" not in describe(Outcome("refused", "mail", "no"))


@pytest.mark.parametrize("kind", ["WRONG", "BROKEN"])
def test_a_worse_prompt_is_refused_everywhere(case: Case, kind: str):
    """At export, at the gate, and, when somebody promotes it all the same, by live decisions."""
    case.promoted("USUAL")
    task, context = MailTask(), case.context()
    with closing(blocking_client(case.workspace)) as client:
        model = PaidModel(
            client, case.script.endpoint, Spending(100_000, 1.0), Journal(case.workspace, case.settings, new_id())
        )
        rows = load_dataset(case.workspace, case.settings, case.name).holdout
        compiled = evaluate_prompt(Prompt(case.name, 0, text("RIGHT")), rows, task, model)
        worse = evaluate_prompt(Prompt(case.name, 0, text(kind)), rows, task, model)
        model.journal.close()

    check_export(compiled, compiled)
    with pytest.raises(InvalidOutput, match="the exported text is refused"):
        check_export(compiled, worse)

    case.store.save(case.name, text(kind), alias="challenger")
    kept, _ = case.test()
    assert kept.decision == "kept" and case.store.aliases(case.name) == {"production": 1}

    case.decide(1, 100, broken=0, wrong=20, minute=-1)
    case.store.promote(case.name, 2, by="somebody", why="it reads so well")
    case.decide(2, ROWS, broken=int((~worse.valid).sum()), wrong=int((~worse.correct).sum()))
    assert watch(context, case.name).decision == "rolled back"
    assert case.store.get(case.name).text == text("USUAL")

    case.store.save(case.name, text(kind), alias="challenger")
    assert case.test()[0].decision == "refused"
    assert [by for *_, by in case.production_moves()] == ["me", "somebody", "watch"]

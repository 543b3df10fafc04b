"""Verdicts on decisions: kept once, joined with what is needed to repeat the decision, refused with a reason."""

import json
from typing import Any

import pytest

from lib.core import InvalidInput, NotFound, new_id
from lib.feedback import load_feedback, record_feedback
from lib.workspace import Workspace
from nbs_tests.even_numbers import EvenTask, examples, fresh_workspace, insert_examples

EVEN, ODD = {"label": "even"}, {"label": "odd"}


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    workspace = fresh_workspace(environment)
    insert_examples(workspace, examples(4))
    return workspace


@pytest.fixture
def empty(ground: Workspace) -> Workspace:
    """The same schema without decisions and feedback."""
    for table in ("decisions", "feedback"):
        ground.execute(f"DELETE FROM {ground.settings.table(table)}")
    return ground


def decide(workspace: Workspace, subject: str, result: Any, **columns: Any) -> str:
    """A decision as an agent keeps it."""
    row = {"decision_id": new_id(), "subject_id": subject, "agent_name": "graph", "prompt": "even v1"} | columns
    row["result"] = result if isinstance(result, str) else json.dumps(result)
    values = ", ".join(f":{name}" for name in row)
    table = workspace.settings.table("decisions")
    workspace.execute(
        f"INSERT INTO {table} ({', '.join(row)}, created_at) VALUES ({values}, current_timestamp())", **row
    )
    return row["decision_id"]


def load(workspace: Workspace, blanks: frozenset[str] = frozenset({"number"}), limit: int = 40):
    return load_feedback(workspace, workspace.settings, EvenTask(), blanks, limit)


def rows(workspace: Workspace) -> list[dict]:
    return workspace.sql(f"SELECT * FROM {workspace.settings.table('feedback')} ORDER BY created_at")


def test_the_same_words_are_kept_once(empty: Workspace):
    decision = decide(empty, "s1", {"inputs": {"number": "7"}})
    said = {"correct": False, "expected": ODD, "comment": "seven — odd"}
    ids = {record_feedback(empty, empty.settings, decision, **said) for _ in range(2)}
    ids.add(record_feedback(empty, empty.settings, subject_id="s1", **said))
    ids.add(record_feedback(empty, empty.settings, decision, **said | {"source": "somebody else"}))
    kept = rows(empty)
    assert {row["feedback_id"] for row in kept} == ids and len(kept) == 2
    assert {(row["decision_id"], row["subject_id"], row["agent_name"]) for row in kept} == {(decision, "s1", "graph")}


def test_inputs_come_from_the_decision_else_from_a_training_example(empty: Workspace):
    recorded = decide(empty, "s1", {"inputs": {"number": 7}})
    labelled = decide(empty, "n002", {"even": False})
    by_agent = decide(empty, "n003", {}, agent_name=EvenTask.agent_name, prompt=None)
    decide_other = decide(empty, "n001", {}, prompt="other v1")
    for decision in (recorded, labelled, by_agent, decide_other):
        expected = ODD if decision == recorded else None
        record_feedback(empty, empty.settings, decision, correct=False, expected=expected, comment="no")
    found = {case.example.id: case for case in load(empty)}
    assert {key: (case.example.inputs, case.example.expected) for key, case in found.items()} == {
        recorded: ({"number": "7"}, ODD),
        labelled: ({"number": "2"}, EVEN),
        by_agent: ({"number": "3"}, ODD),
    }
    assert found[recorded].comment == "no" and found[recorded].correct is False


def test_the_newest_word_counts_and_the_newest_come_first(empty: Workspace):
    decisions = [decide(empty, f"s{n}", {"inputs": {"number": n}}) for n in range(3)]
    for decision in decisions:
        record_feedback(empty, empty.settings, decision, correct=True, expected=EVEN)
    record_feedback(empty, empty.settings, decisions[0], correct=False, expected=ODD, comment="on second thought")
    found = load(empty)
    assert [case.example.id for case in found] == [decisions[0], decisions[2], decisions[1]]
    assert (found[0].correct, found[0].example.expected) == (False, ODD)
    assert [case.example.id for case in load(empty, limit=2)] == [decisions[0], decisions[2]]


def test_what_failed_on_the_way_is_told(empty: Workspace):
    trace = new_id()
    decision = decide(empty, "s1", {"inputs": {"number": 1}}, trace_id=trace)
    spans = empty.settings.table("otel_spans")
    for number, (name, code) in enumerate((("chat", "STATUS_CODE_ERROR"), ("store", "STATUS_CODE_UNSET"))):
        empty.execute(
            f"INSERT INTO {spans} (trace_id, name, start_time_unix_nano, status) "
            "VALUES (:trace, :name, :at, named_struct('message', 'cut off', 'code', :code))",
            trace=trace,
            name=name,
            at=number,
            code=code,
        )
    record_feedback(empty, empty.settings, decision, correct=False, expected=ODD)
    assert load(empty)[0].trace == ("chat: cut off",)


def test_a_verdict_needs_a_decision(empty: Workspace):
    for given in ({"decision_id": "d1", "subject_id": "s1"}, {}):
        with pytest.raises(InvalidInput, match="one decision") as caught:
            record_feedback(empty, empty.settings, correct=True, **given)
        assert caught.value.field == "decision_id"
    with pytest.raises(NotFound, match="no decision with subject_id 'nobody'"):
        record_feedback(empty, empty.settings, subject_id="nobody", correct=True)
    assert rows(empty) == []


def test_nothing_to_learn_from_is_named(empty: Workspace):
    with pytest.raises(NotFound, match=r"no feedback on decisions of agent even_sayer: .*feedback needs rows"):
        load(empty)
    record_feedback(empty, empty.settings, decide(empty, "s1", {"even": True}), correct=False, expected=ODD)
    with pytest.raises(NotFound, match=r"none of the 1 judged decisions .* `inputs` with number is needed"):
        load(empty)
    record_feedback(empty, empty.settings, decide(empty, "s2", {"inputs": {"number": 1}}), correct=False)
    with pytest.raises(NotFound, match="none of the 2"):
        load(empty)


@pytest.mark.parametrize("result", ["{", "no"])
def test_a_row_that_is_no_json_is_named(empty: Workspace, result: str):
    decision = decide(empty, "s1", result)
    record_feedback(empty, empty.settings, decision, correct=False, expected=ODD)
    with pytest.raises(InvalidInput, match=f"decision {decision}: result is not JSON") as caught:
        load(empty)
    assert caught.value.field == "result"

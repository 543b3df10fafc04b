"""Paid calls: never above the cap on many threads, never paid twice in one study, nothing lost that was paid."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace

import pytest

from lib.catalog import MIGRATIONS
from lib.config import OptimizerConfig, PriceConfig
from lib.core import BudgetExceeded, ForbiddenCall, InvalidOutput, NotFound, Unavailable, call_scope, new_id
from lib.serving import Completion
from lib.spending import BlockingClient, Journal, ModelCall, PaidCall, PaidModel, Spending
from lib.workspace import Workspace
from nbs_tests.even_numbers import Parity, blocking_client, fresh_workspace
from nbs_tests.scripted_model import Script, scripted_endpoint, words

PLENTY = 10_000_000


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def heard(messages: list[dict[str, str]]) -> str:
    return f"I heard {messages[-1]['content']}"


def said(endpoint: str, text: str) -> Completion:
    return Completion(endpoint, "m", text, None, 3, 2, 1.5)


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Workspace:
    return fresh_workspace(environment)


@pytest.fixture(scope="module")
def scripted(environment: dict[str, str]) -> Iterator[Script]:
    with scripted_endpoint(environment, heard) as script:
        yield script


@pytest.fixture
def script(scripted: Script) -> Script:
    """The endpoint, as if it had never been asked."""
    scripted.calls.clear()
    scripted.answer = heard
    return scripted


@pytest.fixture(scope="module")
def client(ground: Workspace) -> Iterator[BlockingClient]:
    client = blocking_client(ground)
    yield client
    client.close()


@pytest.fixture
def journal(ground: Workspace) -> Iterator[Journal]:
    journal = Journal(ground, ground.settings, new_id())
    yield journal
    journal.close()


@pytest.fixture
def model(client: BlockingClient, script: Script, journal: Journal) -> PaidModel:
    return PaidModel(client, script.endpoint, Spending(PLENTY, 100.0), journal)


# The cap


def test_two_hundred_callers_never_pass_the_cap(client: BlockingClient, script: Script, journal: Journal):
    spending = Spending(1_500, 100.0)
    model = PaidModel(client, script.endpoint, spending, journal)
    seen = []

    def ask(index: int) -> bool:
        try:
            model.complete(asked(f"question number {index}"), max_tokens=30)
        except BudgetExceeded:
            return False
        finally:
            seen.append(spending.spent_tokens)
        return True

    with ThreadPoolExecutor(50) as pool:
        answered = sum(pool.map(ask, range(200)))
    paid = sum(words(body["messages"][0]["content"]) * 2 + 2 for body in script.calls)
    assert paid == spending.spent_tokens == max(seen) <= 1_500
    assert 0 < answered == script.count < 200
    refused = spending.worst_case(ModelCall(script.endpoint, asked("question number 199"), 30))
    assert paid + refused.tokens > 1_500, "calls were refused that had room"


def test_a_cap_in_money_stops_as_well(client: BlockingClient, script: Script, journal: Journal):
    spending = Spending(PLENTY, 0.001, lambda endpoint: PriceConfig(input_per_million=1, output_per_million=10))
    model = PaidModel(client, script.endpoint, spending, journal)
    with pytest.raises(BudgetExceeded, match=r"0\.001000 in money stops the next call.*--budget or"):
        for index in range(100):
            model.complete(asked(f"{index}"), max_tokens=30)
    assert 0 < spending.spent_money <= 0.001
    assert script.count == len(journal.calls())


def test_the_refusal_names_cap_spent_next_and_flag():
    spending = Spending(1_234, 1.0)
    spending.add(1_200, 0.001)
    with (
        pytest.raises(BudgetExceeded, match=r"1,234 tokens.*1,200 tokens are spent.*\d+ tokens more.*--budget-tokens"),
        spending.reserve(ModelCall("e", asked("x"), 20)),
    ):
        pytest.fail("a call above the cap was let through")


def test_a_cap_too_small_for_one_trial_is_refused_before_anything_is_paid(model: PaidModel, script: Script):
    model.spending.tokens = 1_000
    with pytest.raises(BudgetExceeded, match=r"1,000 tokens is too small.*40 calls.*nothing was paid"):
        model.require(40, asked("x" * 100), max_tokens=20)
    model.require(2, asked("x" * 100), max_tokens=20)
    assert script.count == 0


def test_a_call_waits_for_what_others_hold_and_do_not_need():
    spending, call = Spending(100, 1.0), ModelCall("e", asked("x"), 40)
    worst, entered = spending.worst_case(call).tokens, threading.Event()
    assert worst <= 100 < 2 * worst

    def second() -> None:
        with spending.reserve(call) as settle:
            entered.set()
            settle(1, 1)

    thread = threading.Thread(target=second)
    with spending.reserve(call) as settle:
        thread.start()
        assert not entered.wait(0.05)
        settle(1, 1)
    thread.join(10)
    assert entered.is_set()
    assert spending.spent_tokens == 4


def test_a_call_that_fails_gives_its_reservation_back():
    spending, call = Spending(100, 1.0), ModelCall("e", asked("x"), 40)
    for _ in range(5):
        with pytest.raises(Unavailable), spending.reserve(call):
            raise Unavailable("away")
    assert spending.spent_tokens == 0


def test_an_endpoint_that_does_not_count_is_charged_the_worst_case():
    spending, call = Spending(1_000, 1.0), ModelCall("e", asked("x"), 40)
    worst = spending.worst_case(call)
    with spending.reserve(call) as settle:
        assert settle(0, 0) == worst
    assert spending.spent_tokens == worst.tokens


def test_an_endpoint_that_counts_more_than_the_bound_raises_it():
    spending, call = Spending(PLENTY, 10.0), ModelCall("e", asked("words and more words " * 20), 1)
    first = spending.worst_case(call).input_tokens
    for counted, expected in ((first // 4, first), (3 * first, 1.25 * 3 * first)):
        with spending.reserve(call) as settle:
            settle(counted, 1)
        assert spending.worst_case(call).input_tokens == pytest.approx(expected, abs=1)
    assert spending.worst_case(replace(call, endpoint="other")).input_tokens == first


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("1234567890" * 10, 100), ("xQzJkWvYpB" * 10, 100), ("語" * 50, 150), ("🦜" * 20, 80), ("", 31)],
    ids=["digits", "no words", "cjk", "emoji", "the template alone"],
)
def test_the_bound_is_above_what_byte_level_tokenisers_count(text: str, tokens: int):
    assert ModelCall("e", asked(text), 1).prompt_bound >= tokens


def test_prices_are_those_of_the_endpoint():
    config = OptimizerConfig.model_validate({"prices": {"dear": {"input_per_million": 100, "output_per_million": 200}}})
    spending = Spending(10, 1.0, config.price)
    assert spending.charge("dear", 10_000, 10_000).money == pytest.approx(3.0)
    assert spending.charge("other", 1_000_000, 1_000_000).money == pytest.approx(2.0)


# The journal


@pytest.mark.parametrize("text", ["plain", "ünï ☃ 🦜\u2028 '); DROP", '{"a": "\\" :study"}\n\ttab'], ids=range(3))
def test_an_answer_is_paid_once_and_kept(ground: Workspace, client: BlockingClient, script: Script, text: str):
    study, answers = new_id(), []
    for _ in range(2):
        journal = Journal(ground, ground.settings, study)
        answers.append(
            PaidModel(client, script.endpoint, Spending(PLENTY, 1.0), journal).complete(asked(text), max_tokens=9)
        )
        journal.close()
    assert answers[0] == answers[1]
    assert answers[0].text == f"I heard {text}"
    assert script.count == 1


def test_the_same_question_from_many_threads_is_paid_once(model: PaidModel, script: Script):
    script.answer = lambda messages: time.sleep(0.05) or heard(messages)
    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(lambda _: model.complete(asked("again"), max_tokens=9), range(20)))
    assert (len(answers), script.count) == (1, 1)


def test_another_study_pays_for_itself(ground: Workspace, client: BlockingClient, script: Script):
    for study in ("a", "b"):
        journal = Journal(ground, ground.settings, study)
        PaidModel(client, script.endpoint, Spending(PLENTY, 1.0), journal).complete(asked("x"), max_tokens=9)
        journal.close()
    assert script.count == 2


@pytest.mark.parametrize(
    "change",
    [{"endpoint": "f"}, {"max_tokens": 2}, {"temperature": 0.5}, {"schema": Parity}, {"rollout": 1}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_an_answer_depends_on_is_in_the_key(change: dict):
    call = ModelCall("e", asked("x"), 1)
    assert replace(call, **change).key != call.key == ModelCall("e", asked("x"), 1).key


def test_what_breaks_the_schema_is_paid_and_not_asked_again(ground: Workspace, client: BlockingClient, script: Script):
    study, messages = new_id(), []
    for _ in range(2):
        journal, spending = Journal(ground, ground.settings, study), Spending(PLENTY, 1.0)
        model = PaidModel(client, script.endpoint, spending, journal)
        with pytest.raises(InvalidOutput, match="broke the schema Parity") as caught:
            model.complete(asked("x"), max_tokens=9, schema=Parity)
        journal.close()
        messages.append(str(caught.value))
        assert caught.value.answer.text == "I heard x"
    assert messages[0] == messages[1]
    assert script.count == 1
    [call] = journal.calls()
    assert (call.completion.input_tokens, call.completion.output_tokens, call.cost > 0) == (1, 3, True)


def test_a_failure_is_no_answer(model: PaidModel, script: Script):
    script.answer = lambda messages: 503
    with pytest.raises(Unavailable, match="503"):
        model.complete(asked("x"), max_tokens=9)
    assert (model.journal.calls(), model.spending.spent_tokens) == ([], 0)
    script.answer = heard
    assert model.complete(asked("x"), max_tokens=9).text == "I heard x"


def test_the_callers_limits_travel_to_the_other_thread(model: PaidModel, script: Script):
    with call_scope(llm_allowed=False), pytest.raises(ForbiddenCall):
        model.complete(asked("x"), max_tokens=9)
    assert script.count == 0


def test_rows_are_there_once_however_often_they_are_written(ground: Workspace):
    journals = [Journal(ground, ground.settings, "twice") for _ in range(2)]
    calls = [ModelCall("e", asked(str(index)), 9) for index in range(60)]
    for journal in journals:
        for call in calls:
            journal.once(call, lambda call=call: PaidCall(call.key, said("e", call.messages[0]["content"]), 0.5))
        journal.close()
    rows = ground.sql(f"SELECT count(*) AS n, sum(cost) AS cost FROM {journals[0].table} WHERE study = 'twice'")
    assert rows == [{"n": 60, "cost": 30.0}]
    kept = Journal(ground, ground.settings, "twice").calls()
    assert sorted(int(call.answer().text) for call in kept) == list(range(60))


def test_the_background_writes_by_itself(ground: Workspace, journal: Journal):
    call = ModelCall("e", asked("x"), 9)
    journal.once(call, lambda: PaidCall(call.key, said("e", "y"), 0.5))
    end = time.monotonic() + 30
    while not (kept := Journal(ground, ground.settings, journal.study).calls()) and time.monotonic() < end:
        time.sleep(0.2)
    assert [one.key for one in kept] == [call.key]


def test_what_could_not_be_written_waits(environment: dict[str, str]):
    ground = fresh_workspace(environment)
    journal, call = Journal(ground, ground.settings, "waits"), ModelCall("e", asked("x"), 9)
    ground.execute(f"DROP TABLE {journal.table}")
    journal.once(call, lambda: PaidCall(call.key, said("e", "y"), 0.5))
    with pytest.raises(NotFound):
        journal.flush()
    for statement in MIGRATIONS[-1].statements(ground.settings):
        ground.execute(statement)
    journal.close()
    [row] = ground.sql(f"SELECT response, created_at FROM {journal.table}")
    assert json.loads(row["response"])["text"] == "y"


def test_closing_gives_up_calls_in_flight(ground: Workspace, script: Script):
    asked_now, done = threading.Event(), threading.Event()
    script.answer = lambda messages: asked_now.set() or (done.wait(30) and "")
    client, spending = blocking_client(ground), Spending(PLENTY, 1.0)
    model = PaidModel(client, script.endpoint, spending, Journal(ground, ground.settings, new_id()))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(model.complete, asked("x"), max_tokens=9)
        assert asked_now.wait(30)
        client.close()
        with pytest.raises(CancelledError):
            call.result(30)
    done.set()
    assert (model.journal.calls(), spending.spent_tokens) == ([], 0)


def test_closing_leaves_no_thread(ground: Workspace):
    blocking_client(ground).close()
    journal, call = Journal(ground, ground.settings, new_id()), ModelCall("e", asked("x"), 9)
    journal.once(call, lambda: PaidCall(call.key, said("e", "y"), 0.5))
    before = threading.active_count()
    journal.close()
    assert threading.active_count() == before - 1

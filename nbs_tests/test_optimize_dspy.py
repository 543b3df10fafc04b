"""DSPy's optimisers over an agent's own prompt: what they find is the text that is sent, and it is paid once."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import dspy
import pytest
from pydantic import BaseModel, Field

from lib.catalog import Catalog
from lib.config import AgentConfig, OptimizerConfig, RuntimeConfig, ServingConfig
from lib.context import AppContext
from lib.core import BudgetExceeded, InvalidInput, InvalidOutput, NotFound, PermissionDenied, Unavailable, new_id
from lib.dspy_program import Session, build_program, export_text, task_model
from lib.evaluation import Example, Judged, split_of
from lib.optimize_dspy import OPTIMIZERS, evaluate_program, optimise, settle
from lib.prompt_text import Prompt
from lib.settings import Settings, load_settings
from lib.studies import open_study
from lib.trials import evaluate_prompt
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script, scripted_endpoint

TEXT = "You sort tickets.\n  Answer in JSON.\n---\nTicket: {{ticket}}\nFrom: {{sender}}\n"
ROWS = {"train": 6, "validation": 6, "holdout": 4}


class Urgency(BaseModel):
    reason: str = Field(max_length=80)
    urgency: int = Field(ge=0, le=100, description="0 can wait, 100 cannot")


class TicketTask:
    agent_name: ClassVar[str] = "sorter"
    prompt: ClassVar[str] = "sorter"
    output_schema: ClassVar[type[BaseModel]] = Urgency
    max_tokens: ClassVar[int] = 60

    def expected_output(self, example: Example) -> dict[str, Any]:
        return {"reason": "größer “fire”", "urgency": 95 if example.expected["label"] == "urgent" else 5}

    def judge(self, example: Example, output: dict[str, Any] | None) -> Judged:
        urgent = example.expected["label"] == "urgent"
        if output is None:
            return Judged(False, 0.0, 5.0)
        right = (output["urgency"] >= 50) == urgent
        return Judged(right, 1 - (output["urgency"] / 100 - urgent) ** 2, 0.0 if right else 5.0)


def is_ticket(messages: list[dict]) -> bool:
    return messages[-1]["content"].startswith("Ticket:")


def urgency(messages: list[dict], knows: bool) -> str:
    burns = "burns" in messages[-1]["content"]
    return json.dumps({"reason": "so", "urgency": (90 if burns else 10) if knows else 60})


def learner(messages: list[dict]) -> str:
    """Right only when it was shown how, or told by an instruction; asked for an instruction it writes one."""
    if is_ticket(messages):
        return urgency(messages, knows=len(messages) > 2 or "what burns" in messages[0]["content"])
    if "new_instruction" in str(messages):
        return '{"new_instruction": "Urgent is what burns."}'
    fields = ("observations", "summary", "proposed_instruction")
    return "\n\n".join(f"[[ ## {name} ## ]]\nUrgent is what burns." for name in fields) + "\n\n[[ ## completed ## ]]"


def examples(agent: str, label: Callable[[int], str]) -> Iterator[tuple[str, dict[str, Any]]]:  # table, row
    for split, size in ROWS.items():
        subjects = (f"{agent} {split} {number}" for number in range(1000))
        chosen = [name for name in subjects if split in ("holdout", split_of(name))][:size]
        for number, subject in enumerate(chosen):
            ticket = f"{subject} {'burns' if number % 2 else 'is slow'}"
            row = {
                "example_id": f"{agent}-{split}-{number}",
                "agent_name": agent,
                "subject_id": subject,
                "input": json.dumps({"ticket": ticket, "sender": "Zoë"}),
                "expected": json.dumps({"label": label(number)}),
            }
            yield ("holdout" if split == "holdout" else "training_examples"), row


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield replace(load_settings(environment), schema=f"dspy_{new_id()[:8]}", app_name=f"dspy-{new_id()[:8]}")


@pytest.fixture(scope="module")
def ground(settings: Settings) -> AppContext:
    """A schema with tickets for one agent that can learn and one that has nothing to learn from."""
    context = AppContext(settings)
    Catalog(context.workspace, settings).setup()
    rows = [*examples("sorter", lambda n: "urgent" if n % 2 else "idle"), *examples("uniform", lambda n: "urgent")]
    for table in ("training_examples", "holdout"):
        columns = ", ".join(rows[0][1])
        context.workspace.execute(
            f"INSERT INTO {settings.table(table)} ({columns}) "
            f"SELECT inline(from_json(:rows, 'array<struct<{columns.replace(',', ': string,')}: string>>'))",
            rows=json.dumps([row for where, row in rows if where == table]),
        )
    context.prompt_store.save("sorter", TEXT, alias="production")
    return context


def with_model(ground: AppContext, endpoint: str) -> AppContext:
    task = "nbs_tests.test_optimize_dspy:TicketTask"
    agent = AgentConfig(class_="lib.agents:EchoAgent", prompt="sorter", endpoint=endpoint, task=task)
    config = RuntimeConfig(
        agents=dict.fromkeys(("sorter", "uniform", "nobody"), agent),
        serving=ServingConfig(max_concurrency=4, retries=0),
        optimizer=OptimizerConfig(demos=2, trials=2, train_rows=6, validation_rows=6, holdout_rows=4),
    )
    return ground.replace(config=config)


@dataclass
class Bench:
    """A scripted model and the app that asks it."""

    script: Script
    context: AppContext

    @property
    def tickets(self) -> list[str]:
        """What the agent's own calls asked."""
        return [json.dumps(call["messages"]) for call in self.script.calls if is_ticket(call["messages"])]


@pytest.fixture
def bench(request: pytest.FixtureRequest, ground: AppContext, environment: dict[str, str]) -> Iterator[Bench]:
    with scripted_endpoint(environment, getattr(request, "param", learner)) as script:
        yield Bench(script, with_model(ground, script.endpoint))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_finds_a_better_prompt_and_saves_it_as_challenger(
    bench: Bench, optimizer: str, capsys: pytest.CaptureFixture[str]
):
    told: list[tuple[str, int, int]] = []

    def report(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        sys.stdout.write(f"{stage}\n")

    with open_study(bench.context, "sorter", optimizer) as study:
        found = optimise(study, report)
        plan, paid = study.plan, study.spending
    heard = capsys.readouterr()
    assert heard.out.split() == [stage for stage, *_ in told] and not heard.err, "DSPy talks of its own accord"
    saved = found.candidate
    assert saved, found.reason
    assert plan.value(found.parent) < 0.8 < plan.value(found.exported)
    assert found.compiled["output"].tolist() == found.exported["output"].tolist()
    about = saved.metadata
    assert about["optimizer"] == optimizer and about["seed"] == 0 and about["data_version"] == plan.dataset.version
    assert (
        about["parent"] == 1 and about["study"] == plan.study and about["dspy"] == dspy.__version__ and about["run_id"]
    )
    assert about["tokens"] == paid.spent_tokens > 0
    assert bench.context.prompt_store.get("sorter", "challenger").version == saved.version
    assert bench.context.prompt_store.get("sorter").version == 1, "an optimiser promotes nothing"
    for example in plan.dataset.validation:
        assert json.dumps(saved.messages(**example.inputs)) in bench.tickets
    assert len(bench.tickets) == len(set(bench.tickets)), "the same question was paid twice"
    assert told[0][0] == "parent" and all(done <= total for _, done, total in told)
    assert {trial.text for trial in found.trials} >= {found.text}
    before = bench.script.count
    with open_study(bench.context, "sorter", optimizer) as study:
        assert optimise(study).candidate == saved
    assert bench.script.count == before, "a finished study was paid again"


def test_the_text_is_what_dspy_sends(bench: Bench):
    parent, task = Prompt("sorter", 1, TEXT), TicketTask()
    program = build_program(parent, task)
    assert Prompt("sorter", 0, export_text(program, parent, task)).turns == parent.turns, "untouched, layout and all"
    tickets = [
        Example(str(n), {"ticket": f"{n} “burns”\n{{{{sender}}}}", "sender": "  Zoë "}, {"label": "urgent"})
        for n in range(3)
    ]
    golden = [dspy.Example(**one.inputs, **task.expected_output(one)).with_inputs(*one.inputs) for one in tickets]
    compiled = dspy.LabeledFewShot(k=2).compile(program, trainset=golden[1:])
    text = Prompt("sorter", 0, export_text(compiled, parent, task))
    with (
        open_study(bench.context, "sorter", "labeled_few_shot") as study,
        dspy.context(lm=task_model(study.model, task, Session())),
    ):
        assert compiled(**tickets[0].inputs).urgency == 90
    assert bench.script.calls[-1]["messages"] == text.messages(**tickets[0].inputs)
    assert bench.script.calls[-1]["response_format"]["json_schema"]["name"] == "Urgency"
    again = export_text(build_program(text, task), text, task)
    assert Prompt("sorter", 0, again).turns == text.turns, "the demonstrations of the parent stay"


class Hinted(dspy.Module):
    """A program that does more than its predictor: no text of its prompt can carry that."""

    def __init__(self, inner: dspy.Module):
        super().__init__()
        self.inner = inner

    def forward(self, **inputs: str) -> dspy.Prediction:
        return self.inner(**inputs | {"sender": "hint"})


def hinted(messages: list[dict]) -> str:
    return urgency(messages, knows="From: hint" in messages[-1]["content"])


@pytest.mark.parametrize("bench", [hinted], indirect=True, ids=["hinted"])
def test_a_program_whose_text_loses_something_is_refused_at_export(bench: Bench):
    with open_study(bench.context, "sorter", "labeled_few_shot") as study:
        plan = study.plan
        parent = evaluate_prompt(plan.parent, plan.dataset.validation, plan.task, study.model)
        found = settle(study, Hinted(build_program(plan.parent, plan.task)), parent)
    assert found.candidate is None and "refused" in found.reason
    assert found.compiled["score"].mean() > found.exported["score"].mean()


def spoiled(messages: list[dict]) -> str:
    return urgency(messages, knows=len(messages) == 2)


@pytest.mark.parametrize("bench", [spoiled], indirect=True, ids=["spoiled"])
def test_what_is_worse_than_its_parent_is_not_saved(bench: Bench):
    saved = len(bench.context.prompt_store.list("sorter"))
    with open_study(bench.context, "sorter", "labeled_few_shot") as study:
        found = optimise(study)
    assert found.candidate is None and "sorter v1 stays" in found.reason
    assert len(bench.context.prompt_store.list("sorter")) == saved


def babbling(messages: list[dict]) -> str:
    return learner(messages) if len(messages) > 2 else "no JSON at all"


@pytest.mark.parametrize("bench", [babbling], indirect=True, ids=["babbling"])
def test_an_answer_that_breaks_the_format_counts_as_wrong_and_is_paid_once(bench: Bench):
    with open_study(bench.context, "sorter", "bootstrap_few_shot") as study:
        found = optimise(study)
        program = build_program(study.plan.parent, study.plan.task)
        assert not evaluate_program(program, study)["valid"].any()
    assert not found.parent["valid"].any() and found.exported["valid"].all() and found.candidate
    assert len(bench.tickets) == len(set(bench.tickets))


def rambling(messages: list[dict]) -> str:
    return urgency(messages, knows=False) if is_ticket(messages) else "Tips to avoid credit cards: a bank."


@pytest.mark.parametrize("bench", [rambling], indirect=True, ids=["rambling"])
def test_a_proposer_that_cannot_write_instructions_is_named(bench: Bench):
    with (
        open_study(bench.context, "sorter", "miprov2") as study,
        pytest.raises(InvalidOutput, match=f"{bench.script.endpoint} wrote no instruction"),
    ):
        optimise(study)
    with open_study(bench.context, "sorter", "gepa") as study:
        found = optimise(study)
    assert found.text == TEXT and "sorter v1 stays" in found.reason


def test_the_cap_stops_before_the_next_call_and_a_larger_one_goes_on_without_paying_twice(bench: Bench):
    with open_study(bench.context, "sorter", "labeled_few_shot") as study:
        study.spending.tokens = 600  # room for the parent, not for what comes then
        with pytest.raises(BudgetExceeded, match="goes on with a larger budget"):
            optimise(study)
        spent = study.spending.spent_tokens
        assert spent <= 600 and 6 <= bench.script.count < 12
    with open_study(bench.context, "sorter", "labeled_few_shot") as study:
        assert study.spending.spent_tokens == spent
        assert optimise(study).candidate
    assert len(bench.tickets) == len(set(bench.tickets)) == 12


def test_the_best_so_far_is_kept_when_the_cap_ends_a_search(bench: Bench):
    with open_study(bench.context, "sorter", "miprov2", trials=12, seed=3) as study:
        spending, trial = study.spending, study.run.trial

        def last(name: str, *about: Any, **more: Any) -> float:
            value = trial(name, *about, **more)
            if name != "parent" and value > 0.9:
                spending.tokens = spending.spent_tokens  # nothing more may be paid
            return value

        study.run.trial = last
        found = optimise(study)
    assert found.candidate and "the budget ended the search" in found.reason, found.reason


@pytest.mark.parametrize("status", [403, 500])
def test_an_endpoint_that_fails_is_no_wrong_answer(bench: Bench, status: int):
    def failing(messages: list[dict]) -> str | int:
        return learner(messages) if len(bench.tickets) < 8 else status

    bench.script.answer = failing
    with (
        open_study(bench.context, "sorter", "bootstrap_few_shot") as study,
        pytest.raises(PermissionDenied if status == 403 else Unavailable),
    ):
        optimise(study)
    assert study.run.rows[-1]["trial"] == "parent", "no prompt was scored by answers that never came"
    assert bench.script.count == 8


def test_what_is_under_way_when_a_search_ends_is_paid_and_kept(bench: Bench):
    together = threading.Barrier(4)

    def one_fails(messages: list[dict]) -> str | int:
        together.wait(30)
        if "Ticket: 0" in messages[-1]["content"]:
            return 403
        time.sleep(0.3)
        return learner(messages)

    bench.script.answer = one_fails
    session, task = Session(), TicketTask()
    rows = [dspy.Example(ticket=str(number), sender="Zoë").with_inputs("ticket", "sender") for number in range(8)]
    with open_study(bench.context, "sorter", "labeled_few_shot") as study:
        evaluate = dspy.Evaluate(devset=rows, metric=lambda gold, answer: 1.0, num_threads=4)
        with pytest.raises(PermissionDenied), session.ended(), dspy.context(lm=task_model(study.model, task, session)):
            evaluate(build_program(study.plan.parent, task))
        assert len(study.journal.calls()) == 3 and bench.script.count == 4


@pytest.mark.parametrize(
    ("agent", "optimizer", "options", "error", "said"),
    [
        ("sorter", "sgd", {}, NotFound, "labeled_few_shot"),
        ("sorter", "textgrad", {}, InvalidInput, "DSPy has no optimizer 'textgrad'"),
        ("sorter", "labeled_few_shot", {"demos": 0}, InvalidInput, "demos must be at least 1"),
        ("sorter", "gepa", {"budget_tokens": 100}, BudgetExceeded, "too small for one trial"),
        ("uniform", None, {}, InvalidInput, "one class"),
        ("nobody", None, {}, NotFound, "no training rows"),
    ],
    ids=["unknown", "textgrad", "demos", "budget", "one-class", "no-rows"],
)
def test_what_is_wrong_is_said_before_any_call(
    bench: Bench, agent: str, optimizer: str | None, options: dict, error: type[Exception], said: str
):
    with pytest.raises(error, match=said), open_study(bench.context, agent, optimizer, **options) as study:
        optimise(study)
    assert bench.script.count == 0


@pytest.mark.parametrize("blank", ["config", "fields", "reason"])
def test_a_name_that_dspy_needs_is_refused_by_name(blank: str):
    with pytest.raises(InvalidInput, match=blank) as caught:
        build_program(Prompt("sorter", 1, f"Sort.\n---\nTicket: {{{{{blank}}}}}"), TicketTask())
    assert caught.value.field == blank


def test_a_killed_job_pays_only_for_the_rest(bench: Bench, settings: Settings, ground: AppContext):
    reached, go_on = threading.Event(), threading.Event()

    def stopping(messages: list[dict]) -> str:
        if bench.script.count > 7:  # six rows with the parent, then the search
            reached.set()
            go_on.wait(60)
        return learner(messages)

    bench.script.answer = stopping
    command = [sys.executable, "-m", __name__, bench.script.endpoint, settings.schema, settings.app_name]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL) as process:
        assert reached.wait(60)
        paid = f"SELECT count(*) AS n FROM {settings.table('optimizer_calls')} WHERE endpoint = :endpoint"
        while int(ground.workspace.sql(paid, endpoint=bench.script.endpoint)[0]["n"]) < 7:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    go_on.set()
    with open_study(bench.context, "sorter", "bootstrap_few_shot") as study:
        assert optimise(study).candidate
        runs = study.run.client.search_runs([study.run.experiment_id], f"tags.`sota.study` = '{study.plan.study}'")
    assert len(runs) == 1, "the same study is the same run"
    assert len(set(bench.tickets)) == len(bench.tickets) - 1, "only the call that was under way is asked again"


def job(endpoint: str, schema: str, app: str) -> None:
    """One study in a process of its own."""
    context = AppContext(replace(load_settings(), schema=schema, app_name=app))
    with open_study(with_model(context, endpoint), "sorter", "bootstrap_few_shot") as study:
        optimise(study)


if __name__ == "__main__":
    job(*sys.argv[1:])

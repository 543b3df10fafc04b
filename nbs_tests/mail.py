"""An agent that sorts mail as its prompt says: examples, a model that answers as told, decisions in Delta."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from lib.catalog import MIGRATIONS, Catalog
from lib.config import AgentConfig, GateConfig, OptimizerConfig, RuntimeConfig, ServingConfig
from lib.context import AppContext
from lib.core import InvalidInput, new_id
from lib.evaluation import Example, Judged
from lib.promotion import Outcome, ab_test
from lib.prompts import PromptStore
from lib.settings import Settings, load_settings
from lib.workspace import Workspace
from nbs_tests.scripted_model import Script, scripted_endpoint

ROWS = 20
GATE = {"min_effect": 0.6, "margin_p95_ms": 60_000.0, "watch_rows": 20}  # 13 rows are enough


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str
    cost: float = 0.0


class MailTask:
    """Whether a mail is spam. Its number, even or odd, is the truth."""

    agent_name: ClassVar[str] = "mail"
    prompt: ClassVar[str] = "mail"
    output_schema: ClassVar[type[BaseModel]] = Answer
    max_tokens: ClassVar[int] = 20

    def expected_output(self, example: Example) -> dict[str, Any]:
        return {"label": example.expected["label"]}

    def judge(self, example: Example, output: dict[str, Any] | None) -> Judged:
        if "label" not in example.expected or example.expected["label"] == "broken":
            raise InvalidInput(f"example {example.id} has no label that anybody could judge", field="expected.label")
        right = output is not None and output["label"] == example.expected["label"]
        return Judged(right, float(right), output["cost"] if output else 0.0)


def answer(messages: list[dict[str, Any]]) -> str:
    """What the system text says: RIGHT, WRONG, BROKEN, or COSTLY: right, at a cost that is now high, now low."""
    system, number = messages[0]["content"], int(messages[-1]["content"].split()[-1])
    truth, other = ("spam", "ham") if number % 2 == 0 else ("ham", "spam")
    if "BROKEN" in system:
        return "I would rather not say"
    label = truth if "WRONG" not in system and (number % 3 or "RIGHT" in system or "COSTLY" in system) else other
    return json.dumps({"label": label, "cost": (100.0 if number // 2 % 2 else -100.0) if "COSTLY" in system else 0.0})


def text(kind: str, *, blank: str = "mail") -> str:
    return f"You sort mail. {kind}\n---\nMail: {{{{{blank}}}}}\n"


@dataclass
class Case:
    """One prompt with its own agent and its own examples."""

    workspace: Workspace
    settings: Settings
    script: Script
    name: str = field(default_factory=lambda: f"mail_{new_id()[:8]}")

    def context(self, *, optimizer: dict[str, Any] | None = None, task: str | None = None, **gate: Any) -> AppContext:
        """As a job would build it; each one has a store of its own."""
        path = task or "nbs_tests.mail:MailTask"
        agent = AgentConfig(class_="lib.agents:EchoAgent", prompt=self.name, endpoint=self.script.endpoint, task=path)
        config = RuntimeConfig(
            agents={self.name: agent},
            gate=GateConfig(**(GATE | gate)),
            optimizer=OptimizerConfig(**(optimizer or {})),
            serving=ServingConfig(retries=0),
        )
        return AppContext(self.settings, config=config, workspace=self.workspace)

    @property
    def store(self) -> PromptStore:
        return self.context().prompt_store

    def add_examples(self, table: str, numbers: range, **expected: str) -> None:
        rows = [
            {
                "id": f"mail-{number:04}",  # the same in each run: which rows a look sees is drawn by them
                "input": json.dumps({"mail": f"number {number}"}),
                "expected": json.dumps({"label": "ham" if number % 2 else "spam"} | expected),
            }
            for number in numbers
        ]
        self.workspace.execute(
            f"INSERT INTO {self.settings.table(table)} (example_id, agent_name, subject_id, input, expected) "
            "SELECT r.id, :agent, r.id, r.input, r.expected "
            "FROM (SELECT inline(from_json(:rows, 'array<struct<id: string, input: string, expected: string>>'))) AS r",
            rows=json.dumps(rows),
            agent=self.name,
        )

    def decide(self, version: int, total: int, broken: int = 0, wrong: int = 0, minute: float = 0.0) -> None:
        """Decisions of a version, the first ones broken or wrong, `minute` minutes from now."""
        about = {"run": new_id(), "total": total, "when": (datetime.now(UTC) + timedelta(minutes=minute)).isoformat()}
        row, time = "concat(:run, '-', id)", "CAST(:when AS TIMESTAMP) FROM range(0, :total)"
        self.workspace.execute(
            f"INSERT INTO {self.settings.table('decisions')} "
            "(decision_id, prompt, model, degraded, latency_ms, created_at) "
            f"SELECT {row}, :label, CASE WHEN id < :broken THEN 'rules' ELSE 'chat' END, id < :broken, 100.0, "
            f"{time}",
            **about,
            label=f"{self.name} v{version}",
            broken=broken,
        )
        self.workspace.execute(
            f"INSERT INTO {self.settings.table('feedback')} (feedback_id, decision_id, correct, created_at) "
            f"SELECT {row}, {row}, id >= :wrong, {time}",
            **about,
            wrong=wrong,
        )

    def production_moves(self) -> list[tuple[int | None, int | None, str]]:
        """From, to and by whom."""
        moves = self.store.history(self.name)
        return [(move.from_version, move.to_version, move.moved_by) for move in moves if move.alias == "production"]

    def start(self, challenger: str | None = "RIGHT", production: str = "USUAL") -> None:
        """Version 1 in production, version 2 as challenger."""
        store = self.store
        store.promote(self.name, store.save(self.name, text(production)).version, by="me", why="the first")
        if challenger is not None:
            store.save(self.name, text(challenger), alias="challenger")

    def promoted(self, *kinds: str) -> None:
        """Each text a version, promoted by hand one after the other, with decisions of the one before it."""
        store = self.store
        for kind in kinds:
            saved = store.save(self.name, text(kind))
            if saved.version > 1:
                self.decide(saved.version - 1, 100, broken=2, wrong=20, minute=-1)
            store.promote(self.name, saved.version, by="me", why="trust me")

    def test(self, **gate: Any) -> tuple[Outcome, int]:
        """One night's A/B test, and how many calls it paid."""
        before = self.script.count
        return ab_test(self.context(**gate), self.name), self.script.count - before


@contextmanager
def post_office(environment: Mapping[str, str]) -> Iterator[Callable[[], Case]]:
    """A schema and a scripted endpoint; each call gives a prompt of its own with its examples."""
    settings = replace(load_settings(environment), schema=f"mail_{new_id()[:8]}")
    workspace = Workspace(settings)
    catalog = Catalog(workspace, settings)
    catalog.ensure_containers()
    catalog.migrate([one for one in MIGRATIONS if one.name in ("001_decisions", "003_examples", "005_improvement")])

    def make() -> Case:
        case = Case(workspace, settings, script)
        case.add_examples("training_examples", range(1000, 1060))
        case.add_examples("holdout", range(ROWS))
        return case

    with scripted_endpoint(environment, answer) as script:
        yield make


@contextmanager
def killed(store: PromptStore, method: str) -> Iterator[None]:
    """The process ends where `method` would begin."""

    def end(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    setattr(store, method, end)
    with pytest.raises(KeyboardInterrupt):
        yield

"""A tiny agent's prompt and what it is judged by: is a number even?"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from lib.catalog import Catalog
from lib.config import AgentConfig, OptimizerConfig, RuntimeConfig, ServingConfig
from lib.context import AppContext
from lib.core import new_id
from lib.evaluation import Example, Judged
from lib.prompts import Prompt
from lib.serving import ModelServingClient
from lib.settings import load_settings
from lib.spending import BlockingClient
from lib.workspace import Workspace

PROMPT = Prompt("even", 1, "Say whether a number is even (gerade).\n---\nThe number is {{number}}\n")
SERVING = ServingConfig(retries=0, max_concurrency=8)


class Parity(BaseModel):
    """What the model answers."""

    even: bool


class EvenTask:
    """Right is right; a wrong answer costs 2."""

    agent_name: ClassVar[str] = "even_sayer"
    prompt: ClassVar[str] = "even"
    output_schema: ClassVar[type[BaseModel]] = Parity
    max_tokens: ClassVar[int] = 20

    def expected_output(self, example: Example) -> dict[str, Any]:
        """The truth."""
        return {"even": example.expected["label"] == "even"}

    def judge(self, example: Example, output: dict[str, Any] | None) -> Judged:
        """Whether it is the truth."""
        right = output == self.expected_output(example)
        return Judged(right, float(right), 0.0 if right else 2.0)


def number(messages: list[dict[str, Any]]) -> int:
    """The number that was asked about."""
    return int(messages[-1]["content"].split()[-1])


def truth(messages: list[dict[str, Any]]) -> str:
    """The right answer."""
    return json.dumps({"even": number(messages) % 2 == 0})


def examples(count: int) -> list[Example]:
    """The first numbers."""
    return [Example(f"n{n:03}", {"number": str(n)}, {"label": "odd" if n % 2 else "even"}) for n in range(count)]


def fresh_workspace(environment: dict[str, str], schema: str | None = None) -> Workspace:
    """A schema with its tables and volumes; an existing one when it is named."""
    settings = replace(load_settings(environment), schema=schema or f"trials_{new_id()[:8]}")
    workspace = Workspace(settings)
    if schema is None:
        Catalog(workspace, settings).setup()
    return workspace


def blocking_client(workspace: Workspace, serving: ServingConfig = SERVING) -> BlockingClient:
    """The app's client for threads."""
    client = ModelServingClient(workspace.settings.host or "", workspace.auth_headers, serving)
    return BlockingClient(client)


def insert_examples(workspace: Workspace, rows: list[Example], table: str = "training_examples") -> None:
    """Write labelled rows."""
    bound: dict[str, Any] = {"agent": EvenTask.agent_name}
    for index, row in enumerate(rows):
        values = {"id": row.id, "input": json.dumps(row.inputs), "expected": json.dumps(row.expected)}
        bound |= {f"{name}{index}": value for name, value in values.items()}
    places = ", ".join(f"(:id{i}, :agent, :id{i}, :input{i}, :expected{i})" for i in range(len(rows)))
    columns = "example_id, agent_name, subject_id, input, expected"
    workspace.execute(f"INSERT INTO {workspace.settings.table(table)} ({columns}) VALUES {places}", **bound)


def even_context(workspace: Workspace, optimizer: OptimizerConfig, **agent: Any) -> AppContext:
    """The app's context with the one agent that says whether numbers are even."""
    about = {"class": "lib.agents:EchoAgent", "prompt": "even", "task": "nbs_tests.even_numbers:EvenTask"}
    config = AgentConfig.model_validate(about | agent)
    runtime = RuntimeConfig(agents={EvenTask.agent_name: config}, serving=SERVING, optimizer=optimizer)
    return AppContext(workspace.settings, workspace=workspace, config=runtime, folder=Path("nowhere"))

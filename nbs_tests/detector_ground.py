"""The example's own agent on ground of its own: a schema with labelled rows, and a model that answers as told."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.context import AppContext
from lib.core import new_id
from lib.evaluation import split_of
from lib.prompts import read_prompts
from lib.settings import load_settings
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script, scripted_endpoint

AGENT = "fraud_detector"
GATE = {"min_effect": 0.6, "margin_cost": 100.0, "margin_p95_ms": 60_000.0}  # few rows are enough
ROWS = {"train": 8, "validation": 8, "holdout": 30}


def answer(messages: list[dict[str, Any]]) -> str:
    """Right when the prompt shows examples; the bare prompt takes everything for fraud."""
    fraud = len(messages) <= 2 or "points to a stolen card" in messages[-1]["content"]
    return json.dumps({"reason": "so it is", "fraud_score": 95 if fraud else 5})


def rows(split: str, count: int) -> list[dict[str, Any]]:
    """Labelled rows, half of them fraud, of subjects that `lib.evaluation` puts into this split."""
    subjects = (f"{split}-{number}" for number in range(100 * count))
    fitting = (name for name in subjects if split == "holdout" or split_of(name) == split)
    found = []
    for number in range(count):
        label = ("genuine", "fraud")[number % 2]
        finding = "points to a stolen card" if label == "fraud" else "nothing unusual"
        inputs = {"payment": f"{split} {number}: 90.00 EUR", "findings": finding, "similar": "none"}
        values = {"input": json.dumps(inputs), "expected": json.dumps({"label": label, "amount": 90.0})}
        found.append({"id": f"{split}-{number}", "subject": next(fitting)} | values)
    return found


def insert(context: AppContext, table: str, examples: list[dict[str, Any]]) -> None:
    """Write the rows in one statement."""
    bound = {f"{key}{number}": value for number, row in enumerate(examples) for key, value in row.items()}
    places = (f"(:id{n}, :agent, :subject{n}, :input{n}, :expected{n})" for n in range(len(examples)))
    columns = "example_id, agent_name, subject_id, input, expected"
    name = context.settings.table(table)
    context.workspace.execute(f"INSERT INTO {name} ({columns}) VALUES {', '.join(places)}", agent=AGENT, **bound)


@contextmanager
def detector_ground(environment: Mapping[str, str], folder: Path) -> Iterator[tuple[AppContext, Script]]:
    """Production has the repository's prompt; the optimiser is the cheapest one. Until the block ends."""
    with scripted_endpoint(environment, answer) as script:
        name = f"ground_{new_id()[:8]}"
        settings = replace(load_settings(environment), schema=name, app_name=name, chat_endpoint=script.endpoint)
        context = AppContext(settings)
        context.catalog.setup()
        for file in (ROOT / "app" / "config").glob("*.yaml"):
            (folder / file.name).write_text(file.read_text())
        optimizer = {f"{split}_rows": count for split, count in ROWS.items()} | {"optimizer": "labeled_few_shot"}
        own = {"gate": GATE, "optimizer": optimizer, "serving": {"max_concurrency": 4, "retries": 0}}
        (folder / "sota_config.local.yaml").write_text(json.dumps(own))  # JSON is YAML
        context.config_store.sync(folder)
        [prompt] = [prompt for prompt in read_prompts(ROOT / "app" / "prompts") if prompt.name == AGENT]
        context.prompt_store.save(AGENT, prompt.text, alias="production", source="repository")
        insert(context, "training_examples", [*rows("train", ROWS["train"]), *rows("validation", ROWS["validation"])])
        insert(context, "holdout", rows("holdout", ROWS["holdout"]))
        yield context, script


def environment_of(context: AppContext) -> dict[str, str]:
    """The variables that give any process the same names."""
    settings = context.settings
    return {
        "DATABRICKS_HOST": settings.host or "",
        "DATABRICKS_TOKEN": settings.token or "",
        "SPARK_REMOTE": settings.spark_remote or "",
        "SOTA_SCHEMA": settings.schema,
        "SOTA_APP_NAME": settings.app_name,
        "SOTA_CHAT_ENDPOINT": settings.chat_endpoint,
    }

"""Data for prompts: splits that stay, and everything that is wrong with them said before a model is asked."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lib.catalog import Catalog
from lib.core import InvalidInput, NotFound, new_id
from lib.evaluation import Example, check_leakage, load_dataset, split_of
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

COLUMNS = ("example_id", "agent_name", "subject_id", "input", "expected")
Row = dict[str, str | None]


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return replace(load_settings(environment), schema=f"evaluation_{new_id()[:8]}")


@pytest.fixture(scope="module")
def ground(settings: Settings) -> Workspace:
    workspace = Workspace(settings)
    Catalog(workspace, settings).setup()
    return workspace


@pytest.fixture
def put(ground: Workspace, settings: Settings) -> Callable[[str, list[Row]], None]:
    def insert(table: str, rows: list[Row]) -> None:
        kinds = ", ".join(f"{name}: string" for name in COLUMNS)
        ground.execute(
            f"INSERT INTO {settings.table(table)} ({', '.join(COLUMNS)}) "
            f"SELECT inline(from_json(:rows, 'array<struct<{kinds}>>'))",
            rows=json.dumps(rows),
        )

    return insert


def row(agent: str, i: int, label: str | None = None, **changes: Any) -> Row:
    content = {
        "input": json.dumps({"text": f"{agent} {i}"}),
        "expected": json.dumps({"label": label or "ab"[i % 4 == 0]}),
    }
    return {"example_id": f"{agent}-{i}", "agent_name": agent, "subject_id": f"{agent}-s{i // 2}", **content, **changes}


def test_a_subject_stays_where_it_is():
    assert [split_of(f"customer {i}") for i in range(6)] == [split_of(f"customer {i}") for i in range(6)]
    shares = Counter(split_of(str(i), {"train": 3, "validation": 1}) for i in range(4000))
    assert 0.72 < shares["train"] / 4000 < 0.78
    assert {split_of(str(i), {"train": 1.0}) for i in range(100)} == {"train"}


def test_the_splits_share_nothing_and_the_version_tells_them_apart(ground: Workspace, settings: Settings, put):
    put("training_examples", [row("good", i) for i in range(80)])
    put("holdout", [row("good", i) for i in range(80, 160)])
    data = load_dataset(ground, settings, "good")
    splits = {"train": data.train, "validation": data.validation, "holdout": data.holdout}
    assert sum(map(len, splits.values())) == 160 and len(data.holdout) == 80
    assert all(one.split == name for name, examples in splits.items() for one in examples)
    assert all(split_of(one.subject_id) == one.split for one in [*data.train, *data.validation])
    assert load_dataset(ground, settings, "good") == data
    limits = {"train": 12, "holdout": 20}
    fewer, others = (load_dataset(ground, settings, "good", limits, seed) for seed in (0, 1))
    assert (len(fewer.train), len(fewer.validation), len(fewer.holdout)) == (12, len(data.validation), 20)
    assert Counter(one.expected["label"] for one in fewer.holdout) == {"a": 15, "b": 5}  # each class in its share
    assert fewer.holdout != others.holdout
    assert len({data.version, fewer.version, others.version}) == 3
    assert {one.id for one in fewer.holdout} < {
        one.id for one in load_dataset(ground, settings, "good", {"holdout": 30}).holdout
    }  # more rows are the same rows and others
    rare = load_dataset(ground, settings, "good", {"holdout": 2})
    assert {one.expected["label"] for one in rare.holdout} == {"a", "b"}


def test_an_unknown_agent_is_told_from_the_known(ground: Workspace, settings: Settings, put):
    put("training_examples", [row("known", 1)])
    with pytest.raises(NotFound, match="no training rows for agent 'nobody'") as caught:
        load_dataset(ground, settings, "nobody")
    assert "known" in (caught.value.known or [])


@pytest.mark.parametrize("limits", [{"train": 0}, {"test": 5}])
def test_a_limit_that_is_none_is_named(ground: Workspace, settings: Settings, limits: dict[str, int]):
    with pytest.raises(InvalidInput) as caught:
        load_dataset(ground, settings, "good", limits)
    assert caught.value.field == f"limits.{next(iter(limits))}"


TRAINING = range(40)
BAD: dict[str, tuple[Callable[[str], list[Row]], Callable[[str], list[Row]], str, str]] = {
    "no training rows": (lambda a: [], lambda a: [row(a, 90), row(a, 91, "z")], "train", "no training rows"),
    "no holdout": (lambda a: [row(a, i) for i in TRAINING], lambda a: [], "holdout", "no holdout rows"),
    "one class": (
        lambda a: [row(a, i, "same") for i in TRAINING],
        lambda a: [row(a, 90), row(a, 91, "z")],
        "train",
        "are of one class, 'same'",
    ),
    "one class in the holdout": (
        lambda a: [row(a, i) for i in TRAINING],
        lambda a: [row(a, 91)],
        "holdout",
        "all 1 holdout rows are of one class",
    ),
    "a subject of the training rows": (
        lambda a: [row(a, i) for i in TRAINING],
        lambda a: [row(a, 92, subject_id=f"{a}-s3")],
        "subject_id",
        "leakage: 1 subjects",
    ),
    "an input of the training rows": (
        lambda a: [row(a, i) for i in TRAINING],
        lambda a: [row(a, 92, input=json.dumps({"text": f"{a} 7"}))],
        "input",
        r"leakage: 1 inputs .* such as those of \S+-7 \(\w+\) and \S+-92 \(holdout\)",
    ),
    "an id twice": (
        lambda a: [row(a, i) for i in TRAINING],
        lambda a: [row(a, 7)],
        "example_id",
        "1 example ids come more than once",
    ),
    "no JSON": (lambda a: [row(a, 1, input="{")], lambda a: [], "training_examples.input", "-1 is not JSON"),
    "missing": (lambda a: [row(a, 1, expected=None)], lambda a: [], "training_examples.expected", "not JSON"),
    "a list": (lambda a: [], lambda a: [row(a, 1, input="[]")], "holdout.input", "must be a JSON object of texts"),
    "a number": (lambda a: [], lambda a: [row(a, 1, input='{"n": 1}')], "holdout.input", "object of texts"),
    "no label": (
        lambda a: [row(a, 1, expected='{"score": 1}')],
        lambda a: [],
        "training_examples.expected.label",
        "-1 has no label",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_named_before_anything_is_paid(ground: Workspace, settings: Settings, put, name: str):
    training, holdout, field, message = BAD[name]
    agent = name.replace(" ", "_")
    for table, rows in (("training_examples", training(agent)), ("holdout", holdout(agent))):
        if rows:
            put(table, rows)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_dataset(ground, settings, agent)
    assert caught.value.field == field


def test_examples_without_a_subject_are_subjects_of_their_own():
    def examples(text: str) -> list[Example]:
        return [
            Example("1", {"text": "a"}, {"label": "x"}),
            Example("2", {"text": text}, {"label": "x"}, split="holdout"),
        ]

    check_leakage(examples("b"))
    with pytest.raises(InvalidInput, match="1 inputs"):
        check_leakage(examples("a"))

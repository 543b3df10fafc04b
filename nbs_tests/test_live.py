"""What live decisions say about a version: exact counts from Delta, error rates that hold however often one looks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from lib.catalog import MIGRATIONS, Catalog
from lib.config import GateConfig
from lib.core import new_id
from lib.live import Live, compare_live, planned_look, read_live
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

GATE = GateConfig()
MOVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def live(label: str, n: int, broken: float = 0.0, wrong: float = 0.0, slow: float = 1.0, seed: int = 0) -> Live:
    chance = np.random.default_rng([seed, n])
    return Live(label, chance.random(n) < broken, chance.random(n // 4) < wrong, slow * chance.lognormal(6, 0.5, n))


def first(all_of: Live, n: int) -> Live:
    """The same version when it had made `n` decisions."""
    return Live(all_of.label, all_of.broken[:n], all_of.wrong[: n // 4], all_of.latency_ms[:n])


def test_a_look_comes_when_the_evidence_has_doubled():
    assert [planned_look(n, 50, 0.05)[:2] for n in (0, 49, 50, 99, 100, 199, 200)] == [
        (0, 0),
        (0, 0),
        (1, 50),
        (1, 50),
        (2, 100),
        (2, 100),
        (3, 200),
    ]


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.4])
def test_all_looks_together_spend_no_more_than_alpha(alpha: float):
    spent = sum(planned_look(10 * 2**k, 10, alpha)[2] for k in range(50))
    assert 0.9 * alpha < spent <= alpha


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_a_healthy_version_is_taken_back_in_at_most_alpha_of_all_watches(rate: float):
    """Six looks at each of 200 versions that are as good as their predecessor; one fall is enough to be counted."""
    gate = GateConfig(margin_p95_ms=0)
    fallen = 0
    for seed in range(200):
        before, after = live("p v1", 300, rate, rate, seed=seed), live("p v2", 1600, rate, rate, seed=1000 + seed)
        looks = (compare_live(before, first(after, 50 * 2**k), gate) for k in range(6))
        fallen += any(finding.fallen for findings in looks for finding in findings)
    assert fallen / 200 <= gate.alpha


def test_between_two_looks_every_watch_says_the_same():
    before, after = live("p v1", 300, 0.1, 0.3), live("p v2", 799, 0.2, 0.3)
    said = [str(compare_live(before, first(after, n), GATE)[0]) for n in (400, 401, 500, 799)]
    assert len(set(said)) == 1 and "of 400 answers" in said[0]


@pytest.mark.parametrize(
    ("measure", "fall"), [("format", {"broken": 0.3}), ("feedback", {"wrong": 0.9}), ("latency", {"slow": 5.0})]
)
def test_a_fall_is_found_by_its_measure_alone(measure: str, fall: dict[str, float]):
    good = {"broken": 0.03, "wrong": 0.2, "slow": 1.0}
    for seed in range(20):
        before, after = live("p v1", 400, **good, seed=seed), live("p v2", 200, **(good | fall), seed=100 + seed)
        assert [one.measure for one in compare_live(before, after, GATE) if one.fallen] == [measure]


def test_a_better_version_never_falls():
    before, after = live("p v1", 400, broken=0.5, wrong=0.9, slow=5), live("p v2", 400)
    assert [one.measure for one in compare_live(before, after, GATE)] == ["format", "feedback", "latency"]
    assert not any(one.fallen for one in compare_live(before, after, GATE))


def test_latency_has_its_margin():
    before, after = live("p v1", 400), live("p v2", 400)
    slower = replace(after, latency_ms=after.latency_ms + 400)
    for margin, expected in ((500.0, False), (100.0, True)):
        gate = GateConfig(margin_p95_ms=margin)
        assert [one.fallen for one in compare_live(before, slower, gate) if one.measure == "latency"] == [expected]


@pytest.mark.parametrize("n", [0, 1, 49])
def test_too_few_decisions_say_nothing(n: int):
    assert compare_live(live("p v1", 400), live("p v2", n, broken=1.0), GATE) == []


def test_without_a_predecessor_there_is_no_comparison():
    assert compare_live(live("p v1", 0), live("p v2", 400, broken=1.0), GATE) == []


def test_unknown_latencies_are_left_out():
    nothing = np.full(100, np.nan)
    before, after = replace(live("p v1", 100), latency_ms=nothing), replace(live("p v2", 100), latency_ms=nothing)
    assert not any(one.fallen for one in compare_live(before, after, GATE))


def test_a_finding_says_what_was_counted():
    before, after = live("p v1", 400, broken=0.02), live("p v2", 130, broken=1.0)
    said = str(compare_live(before, after, GATE)[0])
    assert said.startswith(f"100 of 100 answers broke the format, before {before.broken.sum()} of 400 (significant at")


@pytest.fixture(scope="module")
def ground(environment: dict[str, str]) -> Iterator[tuple[Workspace, Settings]]:
    settings = replace(load_settings(environment), schema=f"live_{new_id()[:8]}")
    workspace = Workspace(settings)
    workspace.execute(f"CREATE SCHEMA {settings.catalog}.{settings.schema}")
    Catalog(workspace, settings).migrate(
        [one for one in MIGRATIONS if one.name in ("001_decisions", "005_improvement")]
    )
    return workspace, settings


def insert(ground: tuple[Workspace, Settings], table: str, rows: list[dict]) -> None:
    """Rows of text; the columns named *_at are times, `degraded`, `correct` and `latency_ms` what they are."""
    workspace, settings = ground
    kinds = {"degraded": "BOOLEAN", "correct": "BOOLEAN", "latency_ms": "DOUBLE", "created_at": "TIMESTAMP"}
    columns = list(rows[0])
    values = ", ".join(f"CAST(r.{name} AS {kinds.get(name, 'STRING')})" for name in columns)
    fields = ", ".join(f"{name}: string" for name in columns)
    workspace.execute(
        f"INSERT INTO {settings.table(table)} ({', '.join(columns)}) "
        f"SELECT {values} FROM (SELECT inline(from_json(:rows, 'array<struct<{fields}>>'))) AS r",
        rows=json.dumps([{name: None if value is None else str(value) for name, value in row.items()} for row in rows]),
    )


def decision(label: str, minute: float, **changes: object) -> dict:
    row = {"decision_id": new_id(), "prompt": label, "model": "chat", "degraded": False, "latency_ms": 100.0 + minute}
    return row | {"created_at": MOVED + timedelta(minutes=minute)} | changes


def test_decisions_are_counted_as_the_tables_have_them(ground: tuple[Workspace, Settings]):
    label, other = "détective_🙂 v3", "détective_🙂 v30"
    mine = [
        decision(label, 1),
        decision(label, 2, degraded=True, model="rules", latency_ms=None),  # the model broke the format
        decision(label, 3, degraded=True),  # a memory that was away
        decision(label, 4, degraded=True, model=None),
        decision(label, 5, degraded=None),
    ]
    strangers = [decision(other, 2, degraded=True, model="rules"), decision(None, 2), decision("'; DROP TABLE x --", 2)]
    edges = [decision(label, -1), decision(label, 60), decision(label, 10**6)]  # before, at the end, in the future
    insert(ground, "decisions", mine + strangers + edges)
    said = [(mine[0], None, 1), (mine[0], False, 2), (mine[0], True, 3), (mine[1], False, 0), (mine[2], None, 1)]
    insert(
        ground,
        "feedback",
        [
            {"decision_id": about["decision_id"], "correct": correct, "created_at": MOVED + timedelta(days=day)}
            for about, correct, day in said
        ],
    )
    workspace, settings = ground
    found = read_live(workspace, settings, label, MOVED + HOUR, since=MOVED)
    assert found.broken.tolist() == [False, True, False, True, False]
    assert found.wrong.tolist() == [True, False], "the last word on each decision, in the order they were said"
    assert np.array_equal(found.latency_ms, [101, np.nan, 103, 104, 105], equal_nan=True)
    assert len(read_live(workspace, settings, label, MOVED).broken) == 1
    assert len(read_live(workspace, settings, "nobody v1", MOVED).broken) == 0

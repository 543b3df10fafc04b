"""The gate: what it says and of what, frames that cannot be compared, verdicts that were forged."""

import json
import math
from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.core import InvalidInput, NotFound, Unavailable
from lib.evaluation import (
    Judged,
    Verdict,
    compare,
    log_verdict,
    metric,
    read_verdict,
    summarise,
    write_verdict,
)
from lib.gate_statistics import bca_interval, bootstrap, fell, looks_alpha, mcnemar, reliability, resampled_quantile

GATE: dict[str, Any] = {"margin_cost": 0.5, "margin_p95_ms": 500.0, "min_effect": 0.1}


def frame(n: int, accuracy: float, seed: int = 0, cost: float = 1.0, latency: float = 200.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns = {"correct": random.random(n) < accuracy, "score": random.random(n), "cost": random.normal(cost, 0.3, n)}
    return pd.DataFrame({"id": [f"r{i}" for i in range(n)], **columns, "latency_ms": random.gamma(4, latency / 4, n)})


def exactly(gains: int, losses: int, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two frames that differ in nothing else than who is right where."""
    rows = pd.DataFrame({"id": range(n), "score": 0.5, "cost": 1.0, "latency_ms": 10.0})
    was, now = np.zeros(n, bool), np.zeros(n, bool)
    now[:gains], was[gains : gains + losses] = True, True
    return rows.assign(correct=was), rows.assign(correct=now)


def test_the_verdict_is_what_others_rely_on():
    names = ["decision", "reason", "p_value", "difference", "interval", "n", "n_required"]
    assert [one.name for one in fields(Verdict)][:7] == names
    verdict = compare(frame(500, 0.6), frame(500, 0.75, 1), **GATE)
    assert (verdict.decision, verdict.n) == ("promote", 500)
    assert verdict.interval[0] < verdict.difference < verdict.interval[1]
    assert all(isinstance(value, float) for value in (verdict.p_value, verdict.difference, *verdict.interval))


@pytest.mark.parametrize(
    ("gains", "losses", "n", "decision", "says"),
    [
        (90, 40, 500, "promote", "+10.0 points"),
        (40, 90, 500, "keep", "the candidate is worse"),
        (0, 30, 30, "keep", "the candidate is worse"),  # that takes no plan
        (60, 50, 500, "keep", "no significant gain, and one of 10.0 points would have been seen"),
        (0, 0, 500, "keep", "no significant gain"),
        (90, 40, 400, "inconclusive", "64 more rows are needed"),
        (1, 0, 1, "inconclusive", "463 more rows"),
        (250, 5, 500, "promote", "+49.0 points"),  # disagreeing much because of gaining much
        (200, 200, 500, "inconclusive", "more rows are needed"),  # disagreeing more than two coins do
    ],
)
def test_what_it_says(gains: int, losses: int, n: int, decision: str, says: str):
    verdict = compare(*exactly(gains, losses, n), **GATE)
    assert verdict.decision == decision
    assert verdict.reason.startswith(f"{decision}: ") and says in verdict.reason
    assert (verdict.gains, verdict.losses, verdict.difference) == (gains, losses, (gains - losses) / n)


@pytest.mark.parametrize("column", ["cost", "latency_ms"])
def test_a_difference_at_the_margin_is_allowed_and_one_above_it_is_not(column: str):
    baseline, candidate = exactly(100, 40, 500)
    baseline[column] = 0.1
    margins = GATE | {"margin_cost": 0.2, "margin_p95_ms": 0.2}
    allowed = compare(baseline, candidate.assign(**{column: 0.3}), **margins)  # 0.3 - 0.1 is not quite 0.2
    refused = compare(baseline, candidate.assign(**{column: 0.3001}), **margins)
    assert (allowed.decision, refused.decision) == ("promote", "keep")
    assert "above the margin of 0.2" in refused.reason


def test_what_might_be_above_the_margin_is_inconclusive():
    baseline, candidate = frame(500, 0.5), frame(500, 0.8, 1, cost=1.49)
    verdict = compare(baseline, candidate, **GATE)
    assert verdict.cost_difference < 0.5 < verdict.cost_bound
    assert (verdict.decision, "may rise by up to" in verdict.reason) == ("inconclusive", True)


@pytest.mark.parametrize("seed", range(8))
def test_swapping_the_frames_mirrors_the_difference(seed: int):
    a, b = frame(200, 0.5, seed), frame(200, 0.6, seed + 100)
    there, back = compare(a, b, **GATE), compare(b, a, **GATE)
    assert back.p_value == there.p_value
    assert back.difference == -there.difference
    assert np.allclose(back.interval, [-there.interval[1], -there.interval[0]])
    assert np.allclose(back.score_interval, [-there.score_interval[1], -there.score_interval[0]])


@pytest.mark.parametrize("seed", range(8))
def test_order_other_columns_and_the_way_numbers_are_kept_change_nothing(seed: int):
    a, b = frame(120, 0.5, seed), frame(120, 0.7, seed + 100)
    before = a.copy(), b.copy()
    verdict = compare(a, b, **GATE)
    shuffled = b.sample(frac=1, random_state=seed).set_index(np.arange(7, 127)).assign(error=None)
    assert compare(a.sample(frac=1, random_state=seed + 1), shuffled, **GATE) == verdict
    kept = a.astype({"correct": "boolean", "cost": object, "id": "string"})
    assert compare(kept.assign(correct=kept["correct"].astype(object)), b.astype({"correct": int}), **GATE) == verdict
    assert compare(kept, b.astype({"correct": float}), **GATE) == verdict
    pd.testing.assert_frame_equal(a, before[0])
    pd.testing.assert_frame_equal(b, before[1])


def test_decimals_of_a_table_are_numbers():
    a, b = exactly(5, 2, 20)
    assert compare(a.assign(cost=Decimal("1.00")), b, **GATE) == compare(a, b, **GATE)


WRONG: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "not a frame": (lambda f: f.to_dict(), ""),
    "empty": (lambda f: f[:0], ""),
    "no columns": (lambda f: pd.DataFrame(), ""),
    "no cost": (lambda f: f.drop(columns="cost"), ".cost"),
    "two costs": (lambda f: pd.concat([f, f[["cost"]]], axis=1), ".cost"),
    "id is the index": (lambda f: f.set_index("id"), ".id"),
    "an id twice": (lambda f: f.assign(id=["r0", *f["id"][1:-1], "r0"]), ".id"),
    "no id": (lambda f: f.assign(id=[None, *f["id"][1:]]), ".id"),
    "ids of two kinds": (lambda f: f.assign(id=[1, *f["id"][1:]]), ".id"),
    "correct is a share": (lambda f: f.assign(correct=0.5), ".correct"),
    "correct is text": (lambda f: f.assign(correct="True"), ".correct"),
    "correct is missing": (lambda f: f.assign(correct=[None, *f["correct"][1:]]), ".correct"),
    "cost is text": (lambda f: f.assign(cost="1.0"), ".cost"),
    "cost is nan": (lambda f: f.assign(cost=[*f["cost"][1:], math.nan]), ".cost"),
    "nothing but nan": (lambda f: f.assign(score=None), ".score"),
    "latency is infinite": (lambda f: f.assign(latency_ms=[*f["latency_ms"][1:], math.inf]), ".latency_ms"),
    "beyond all reason": (lambda f: f.assign(cost=1e300), ".cost"),
    "dates": (lambda f: f.assign(cost=pd.Timestamp("2026-01-01")), ".cost"),
}


@pytest.mark.parametrize("which", ["baseline", "candidate"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_named_with_its_column(name: str, which: str):
    spoil, column = WRONG[name]
    pair = {"baseline": frame(6, 0.5), "candidate": frame(6, 0.5, 1)}
    pair[which] = spoil(pair[which])
    with pytest.raises(InvalidInput) as caught:
        compare(**pair, **GATE)
    assert caught.value.field == which + column
    assert str(caught.value).startswith(which)


def test_rows_of_one_frame_only_are_named():
    with pytest.raises(
        InvalidInput, match=r"2 ids are in one frame only, such as 'other' \(baseline lacks it\), 'r5' \(cand"
    ):
        compare(frame(6, 0.5), frame(6, 0.5).replace({"id": {"r5": "other"}}), **GATE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("alpha", value) for value in (0, 1, -0.1, "0.05", math.nan, None, True)),
        *(("power", value) for value in (0, 1, 80)),
        *(("min_effect", value) for value in (0, 1, -0.1, 10, 1e-9)),
        *((name, value) for name in ("margin_cost", "margin_p95_ms") for value in (-1, math.nan, None)),
        *(("disagreement", value) for value in (0, 1.5)),
        *(("looks", value) for value in (0, 1.5, 1000)),
        *(("look", value) for value in (0, 2)),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, value: Any):
    with pytest.raises(InvalidInput, match=f"{name} must be") as caught:
        compare(frame(5, 0.5), frame(5, 0.5), **GATE | {name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("gains", [0, 1, 5, 17])
@pytest.mark.parametrize("losses", [0, 1, 8, 17])
def test_the_p_value_is_that_of_a_binomial_test(gains: int, losses: int):
    expected = stats.binomtest(gains, gains + losses).pvalue if gains + losses else 1.0
    assert math.isclose(mcnemar(gains, losses), expected)
    assert compare(*exactly(gains, losses, 40), **GATE).p_value == mcnemar(gains, losses)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_that_of_an_independent_bootstrap(seed: int):
    values = np.random.default_rng(seed).exponential(size=60) - 0.7
    ours = bca_interval(values, bootstrap(60, lambda counts: values @ counts), 0.1)
    theirs = stats.bootstrap(
        (values,), np.mean, method="BCa", confidence_level=0.9, n_resamples=20_000, rng=np.random.default_rng(seed)
    ).confidence_interval
    assert np.allclose(ours, theirs, atol=0.1 * values.std() / np.sqrt(60) * 2)


@pytest.mark.parametrize(
    ("gains", "losses", "n"), [(0, 0, 1), (1, 0, 1), (0, 0, 30), (30, 0, 30), (1, 0, 2), (1, 1, 2)]
)
def test_rows_that_leave_nothing_to_resample_give_a_sane_interval(gains: int, losses: int, n: int):
    verdict = compare(*exactly(gains, losses, n), **GATE)
    assert -1 <= verdict.interval[0] <= verdict.difference <= verdict.interval[1] <= 1
    assert verdict.decision != "promote"


@pytest.mark.parametrize("n", [1, 2, 19, 20, 21, 333, 5000])
def test_a_quantile_of_a_resample_is_what_numpy_says(n: int):
    values = np.random.default_rng(n).normal(size=n).round(1)
    counts: list[np.ndarray] = []
    found = bootstrap(n, lambda drawn: counts.append(drawn[:, :5]) or resampled_quantile(values, drawn, 0.95))
    for column in range(5):
        resample = np.repeat(values, counts[0][:, column].astype(int))
        assert len(resample) == n
        assert math.isclose(found[column], np.quantile(resample, 0.95), abs_tol=1e-12)
    assert len(found) == 2000


def test_looks_spend_what_there_is_and_little_at_first():
    levels = looks_alpha(0.05, 5)
    assert math.isclose(sum(levels), 0.05) and levels == sorted(levels)
    assert looks_alpha(0.05, 1) == pytest.approx([0.05])
    with pytest.raises(InvalidInput, match="looks"):
        looks_alpha(0.05, 0)
    early = compare(*exactly(60, 20, 250), **GATE, look=1, looks=2)
    assert early.decision == "promote" and early.n_required <= 250
    assert "look 1 of 2 decides nothing yet" in compare(*exactly(30, 22, 250), **GATE, look=1, looks=2).reason


def test_failures_that_became_more_frequent_are_seen_and_luck_is_not():
    assert fell(10, 200, 15, 50) and not fell(10, 200, 4, 50) and not fell(10, 10, 0, 50)
    expected = stats.fisher_exact([[8, 42], [20, 280]], alternative="greater").pvalue
    assert fell(20, 300, 8, 50, alpha=expected * 1.001) and not fell(20, 300, 8, 50, alpha=expected * 0.999)
    with pytest.raises(InvalidInput, match="after: 6 failures among 5"):
        fell(1, 5, 6, 5)


def test_a_confident_prompt_is_held_to_its_word():
    rows = pd.DataFrame({"correct": [1, 1, 1, 0], "score": [1 - 0.1**2] * 3 + [1 - 0.9**2]})
    table = reliability(rows)
    assert table[["confidence", "accuracy", "rows"]].round(9).values.tolist() == [[0.9, 0.75, 4]]
    low, high = stats.binomtest(3, 4).proportion_ci()
    assert np.allclose(table[["low", "high"]], [[low, high]])


def test_a_summary_names_what_is_missing():
    rows = frame(10, 0.5).assign(valid=True, input_tokens=10, output_tokens=2)
    assert summarise(rows)["rows"] == 10 and summarise(rows)["p95_ms"] == np.quantile(rows["latency_ms"], 0.95)
    with pytest.raises(InvalidInput, match=r"frame\.valid"):
        summarise(rows.drop(columns="valid"))


def test_metrics_go_by_name():
    judged = Judged(True, 0.8, 3.0)
    assert [metric(name)(judged) for name in ("accuracy", "score", "cost")] == [1.0, 0.8, -3.0]
    with pytest.raises(NotFound, match="unknown metric 'length'") as caught:
        metric("length")
    assert caught.value.known == ["accuracy", "score", "cost"]


# Verdict files


@pytest.fixture(scope="module")
def kept() -> tuple[str, pd.DataFrame, pd.DataFrame]:
    pair = frame(480, 0.6), frame(480, 0.6, 2)
    return write_verdict(compare(*pair, **GATE), *pair, prompts=("p v1", "p v2"), data_version="0123"), *pair


def signed_again(text: str, change: Callable[[dict[str, Any]], Any]) -> str:
    """As somebody would who knows how it is signed."""
    baseline, candidate = frame(480, 0.6), frame(480, 0.6, 2)
    content = json.loads(text)
    change(content)
    verdict = Verdict(**content["verdict"])
    return write_verdict(verdict, baseline, candidate, prompts=("p v1", "p v2"), data_version="0123")


def test_a_verdict_is_read_as_it_was_written(kept: tuple[str, pd.DataFrame, pd.DataFrame]):
    text, baseline, candidate = kept
    signed = read_verdict(text, candidate=candidate[::-1], baseline=baseline)
    assert signed.verdict == compare(baseline, candidate, **GATE)
    assert (signed.baseline, signed.candidate, signed.data_version) == ("p v1", "p v2", "0123")
    unbounded = compare(baseline, candidate, **GATE | {"margin_cost": math.inf})
    again = write_verdict(unbounded, baseline, candidate, prompts=("a", "b"), data_version="")
    assert read_verdict(again, baseline, candidate).verdict == unbounded


@pytest.mark.parametrize("change", [("keep", "promote"), ("p v2", "p v3"), ("0123", "9999"), ('"n": 480', '"n": 481')])
def test_an_edited_file_is_caught(kept: tuple[str, pd.DataFrame, pd.DataFrame], change: tuple[str, str]):
    assert change[0] in kept[0]
    with pytest.raises(InvalidInput, match="edited") as caught:
        read_verdict(kept[0].replace(*change))
    assert caught.value.field == "signature"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decision", "promote"),
        ("p_value", 0.01),
        ("reason", "it is better"),
        ("interval", (0.1, 0.2)),
        ("n_required", 5),
    ],
)
def test_a_file_that_was_forged_and_signed_anew_is_caught_by_the_rows(
    kept: tuple[str, pd.DataFrame, pd.DataFrame], name: str, value: Any
):
    text, baseline, candidate = kept
    forged = signed_again(text, lambda content: content["verdict"].update({name: value}))
    assert getattr(read_verdict(forged).verdict, name) == value
    with pytest.raises(InvalidInput, match="forged") as caught:
        read_verdict(forged, baseline, candidate)
    assert caught.value.field == f"verdict.{name}"


def test_a_verdict_about_other_rows_is_no_verdict_about_these(kept: tuple[str, pd.DataFrame, pd.DataFrame]):
    text, baseline, candidate = kept
    with pytest.raises(InvalidInput, match="other rows"):
        read_verdict(text, baseline, candidate.assign(correct=True))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"signature": "x"}', '{"signature": "x", "verdict": {"n": 1}}']
)
def test_what_is_no_verdict_file_is_said_to_be_none(text: str):
    with pytest.raises(InvalidInput, match="no verdict file"):
        read_verdict(text)


def test_a_verdict_is_recorded_in_mlflow(
    kept: tuple[str, pd.DataFrame, pd.DataFrame], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    import mlflow

    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, environment[name])
    run = mlflow.MlflowClient("databricks").get_run(log_verdict(kept[0], "/Shared/gate"))
    assert (run.data.tags["decision"], run.data.params["candidate"], run.data.metrics["n"]) == ("keep", "p v2", 480)
    stored = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/verdict.json")
    assert stored == kept[0]
    with pytest.raises(Unavailable, match="no-path"):
        log_verdict(kept[0], "no-path")

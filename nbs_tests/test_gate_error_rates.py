"""How often the gate is wrong: worlds whose truth we know, drawn with fixed seeds, all through `compare`."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import Verdict, compare
from lib.gate_statistics import looks_alpha, mcnemar, mcnemar_power, required_rows

RUNS = 2_000
MARGINS = {"margin_cost": 0.25, "margin_p95_ms": 100.0}
P95_OF_GAMMA_4 = 7.7537  # in scales


def drawn(
    random: np.random.Generator,
    right: np.ndarray,
    cost: float = 1.0,
    p95_ms: float = 200.0,
) -> pd.DataFrame:
    """A prompt's rows: who is right is given, cost and latency are noise around what is asked for."""
    n = len(right)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "correct": right,
            "score": random.random(n),
            "cost": random.normal(cost, 0.4, n),
            "latency_ms": random.gamma(4, p95_ms / P95_OF_GAMMA_4, n),
        }
    )


def worlds(
    runs: int, n: int, before: float, after: float, shared: float = 0.0, **worse: float
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Pairs of frames; `shared` is the part of the rows that are as hard for one prompt as for the other."""
    random = np.random.default_rng(2026)
    for _ in range(runs):
        luck = random.random(n)
        other = np.where(random.random(n) < shared, luck, random.random(n))
        yield drawn(random, luck < before), drawn(random, other < after, **worse)


def planned(min_effect: float) -> int:
    """The gate's own number of rows."""
    one = drawn(np.random.default_rng(0), np.array([True]))
    return compare(one, one, min_effect=min_effect, **MARGINS).n_required


def rates(pairs: Iterator[tuple[pd.DataFrame, pd.DataFrame]], min_effect: float = 0.1) -> dict[str, float]:
    """The share of each decision."""
    counts = Counter(compare(*pair, min_effect=min_effect, **MARGINS).decision for pair in pairs)
    return {decision: count / counts.total() for decision, count in counts.items()}


def test_a_candidate_that_is_no_better_is_promoted_in_at_most_5_percent():
    found = rates(worlds(RUNS, planned(0.1), 0.6, 0.6))
    assert found["promote"] <= 0.05
    assert found["keep"] >= 0.95  # and the gate says so, it does not shrug


def test_ten_points_more_are_promoted_in_at_least_80_percent():
    assert rates(worlds(RUNS, planned(0.1), 0.6, 0.7))["promote"] >= 0.8


@pytest.mark.parametrize(("before", "shared"), [(0.5, 0.0), (0.45, 0.0), (0.8, 0.0), (0.3, 0.5)])
def test_that_holds_wherever_the_baseline_is(before: float, shared: float):
    assert rates(worlds(200, planned(0.1), before, before + 0.1, shared))["promote"] >= 0.8


@pytest.mark.parametrize("worse", [{"cost": 1.5}, {"p95_ms": 400.0}])
def test_what_is_dearer_or_slower_than_the_margin_is_never_promoted(worse: dict[str, float]):
    found = rates(worlds(400, planned(0.2), 0.4, 0.9, **worse), min_effect=0.2)
    assert "promote" not in found
    assert rates(worlds(100, planned(0.2), 0.4, 0.9), min_effect=0.2)["promote"] > 0.9  # but for that it would be


@pytest.mark.parametrize("worse", [{"cost": 1.25}, {"p95_ms": 300.0}])
def test_just_at_the_margin_about_one_in_twenty_slips_through(worse: dict[str, float]):
    found = rates(worlds(400, planned(0.1), 0.3, 0.9, **worse))
    assert found["promote"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert found["keep"] > 0.4 and found["inconclusive"] > 0.4  # above the margin as it is, or perhaps


def test_several_looks_together_err_as_rarely_as_one():
    random, looks, n, alpha = np.random.default_rng(5), 4, 400, 0.05
    differ = random.random((5_000, n)) < 0.5
    gains = differ & (random.random((5_000, n)) < 0.5)
    ends = [n * (look + 1) // looks for look in range(looks)]
    pairs = [(gains[:, :end].sum(1), (differ & ~gains)[:, :end].sum(1)) for end in ends]
    values = {(a, b): mcnemar(a, b) for gained, lost in pairs for a, b in zip(gained, lost, strict=True)}
    p = np.array([[values[pair] for pair in zip(gained, lost, strict=True)] for gained, lost in pairs])
    corrected = (p <= np.array(looks_alpha(alpha, looks))[:, None]).any(0).mean()
    assert corrected <= alpha < (p <= alpha).any(0).mean()  # uncorrected it would be more


def test_looks_through_the_gate_promote_early_and_rarely_by_chance():
    def verdict(pair: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[int, Verdict]:
        for look in (1, 2):
            rows = len(pair[0]) * look // 2
            found = compare(pair[0][:rows], pair[1][:rows], min_effect=0.2, look=look, looks=2, **MARGINS)
            if found.decision != "inconclusive":
                break
        return look, found

    n = 2 * planned(0.2)
    better = [verdict(pair) for pair in worlds(100, n, 0.5, 0.8)]
    assert Counter(look for look, found in better if found.decision == "promote")[1] > 50
    same = [verdict(pair)[1].decision for pair in worlds(250, n, 0.5, 0.5)]
    assert same.count("promote") / 250 <= 0.05


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("power", [0.8, 0.9])
@pytest.mark.parametrize(("effect", "disagreement"), [(0.05, 0.3), (0.1, 0.5), (0.2, 0.25), (0.3, 0.3)])
def test_the_number_of_rows_has_the_power_it_promises(alpha: float, power: float, effect: float, disagreement: float):
    """Counted again by drawing, without the formula."""
    n = required_rows(alpha, power, effect, disagreement)
    assert mcnemar_power(n, alpha, effect, disagreement) >= power > mcnemar_power(n - 1, alpha, effect, disagreement)
    shares = [(disagreement + effect) / 2, (disagreement - effect) / 2, 1 - disagreement]
    draws, counts = np.unique(
        np.random.default_rng(n).multinomial(n, shares, size=20_000)[:, :2], axis=0, return_counts=True
    )
    found = sum(
        count
        for (gains, losses), count in zip(draws, counts, strict=True)
        if gains > losses and mcnemar(gains, losses) <= alpha
    )
    assert found / 20_000 >= power - 0.01


def test_more_power_smaller_effects_and_stricter_levels_take_more_rows():
    for sizes in (
        [required_rows(0.05, power, 0.1, 0.5) for power in (0.5, 0.8, 0.9, 0.99)],
        [required_rows(0.05, 0.8, effect, 0.5) for effect in (0.4, 0.2, 0.1, 0.02)],
        [required_rows(alpha, 0.8, 0.1, 0.5) for alpha in (0.2, 0.05, 0.01, 0.001)],
        [required_rows(0.05, 0.8, 0.1, share) for share in (0.1, 0.3, 0.5, 1.0)],
    ):
        assert all(fewer < more for fewer, more in pairwise(sizes))

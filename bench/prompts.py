"""What a prompt costs on the request path, what a refresh costs, and what the gate costs."""

import tempfile
import timeit
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from bench.report import Figure
from lib.catalog import Catalog
from lib.evaluation import compare
from lib.prompts import Prompt, PromptCache, PromptStore, Snapshot
from lib.settings import load_settings
from lib.workspace import Workspace
from nbs_tests.processes import local_workspace

ROWS = 464  # what the gate asks for at its defaults
VERSIONS = 20


def _seconds(action: Callable[[], object], number: int) -> float:
    """The best of five rounds, per call."""
    return min(timeit.repeat(action, number=number, repeat=5)) / number


def lookups() -> list[Figure]:
    """A prompt from memory, beside a bare dict's answer."""
    prompts = {("triage", number): Prompt("triage", number, f"{number}\n---\n{{{{x}}}}") for number in (1, 2)}
    snapshot = Snapshot(prompts, {"triage": {"production": 1, "challenger": 2}}, "registry")
    cache = PromptCache(lambda: snapshot, shares={"triage": 0.1})
    cache.refresh()
    plain = {("triage", None): prompts["triage", 1]}
    bare = _seconds(lambda: plain["triage", None], 100_000) * 1e6
    return [
        Figure(
            "prompt lookup", _seconds(lambda: cache.lookup("triage"), 100_000) * 1e6, "µs", "< 2 µs", bare, "a dict's"
        ),
        Figure(
            "the same with an A/B share",
            _seconds(lambda: cache.choose("triage", "payment-4711"), 100_000) * 1e6,
            "µs",
            "< 2 µs",
            bare,
            "a dict's",
        ),
    ]


def refreshes() -> list[Figure]:
    """A refresh from the registry of a local workspace."""
    with tempfile.TemporaryDirectory() as root, local_workspace(Path(root)) as running:
        settings = replace(load_settings(running.environment), schema="bench")
        workspace = Workspace(settings)
        Catalog(workspace, settings).setup()
        store = PromptStore(workspace, settings)
        for number in range(VERSIONS):
            store.save("triage", f"{number}\n---\n{{{{x}}}}")
        cache = PromptCache(store.load)
        return [Figure(f"refresh with {VERSIONS} versions", _seconds(cache.refresh, 5) * 1000, "ms", "")]


def gate() -> list[Figure]:
    """One verdict, beside the test alone."""
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "id": range(ROWS),
                "correct": rng.random(ROWS) < right,
                "score": rng.random(ROWS),
                "cost": rng.random(ROWS),
                "latency_ms": rng.lognormal(6, 0.3, ROWS),
            }
        )
        for right in (0.6, 0.7)
    ]
    judge = partial(compare, *frames, margin_cost=0.5, margin_p95_ms=500, min_effect=0.1)
    test = _seconds(lambda: stats.binomtest(120, 200).pvalue, 100) * 1000
    return [
        Figure(f"a verdict on {ROWS} rows", _seconds(judge, 20) * 1000, "ms", "< 10 ms", test, "the exact test alone")
    ]


def run() -> list[Figure]:
    """All of them."""
    return [*lookups(), *refreshes(), *gate()]

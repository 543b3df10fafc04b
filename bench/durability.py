"""200 kill -9 of the workspace and its engines under a mixed load: what was acknowledged and is lost or doubled."""

import statistics
import tempfile
from pathlib import Path

from bench.report import Figure
from local_workspace.tests.mixed_load import kill_at_random

KILLS = 200


def run() -> list[Figure]:
    """The faults found, each of them printed, and how long a restart takes."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_at_random(Path(folder), KILLS, seed=1)
    for fault in outcome.faults:
        print(fault)
    acknowledged = ", ".join(f"{count} {name}" for name, count in outcome.acknowledged.items())
    return [
        Figure(
            f"lost, torn or doubled in {KILLS} kill -9 ({acknowledged} keys acknowledged)", len(outcome.faults), "", "0"
        ),
        Figure("restart after kill -9 to first answer, median", statistics.median(outcome.recovered), "s", "< 3 s"),
        Figure("restart after kill -9 to first answer, worst", max(outcome.recovered), "s", "< 3 s"),
    ]

"""Every notebook runs top to bottom, unmodified, against a real local workspace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 20


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook: Path, environment: dict[str, str], tmp_path: Path):
    """In a process of its own, as a job would run it; the executed copy is thrown away."""
    command = [sys.executable, "-m", "nbs_tests.run_notebook", str(notebook), str(tmp_path / notebook.name)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]

"""One real local workspace for every test, and the environment that points genuine clients at it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / ".local_workspace" / "weights"


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of a fresh workspace with the small test model: host, token, spark_remote, zerobus."""
    root = tmp_path_factory.mktemp("workspace")
    environment = os.environ | {"SOTA_LOCAL_MODEL": "smollm2", "SOTA_WEIGHTS": str(WEIGHTS)}
    command = [sys.executable, "-m", "local_workspace", "serve", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="session")
def environment(address: dict[str, str]) -> dict[str, str]:
    """The environment variables that point any client at the workspace."""
    return {
        "DATABRICKS_HOST": address["host"],
        "DATABRICKS_TOKEN": address["token"],
        "SPARK_REMOTE": address["spark_remote"],
        "ZEROBUS_ENDPOINT": address["zerobus"],
    }

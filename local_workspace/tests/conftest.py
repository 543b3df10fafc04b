"""A real workspace process for the tests."""

import importlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psutil
import pytest
from databricks.sdk import WorkspaceClient

from local_workspace.parity.record import CALLS
from local_workspace.tests import calls

pytest_runtest_logfinish = calls.pytest_runtest_logfinish
pytest_testnodedown = calls.pytest_testnodedown
pytest_sessionfinish = calls.pytest_sessionfinish

WEIGHTS = Path(__file__).parents[2] / ".local_workspace" / "weights"
"""Shared by the tests' workspaces, so that a model is fetched once."""


@dataclass
class Running:
    """A workspace process and ways to talk to it."""

    process: subprocess.Popen
    root: Path
    address: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.address["host"]

    @property
    def token(self) -> str:
        return self.address["token"]

    @cached_property
    def client(self) -> WorkspaceClient:
        return WorkspaceClient(host=self.host, token=self.token)

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.host, headers={"Authorization": f"Bearer {self.token}"}, timeout=120)

    def engines(self, module: str) -> list[psutil.Process]:
        """The workspace's children whose command names `module`; one that ends while it is looked at is none."""
        found = psutil.process_iter(["ppid", "cmdline"])
        mine = [process for process in found if process.info["ppid"] == self.process.pid]
        return [process for process in mine if module in " ".join(process.info["cmdline"] or ())]

    def engine(self, module: str) -> psutil.Process:
        """The first of the workspace's children whose command names `module`."""
        return self.engines(module)[0]


@contextmanager
def start_workspace(root: Path, **env: str) -> Iterator[Running]:
    """Serve a workspace below `root` until the block ends; SIGTERM then, unless the test has killed it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local_workspace", "serve", "--root", str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SOTA_LOCAL_MODEL": "smollm2", "SOTA_WEIGHTS": str(WEIGHTS), CALLS: str(calls.LOG)} | env,
    )
    running = Running(process, root)
    try:
        running.address = json.loads(process.stdout.readline())
        yield running
    finally:
        if "http" in running.__dict__:
            running.http.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One workspace for all tests that do not need their own."""
    with start_workspace(tmp_path_factory.mktemp("workspace")) as running:
        yield running


@pytest.fixture(scope="module")
def tracked(workspace: Running) -> Iterator[ModuleType]:
    """MLflow itself, pointed at the workspace for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", workspace.host)
        patch.setenv("DATABRICKS_TOKEN", workspace.token)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with warnings.catch_warnings():  # its own, at import
            warnings.simplefilter("ignore")
            mlflow = importlib.import_module("mlflow")
            importlib.import_module("mlflow.pyfunc")
        mlflow.set_tracking_uri("databricks")
        mlflow.set_registry_uri("databricks-uc")
        yield mlflow
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)

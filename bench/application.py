"""The app: how soon it answers, what it weighs, and what `/execute` costs above a bare FastAPI hello."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from bench.load import Load, load
from bench.report import Figure
from nbs_tests.house import ROOT
from nbs_tests.processes import local_workspace, serve, serve_app

CONNECTIONS = 16
BODY = json.dumps({"agent_name": "echo", "data": {"hello": "world"}}).encode()


def hello() -> Load:
    """The baseline under the same load."""
    with serve("bench.hello", {}) as server:
        server.wait_for("/health")
        return load(f"{server.url}/hello", "POST", BODY, CONNECTIONS)


def run() -> list[Figure]:
    """All figures of the app, on a workspace that is set up as `make demo` leaves it."""
    with tempfile.TemporaryDirectory() as folder, local_workspace(Path(folder)) as workspace:
        environment = workspace.environment
        subprocess.run([sys.executable, "-m", "lib.cli", "setup"], cwd=ROOT, env=environment, check=True)
        with serve_app(environment) as app:
            health, ready = app.wait_for("/health"), app.wait_for("/ready")
            execute = load(f"{app.url}/execute", "POST", BODY, CONNECTIONS)
            memory = psutil.Process(app.process.pid).memory_info().rss / 2**20
        baseline = hello()
    rate = Figure(
        "`/execute` on echo, 16 connections", execute.rate, "req/s", "≥ 0.5 of baseline", baseline.rate, "FastAPI hello"
    )
    return [
        Figure("app: /health after start", health, "s", "< 2 s"),
        Figure("app: /ready after start", ready, "s", "< 8 s"),
        rate,
        Figure(
            "`/execute` on echo, p99", execute.percentile(0.99), "ms", "", baseline.percentile(0.99), "FastAPI hello"
        ),
        Figure("app: memory after that load", memory, "MB", "< 250 MB"),
    ]

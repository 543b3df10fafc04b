"""The real processes that tests and benchmarks talk to: a local workspace, an app; each stopped by its own pid."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from nbs_tests.house import ROOT

WEIGHTS = ROOT / ".local_workspace" / "weights"


@dataclass(frozen=True)
class Workspace:
    """A running local workspace."""

    process: subprocess.Popen
    host: str
    token: str
    spark_remote: str
    zerobus: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point any client at it."""
        return {
            "DATABRICKS_HOST": self.host,
            "DATABRICKS_TOKEN": self.token,
            "SPARK_REMOTE": self.spark_remote,
            "ZEROBUS_ENDPOINT": self.zerobus,
        }


def stop(process: subprocess.Popen, seconds: float = 30) -> int:
    """SIGTERM, then wait; then its exit code. One that does not end in time is killed and TimeoutExpired raised."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def local_workspace(root: Path, model: str = "smollm2") -> Iterator[Workspace]:
    """A workspace below `root` until the block ends."""
    environment = os.environ | {"SOTA_LOCAL_MODEL": model, "SOTA_WEIGHTS": str(WEIGHTS)}
    command = [sys.executable, "-m", "local_workspace", "serve", "--root", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    with process:
        try:
            yield Workspace(process, **json.loads(process.stdout.readline()))
        finally:
            stop(process)


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@dataclass(frozen=True)
class Server:
    """A running HTTP server of ours."""

    process: subprocess.Popen
    url: str
    started: float  # time.monotonic() at its start

    def wait_for(self, path: str, seconds: float = 60) -> float:
        """Seconds from the server's start until `path` answers 200."""
        while time.monotonic() < self.started + seconds:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}")
            try:
                if httpx.get(self.url + path, timeout=5).status_code == 200:
                    return time.monotonic() - self.started
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise TimeoutError(f"{path} did not answer 200 within {seconds} s")


@contextmanager
def serve(module: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """`python -m module` on a free port, named to it by DATABRICKS_APP_PORT, until the block ends."""
    port = free_port()
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | dict(environment) | {"DATABRICKS_APP_PORT": str(port)},
    )
    with process:
        try:
            yield Server(process, f"http://127.0.0.1:{port}", started)
        finally:
            stop(process)


def serve_app(environment: Mapping[str, str]) -> AbstractContextManager[Server]:
    """Our app on a free port until the block ends."""
    return serve("app.main", environment)

"""One attempt at a task in a process of its own: started, waited for, and ended with everything it started."""

import asyncio
import contextlib
import json
import mmap
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import local_workspace
from local_workspace.engine import child_environment
from local_workspace.processes import sessions

MARK = "LOCAL_WORKSPACE_RUN"
"""The variable by which a process of a run is known after a crash."""
GRACE_SECONDS = 3.0
INSTALLER = ("PIP_", "UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")
"""What pip and uv need to reach the index this machine uses."""
CODE = Path(local_workspace.__file__).parents[1]


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of a task: what every child has, what installers need, and `extra`."""
    installer = {name: value for name, value in os.environ.items() if name.startswith(INSTALLER)}
    return child_environment(installer | {"PYTHONPATH": str(CODE)} | extra)


def write(folder: Path, task: dict[str, Any]) -> None:
    """Put `task` (`local_workspace.runtime.task.Task`) where its process will look for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").write_text(json.dumps(task))


async def run(folder: Path, place: Path, env: dict[str, str], started: Callable[[int], None]) -> int:
    """Run the task written in `folder`, with `place` as working directory, and return its exit code.

    `started` is told the process id. The whole session is ended when this ends, also when it is cancelled.
    """
    command = (sys.executable, "-P", "-m", "local_workspace.runtime.task", str(folder))
    with (folder / "log.txt").open("ab") as log:
        process = await sessions.start(command, place, env, log)
    try:
        started(process.pid)
        return await process.wait()
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_SECONDS)
    finally:  # also when we are told again to hurry
        _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def hide(folder: Path, token: str) -> None:
    """Make a token that has ended up in a process's log unreadable. Python's own output never has it."""
    secret = token.encode()
    with (folder / "log.txt").open("r+b") as stream:
        if not stream.seek(0, os.SEEK_END):
            return
        with mmap.mmap(stream.fileno(), 0) as log:
            at = -1
            while (at := log.find(secret, at + 1)) >= 0:
                log[at : at + len(secret)] = b"[REDACTED]".ljust(len(secret), b"*")


def read_result(folder: Path) -> dict[str, Any]:
    """What the process says about its end and the task values it has set; empty when it was ended before."""
    found: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        found = json.loads((folder / "result.json").read_text())
    with contextlib.suppress(FileNotFoundError):
        found["values"] = json.loads((folder / "values.json").read_text())
    return found


def read_log(folder: Path, limit: int = 5 << 20) -> tuple[str, bool]:
    """The end of what a process has printed, and whether the beginning is missing."""
    try:
        with (folder / "log.txt").open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - limit, 0))
            return stream.read().decode(errors="replace"), size > limit
    except FileNotFoundError:
        return "", False

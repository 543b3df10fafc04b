"""Processes that run users' code, each in a session of its own: started, remembered, ended after a crash."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from local_workspace.processes import launch
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS process_sessions (
    pid INTEGER PRIMARY KEY, variable TEXT NOT NULL, mark TEXT NOT NULL, started REAL NOT NULL);
"""
WAIT_SECONDS = 5.0


async def start(
    argv: Sequence[str], folder: Path, environment: dict[str, str], output: BinaryIO
) -> asyncio.subprocess.Process:
    """Run `argv` in `folder` as a session that ends with the workspace; what it prints goes to `output`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", launch.__file__, *argv),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


class Sessions:
    """Sessions that run now, kept in the state. Most end by themselves with the workspace; these are for the rest.

    Each is known by its leader and by its mark, the value of `variable` in its environment.
    """

    def __init__(self, state: State, variable: str):
        self._state = state
        self._variable = variable
        state.create(DDL)

    def add(self, pid: int, mark: str) -> None:
        """Remember a session."""
        row = [pid, self._variable, mark, time.time()]
        self._state.execute("INSERT OR REPLACE INTO process_sessions VALUES (?, ?, ?, ?)", row)

    def remove(self, pid: int) -> None:
        """Forget a session that has ended."""
        self._state.execute("DELETE FROM process_sessions WHERE pid = ?", [pid])

    def reap(self) -> None:
        """Kill what is left of remembered sessions and forget them."""
        rows = self._state.rows("SELECT * FROM process_sessions WHERE variable = ?", [self._variable])
        kill_sessions([(row["pid"], row["mark"], row["started"]) for row in rows], self._variable)
        self._state.execute("DELETE FROM process_sessions WHERE variable = ?", [self._variable])


def kill_sessions(sessions: Iterable[tuple[int, str, float]], variable: str) -> None:
    """Kill what is left of sessions, each given by its leader, its mark and its start.

    A process id may have been given to another program since. So only a process is killed that is in the session,
    has the session's mark as `variable` in its environment, and started when that session did or later.
    """
    marks = {pid: (mark, started) for pid, mark, started in sessions}
    if not marks:
        return
    import psutil  # needed after a crash only

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            mark, started = marks.get(os.getsid(process.pid), (None, 0.0))
            if (
                mark is not None
                and process.environ().get(variable) == mark
                and process.create_time() >= started - WAIT_SECONDS
            ):
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=WAIT_SECONDS)

"""Processes of apps that outlived a killed workspace: remembered while they run, ended at the next start."""

import contextlib
import os
import time
from collections.abc import Iterable

from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS app_processes (pid INTEGER PRIMARY KEY, client_id TEXT NOT NULL, started REAL NOT NULL);
"""
WAIT_SECONDS = 5.0


class ProcessRecord:
    """The sessions of running apps, kept in the state."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def add(self, pid: int, client_id: str) -> None:
        """Remember a session by its leader."""
        self._state.execute("INSERT OR REPLACE INTO app_processes VALUES (?, ?, ?)", [pid, client_id, time.time()])

    def remove(self, pid: int) -> None:
        """Forget a session that has ended."""
        self._state.execute("DELETE FROM app_processes WHERE pid = ?", [pid])

    def reap(self) -> int:
        """Kill what is left of remembered sessions and forget them; returns how many processes were killed."""
        rows = self._state.rows("SELECT * FROM app_processes")
        left = kill_sessions([(row["pid"], row["client_id"], row["started"]) for row in rows], "DATABRICKS_CLIENT_ID")
        self._state.execute("DELETE FROM app_processes")
        return left


def kill_sessions(sessions: Iterable[tuple[int, str, float]], variable: str) -> int:
    """Kill what is left of sessions, each given by its leader, its mark and its start; returns how many processes.

    A process id may have been given to another program since. So only a process is killed that is in the session,
    has the session's mark as `variable` in its environment, and started when that session did or later.
    """
    marks = {pid: (mark, started) for pid, mark, started in sessions}
    if not marks:
        return 0
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
    return len(left)

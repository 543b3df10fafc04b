"""Processes of apps that outlived a killed workspace: remembered while they run, ended at the next start."""

import contextlib
import os
import time

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
        """Kill what is left of remembered sessions and forget them; returns how many processes were killed.

        A process id may have been given to another program since. So only a process is killed that is in the session,
        runs with the app's own client id in its environment, and started when that session did or later.
        """
        rows = {row["pid"]: row for row in self._state.rows("SELECT * FROM app_processes")}
        if not rows:
            return 0
        import psutil  # needed after a crash only

        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                row = rows.get(os.getsid(process.pid))
                if (
                    row
                    and process.environ().get("DATABRICKS_CLIENT_ID") == row["client_id"]
                    and process.create_time() >= row["started"] - WAIT_SECONDS
                ):
                    process.kill()
                    left.append(process)
        psutil.wait_procs(left, timeout=WAIT_SECONDS)
        self._state.execute("DELETE FROM app_processes")
        return len(left)

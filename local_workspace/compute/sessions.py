"""The processes of execution contexts, remembered while they run: a killed workspace's are ended at the next start."""

import time

from local_workspace.apps.orphans import kill_sessions
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS context_processes (pid INTEGER PRIMARY KEY, context_id TEXT NOT NULL, started REAL NOT NULL);
"""
MARK = "LOCAL_WORKSPACE_CONTEXT"
"""The environment variable by which a process is known to be of a context."""


class Sessions:
    """Leaders of sessions. Most end by themselves with the workspace; this is for those too busy to see it."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    def add(self, pid: int, context_id: str) -> None:
        """Remember a session by its leader."""
        row = [pid, context_id, time.time()]
        self._state.execute("INSERT OR REPLACE INTO context_processes VALUES (?, ?, ?)", row)

    def remove(self, pid: int) -> None:
        """Forget a session that has ended."""
        self._state.execute("DELETE FROM context_processes WHERE pid = ?", [pid])

    def reap(self) -> None:
        """Kill what is left of remembered sessions and forget them."""
        rows = self._state.rows("SELECT * FROM context_processes")
        kill_sessions([(row["pid"], row["context_id"], row["started"]) for row in rows], MARK)
        self._state.execute("DELETE FROM context_processes")

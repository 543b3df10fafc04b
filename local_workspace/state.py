"""The workspace's state: one SQLite file that survives kill -9."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_workspace.errors import BadRequest


class State:
    """One SQLite connection shared by the services, each of which owns its tables."""

    def __init__(self, path: Path):
        # It holds secrets: only its owner may read it, and SQLite gives the files beside it the same mode.
        path.touch(mode=0o600)
        path.chmod(0o600)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def create(self, ddl: str) -> None:
        """Create a service's tables; `ddl` is a script of `CREATE TABLE IF NOT EXISTS`."""
        with self._lock:
            self._connection.executescript(ddl)

    def execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement with bound values; the number of rows it changed. Raises BadRequest as `rows` does."""
        with self._lock:
            return self._run(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """All rows of a query. Raises BadRequest for a value that SQLite has no place for: it came in a request."""
        with self._lock:
            return [dict(row) for row in self._run(sql, values)]

    def row(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> dict[str, Any] | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(sql, values)), None)

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except OverflowError:
            raise BadRequest("a number of the request does not fit into 64 bits") from None
        except UnicodeEncodeError as error:
            raise BadRequest(f"a text of the request is no Unicode: {error}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside becomes visible at once, or not at all."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

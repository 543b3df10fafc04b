"""The clients' sessions: whose they are on Sail, and the catalog and schema each of them stands in."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from pyspark.sql.connect.session import SparkSession

from local_workspace.sql.lake.sail import DEFAULT_CATALOG, SESSION_SECONDS, Sail

DEFAULT_SCHEMA = "default"
Key = tuple[str, str]
"""A session as clients name it: user id and session id."""


@dataclass
class ClientSession:
    """One client's session on Sail; it stands in for Sail where a statement shall run in it."""

    sail: Sail
    key: Key
    catalog: str = DEFAULT_CATALOG
    schema: str = DEFAULT_SCHEMA
    used_at: float = 0.0

    @cached_property
    def spark(self) -> SparkSession:
        """The session, for work in the client's name: its temporary views are there."""
        return self.sail.join(*self.key)

    @contextmanager
    def session(self, _catalog: str, _schema: str) -> Iterator[SparkSession]:
        """The client's own session, in the place of one of the pool."""
        yield self.spark

    def use(self, catalog: str, schema: str) -> None:
        """Stand in another catalog or schema, which exist."""
        self.sail.place(self.spark, catalog, schema)
        self.catalog, self.schema = catalog, schema

    def close(self) -> None:
        """Let go of the connection; the session on Sail is the client's."""
        if "spark" in self.__dict__:
            self.spark.client.close()


class ClientSessions:
    """The sessions that clients have open; those that Sail has forgotten are forgotten here too."""

    def __init__(self, sail: Sail):
        self._sail = sail
        self._sessions: dict[Key, ClientSession] = {}
        self._lock = threading.Lock()

    def get(self, key: Key) -> ClientSession:
        """A client's session; new ones stand in `main.default`."""
        now = time.monotonic()
        with self._lock:
            # The one used last is the last: the idle ones come first.
            session = self._sessions.pop(key, None) or ClientSession(self._sail, key)
            session.used_at = now
            self._sessions[key] = session
            idle = list(takewhile(lambda other: now - other.used_at > SESSION_SECONDS, self._sessions.values()))
            for other in idle:
                del self._sessions[other.key]
        for other in idle:
            other.close()
        return session

    def release(self, key: Key) -> None:
        """Forget a session that its client has ended."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session:
            session.close()

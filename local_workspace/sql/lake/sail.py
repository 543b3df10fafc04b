"""Sail, the Spark SQL engine, in this process, and a pool of its Spark Connect sessions.

Sail reads its list of catalogs once, at start. It asks the current catalog's server for names it cannot place,
so a catalog made later is reached by its full names all the same; only `USE CATALOG` does not know it.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol
from urllib.parse import quote

from pysail.spark import SparkConnectServer
from pyspark.sql.connect.session import SparkSession

CATALOG_PATH = "/engine/unity-catalog"
DEFAULT_CATALOG = "main"
IDLE_SECONDS = 1800
"""After this a pooled session is not trusted any more: Sail forgets sessions after SESSION_SECONDS."""
SESSION_SECONDS = 4 * 3600


class Sessions(Protocol):
    """Where statements get the session that they run in."""

    def session(self, catalog: str, schema: str) -> AbstractContextManager[SparkSession]:
        """A session for one statement."""


class Sail:
    """A Spark Connect server and sessions on it."""

    def __init__(self, host: str, token: str, catalogs: list[str]):
        self._catalogs = [name for name in catalogs if name != DEFAULT_CATALOG]
        names = [DEFAULT_CATALOG, *self._catalogs]
        entries = [
            f'{{name={quoted},type="unity",uri="{host}{CATALOG_PATH}",default_catalog={quoted},token="{token}"}}'
            for quoted in (json.dumps(name, ensure_ascii=False) for name in names)
        ]
        os.environ["SAIL_CATALOG__LIST"] = f"[{','.join(entries)}]"
        os.environ["SAIL_CATALOG__DEFAULT_CATALOG"] = DEFAULT_CATALOG
        os.environ["SAIL_SPARK__SESSION_TIMEOUT_SECS"] = str(SESSION_SECONDS)
        os.environ["UNITY_ALLOW_HTTP_URL"] = "true"
        self._server = SparkConnectServer("127.0.0.1", 0)
        self._server.start(background=True)
        address = self._server.listening_address
        if address is None:
            raise RuntimeError("Sail does not listen")
        self.port: int = address[1]
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[tuple[float, SparkSession]]] = {}

    @contextmanager
    def session(self, catalog: str, schema: str) -> Iterator[SparkSession]:
        """A session of one's own whose current namespace is `catalog.schema`."""
        session = self._idle_session(catalog, schema) or self._new_session(catalog, schema)
        yield session
        # A session whose statement failed is not used again: it may be half way through something.
        with self._lock:
            self._idle.setdefault((catalog, schema), []).append((time.monotonic(), session))

    def _idle_session(self, catalog: str, schema: str) -> SparkSession | None:
        with self._lock:
            sessions = self._idle.get((catalog, schema), [])
            while sessions:
                since, session = sessions.pop()
                if time.monotonic() - since < IDLE_SECONDS:
                    return session
            return None

    def _new_session(self, catalog: str, schema: str) -> SparkSession:
        session = SparkSession.builder.remote(f"sc://127.0.0.1:{self.port}").create()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        self.place(session, catalog, schema)
        return session

    def join(self, user_id: str, session_id: str) -> SparkSession:
        """A client's own session, to work in it in the client's name."""
        user = quote(user_id, safe="")
        return SparkSession.builder.remote(
            f"sc://127.0.0.1:{self.port}/;user_id={user};session_id={session_id}"
        ).create()

    def place(self, session: SparkSession, catalog: str, schema: str) -> None:
        """Let a session stand in a catalog and schema, which exist."""
        if catalog == DEFAULT_CATALOG or catalog in self._catalogs:
            session.catalog.setCurrentCatalog(catalog)
            session.catalog.setCurrentDatabase(schema)
        else:
            session.catalog.setCurrentCatalog(DEFAULT_CATALOG)
            session.catalog.setCurrentDatabase(f"{catalog}.{schema}")

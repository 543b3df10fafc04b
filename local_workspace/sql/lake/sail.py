"""Sail, the Spark SQL engine, in this process, and a pool of its Spark Connect sessions.

Sail reads its list of catalogs once, when a server is made. A new catalog therefore gets a new server in the
same process (about 6 ms); connections to an earlier one go on working and do not see the new catalog.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pysail.spark import SparkConnectServer
from pyspark.sql.connect.session import SparkSession

CATALOG_PATH = "/engine/unity-catalog"


class Sail:
    """Spark Connect servers, of which the last one knows all catalogs, and sessions on it."""

    def __init__(self, host: str, token: str):
        self._host = host
        self._token = token
        self._lock = threading.Lock()
        self._catalogs: list[str] | None = None
        self._servers: list[SparkConnectServer] = []
        self._idle: dict[tuple[str, str], list[SparkSession]] = {}

    def port(self, catalogs: list[str]) -> int:
        """The port of the Spark Connect server that knows these catalogs."""
        with self._lock:
            if catalogs != self._catalogs:
                self._start(catalogs)
            return self._servers[-1].listening_address[1]

    def _start(self, catalogs: list[str]) -> None:
        entries = [
            f'{{name={json.dumps(name, ensure_ascii=False)},type="unity",uri="{self._host}{CATALOG_PATH}",'
            f'default_catalog={json.dumps(name, ensure_ascii=False)},token="{self._token}"}}'
            for name in catalogs
        ]
        os.environ["SAIL_CATALOG__LIST"] = f"[{','.join(entries)}]"
        os.environ["SAIL_CATALOG__DEFAULT_CATALOG"] = "main" if "main" in catalogs else catalogs[0]
        os.environ["UNITY_ALLOW_HTTP_URL"] = "true"
        server = SparkConnectServer("127.0.0.1", 0)
        server.start(background=True)
        for session in [session for sessions in self._idle.values() for session in sessions]:
            session.stop()
        self._idle.clear()
        self._servers.append(server)
        self._catalogs = catalogs

    @contextmanager
    def session(self, catalogs: list[str], catalog: str, schema: str) -> Iterator[SparkSession]:
        """A session of one's own whose current namespace is `catalog.schema`."""
        port = self.port(catalogs)
        with self._lock:
            idle = self._idle.setdefault((catalog, schema), [])
            session = idle.pop() if idle else None
        if session is None:
            session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
            session.conf.set("spark.sql.session.timeZone", "UTC")
            session.catalog.setCurrentCatalog(catalog)
            session.catalog.setCurrentDatabase(schema)
        try:
            yield session
        finally:
            with self._lock:
                if catalogs == self._catalogs:
                    self._idle.setdefault((catalog, schema), []).append(session)
                else:
                    session.stop()

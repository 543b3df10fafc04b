"""Writers that remember what was acknowledged while processes are killed, and the check that all of it is there."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from local_workspace.tests.conftest import Running, start_workspace

TABLE, UPSERTED, VOLUME, INDEX = (
    "main.kills.rows",
    "main.kills.upserted",
    "/Volumes/main/kills/files",
    "main.kills.near",
)
FILES, KEYS = 20, 20
DIMENSIONS = 8
SCRIPT = "/Shared/kills/hello.py"
MARK = "x" * 10
"""The end of every value that is sent."""
ENGINES = 0.7
"""The part of the kills that hits an engine or a task, if any is there, and not the workspace itself."""
TERMINAL = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


@dataclass
class Ledger:
    """What one writer has sent for each key: all that was tried, and the last that was acknowledged."""

    tried: dict[str, list[str]] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    count: int = 0
    """How many writes have been acknowledged."""

    def faults(self, kind: str, found: dict[str, str]) -> Iterator[str]:
        """What is lost, torn or rolled back in `found`."""
        for key, value in found.items():
            if value not in self.tried.get(key, ()):
                yield f"torn: {kind} {key}"
        for key, value in self.acknowledged.items():
            if key not in found:
                yield f"lost: {kind} {key}"
            elif found[key] in self.tried[key] and self.tried[key].index(found[key]) < self.tried[key].index(value):
                yield f"lost: {kind} {key} is an older version"


class MixedLoad:
    """Uploads, inserts, merges, vector upserts and job submissions, each from its own thread, one attempt each."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)  # noqa: S311 - a reproducible load, not a secret
        self.host, self.token = "", ""
        self.ledgers = {name: Ledger() for name in ("upload", "insert", "merge", "vector", "job")}
        self._stop = threading.Event()
        self._http = httpx.Client()

    def connect(self, running: Running) -> None:
        """Send to this process from now on."""
        self.host, self.token = running.host, running.token

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, seconds: float = 30, **options: Any) -> Any:
        """One attempt. Raises httpx.HTTPError."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = self._http.request(method, self.host + path, headers=headers, timeout=seconds, **options)
        answer.raise_for_status()
        return answer

    def sql(self, statement: str) -> list[list[str]]:
        """One attempt at a statement; its rows. Raises httpx.HTTPError, RuntimeError."""
        body = {"statement": statement, "warehouse_id": self._warehouse, "wait_timeout": "50s"}
        done = self.call("POST", "/api/2.0/sql/statements", json=body, seconds=60).json()
        if done["status"]["state"] != "SUCCEEDED":
            raise RuntimeError(done["status"].get("error", done["status"]))
        return (done.get("result") or {}).get("data_array") or []

    def set_up(self) -> None:
        """The volume, tables, index and script that the load uses."""
        self._warehouse = self.call("GET", "/api/2.0/sql/warehouses").json()["warehouses"][0]["id"]
        self.sql("CREATE SCHEMA main.kills")
        self.sql("CREATE VOLUME main.kills.files")
        self.sql(f"CREATE TABLE {TABLE} (id STRING, value STRING)")
        self.sql(f"CREATE TABLE {UPSERTED} (id STRING, value STRING)")
        self.call("POST", "/api/2.0/vector-search/endpoints", json={"name": "kills", "endpoint_type": "STANDARD"})
        vector = {"name": "vector", "embedding_dimension": DIMENSIONS}
        schema = json.dumps({"id": "string", "vector": "array<float>", "value": "string"})
        spec = {"schema_json": schema, "embedding_vector_columns": [vector]}
        index = {"name": INDEX, "endpoint_name": "kills", "primary_key": "id", "index_type": "DIRECT_ACCESS"}
        self.call("POST", "/api/2.0/vector-search/indexes", json=index | {"direct_access_index_spec": spec})
        self.call("POST", "/api/2.0/workspace/mkdirs", json={"path": "/Shared/kills"})
        script = {"path": (None, SCRIPT), "format": (None, "RAW"), "content": ("hello.py", b"print('hello')\n")}
        self.call("POST", "/api/2.0/workspace/import", files=script)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The writers work until the block ends."""
        writers = [
            threading.Thread(target=self._write, args=writer)
            for writer in (
                (self._upload, "upload", 0.02),
                (self._insert, "insert", 0.05),
                (self._merge, "merge", 0.1),
                (self._upsert, "vector", 0.05),
                (self._submit, "job", 1.0),
            )
        ]
        for thread in writers:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in writers:
                thread.join(90)

    def wait_for_each(self, seconds: float = 90) -> None:
        """Return when a write of each kind has been acknowledged from now on. Raises TimeoutError naming the others."""
        before = {name: ledger.count for name, ledger in self.ledgers.items()}
        deadline = time.monotonic() + seconds
        while late := [name for name, ledger in self.ledgers.items() if ledger.count == before[name]]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {' and no '.join(late)} has been acknowledged for {seconds:.0f} s")
            time.sleep(0.05)

    def _write(self, send: Callable[[str, str], None], name: str, pause: float) -> None:
        ledger = self.ledgers[name]
        number = 0
        while not self._stop.wait(pause):
            number += 1
            key = {"upload": str(number % FILES), "merge": str(number % KEYS)}.get(name, f"{name}-{number}")
            value = f"{number:08d}-" + ("x" * 64 * 1024 if name == "upload" else "") + MARK
            ledger.tried.setdefault(key, []).append(value)
            with suppress(httpx.HTTPError, RuntimeError):
                send(key, value)
                ledger.acknowledged[key] = value
                ledger.count += 1

    def _upload(self, key: str, value: str) -> None:
        path = f"/api/2.0/fs/files{VOLUME}/{key}.txt"
        self.call("PUT", path, params={"overwrite": "true"}, content=value.encode())

    def _insert(self, key: str, value: str) -> None:
        self.sql(f"INSERT INTO {TABLE} VALUES ('{key}', '{value}')")

    def _merge(self, key: str, value: str) -> None:
        self.sql(
            f"MERGE INTO {UPSERTED} t USING (SELECT '{key}' AS id, '{value}' AS value) s ON t.id = s.id "
            "WHEN MATCHED THEN UPDATE SET value = s.value WHEN NOT MATCHED THEN INSERT *"
        )

    def _upsert(self, key: str, value: str) -> None:
        row = {"id": key, "value": value, "vector": [self.random.random() for _ in range(DIMENSIONS)]}
        done = self.call(
            "POST", f"/api/2.0/vector-search/indexes/{INDEX}/upsert-data", json={"inputs_json": json.dumps([row])}
        ).json()
        if done["status"] != "SUCCESS":
            raise RuntimeError(done)

    def _submit(self, key: str, value: str) -> None:
        task = {"task_key": "hello", "spark_python_task": {"python_file": SCRIPT}}
        body = {"run_name": value, "idempotency_token": key, "tasks": [task]}
        self.call("POST", "/api/2.2/jobs/runs/submit", json=body)

    def faults(self) -> list[str]:
        """Everything acknowledged that is not there, and everything there that nobody sent, or that is there twice."""
        found = {
            "upload": self._uploaded(),
            "insert": self.sql(f"SELECT id, value FROM {TABLE}"),
            "merge": self.sql(f"SELECT id, value FROM {UPSERTED}"),
            "vector": self._vectors(),
            "job": self._submitted(),
        }
        faults: list[str] = []
        for name, ledger in self.ledgers.items():
            faults += ledger.faults(name, dict(found[name]))
            counts = Counter(key for key, _ in found[name])
            faults += [f"doubled: {name} {key}" for key, count in counts.items() if count > 1]
        return faults

    def _uploaded(self) -> list[list[str]]:
        entries = self.call("GET", f"/api/2.0/fs/directories{VOLUME}").json().get("contents", [])
        return [[Path(e["path"]).stem, self.call("GET", f"/api/2.0/fs/files{e['path']}").text] for e in entries]

    def _vectors(self) -> list[list[str]]:
        found: list[list[str]] = []
        last = None
        while True:
            body = {"num_results": 1000} | ({"last_primary_key": last} if last else {})
            page = self.call("POST", f"/api/2.0/vector-search/indexes/{INDEX}/scan", json=body).json()
            for row in page.get("data") or []:
                fields = {f["key"]: f["value"].get("string_value") for f in row["fields"]}
                found.append([fields["id"], fields["value"]])
            last = page.get("last_primary_key")
            if not last:
                return found

    def _submitted(self) -> list[list[str]]:
        """Runs by the key they were sent with, once all have ended. Raises TimeoutError naming those that do not."""
        keys = {value: key for key, values in self.ledgers["job"].tried.items() for value in values}
        deadline = time.monotonic() + 120
        while True:
            runs = self.runs()
            late = [run["run_id"] for run in runs if run["state"]["life_cycle_state"] not in TERMINAL]
            if not late:
                return [[keys.get(run["run_name"], run["run_name"]), run["run_name"]] for run in runs]
            if time.monotonic() > deadline:
                raise TimeoutError(f"runs that do not end: {late}")
            time.sleep(0.2)

    def runs(self) -> list[dict[str, Any]]:
        """The runs that the load has submitted."""
        runs: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 25, "run_type": "SUBMIT_RUN"}
        while True:
            page = self.call("GET", "/api/2.2/jobs/runs/list", params=params).json()
            runs += [run for run in page.get("runs", []) if run["run_name"].endswith(MARK)]
            if not page.get("next_page_token"):
                return runs
            params["page_token"] = page["next_page_token"]


@dataclass
class Outcome:
    """What a run with kills came to."""

    faults: list[str]
    acknowledged: dict[str, int]
    recovered: list[float]
    """Seconds from each restart of a killed workspace to its first answer."""


def kill_at_random(root: Path, kills: int, seed: int) -> Outcome:
    """Kill the workspace or one of its processes `kills` times at random moments under the load.

    Raises TimeoutError when not every kind of write works before the first kill and again after the last but one;
    the last ends the workspace, and what the next one finds is checked.
    """
    with closing(MixedLoad(seed)) as load, ExitStack() as stack:
        parent = _start(root, load, stack)
        load.set_up()
        recovered = []
        with load.running():
            load.wait_for_each()
            for kill in range(kills):
                time.sleep(load.random.uniform(0.0, 3.0))
                if last := kill == kills - 1:
                    load.wait_for_each()
                victims = parent.children(recursive=True)
                victim = load.random.choice(victims) if victims and load.random.random() < ENGINES else parent
                with suppress(psutil.NoSuchProcess):
                    (parent if last else victim).kill()
                if last or victim == parent:
                    stack.close()
                    started = time.monotonic()
                    parent = _start(root, load, stack)
                    load.call("GET", "/api/2.0/preview/scim/v2/Me")
                    recovered.append(time.monotonic() - started)
        faults = load.faults()
    return Outcome(faults, {name: ledger.count for name, ledger in load.ledgers.items()}, recovered)


def _start(root: Path, load: MixedLoad, stack: ExitStack) -> psutil.Process:
    running = stack.enter_context(start_workspace(root))
    load.connect(running)
    return psutil.Process(running.process.pid)

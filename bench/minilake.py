"""Against minilake 1.9 in the same run: start to first file, file round trip, grouped SQL over Delta, idle memory."""

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import DataSourceFormat, TableType, VolumeType
from deltalake import write_deltalake

from bench.report import Figure
from bench.workspace import DATA, ROWS, median_ms, round_trip, statements
from nbs_tests.processes import free_port, local_workspace, stop

# Without DuckDB's delta extension, which it downloads from elsewhere, minilake reads no Delta table.
PACKAGES = ("minilake==1.9.0", "duckdb==1.5.5", "duckdb-extension-delta==1.5.5")
INSTALL_EXTENSION = """
import duckdb, pathlib, sys, duckdb_extension_delta
file = next(pathlib.Path(duckdb_extension_delta.__path__[0]).rglob("delta.duckdb_extension"))
duckdb.connect(config={"extension_directory": sys.argv[1]}).execute(f"INSTALL '{file}'")
"""
GROUPED = "SELECT kind, count(*), sum(amount) FROM shop.bench.sales GROUP BY kind ORDER BY kind"
VOLUME = "/Volumes/shop/bench/files"


class Minilake:
    """minilake in an environment of its own, and a running process of it."""

    def __init__(self, folder: Path):
        self._environment, self._data = folder / "environment", folder / "data"
        self._data.mkdir()
        uv, python = Path(sys.executable).with_name("uv"), self._environment / "bin" / "python"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, self._environment], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *PACKAGES], check=True
        )
        subprocess.run([python, "-c", INSTALL_EXTENSION, self._environment / "extensions"], check=True)

    @contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen, WorkspaceClient]]:
        """The process and a client of it until the block ends."""
        port = free_port()
        host = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "MINILAKE_DATA_DIR": str(self._data),
            "MINILAKE_DUCKDB_EXTENSION_DIR": str(self._environment / "extensions"),
            "MINILAKE_NOTEBOOK": "0",
        }
        command = [self._environment / "bin" / "minilake", "--port", str(port)]
        with (self._data / "log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        with process:
            try:
                _wait_for(f"{host}/_minilake/health")
                yield process, WorkspaceClient(host=host, token="any")  # noqa: S106 - it checks none
            finally:
                stop(process)

    def delta_table(self, client: WorkspaceClient, rows: pa.Table) -> None:
        """An external table over Delta files: what it calls a managed Delta table is one of DuckDB's own."""
        location = self._data / "sales"
        write_deltalake(location, rows)
        kind, form = TableType.EXTERNAL, DataSourceFormat.DELTA
        client.tables.create("sales", "shop", "bench", kind, form, storage_location=str(location))


def _wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.01)
    raise TimeoutError(f"{url} did not answer within {seconds:g} s")


def memory(process: subprocess.Popen) -> float:
    """Proportional set size of a process and its children, in MB."""
    parent = psutil.Process(process.pid)
    return sum(p.memory_full_info().pss for p in [parent, *parent.children(recursive=True)]) / 2**20


def first_file(begin: float, client: WorkspaceClient) -> float:
    """Seconds from `begin` until a file lies in a new volume of a new catalog."""
    client.catalogs.create("shop")
    client.schemas.create("bench", "shop")
    client.volumes.create("shop", "bench", "files", VolumeType.MANAGED)
    client.files.upload(f"{VOLUME}/first.bin", io.BytesIO(DATA))
    return time.monotonic() - begin


def grouped_sql(run) -> float:
    """The median time of a grouped query in ms."""

    def group(_: int) -> None:
        if len(run(GROUPED)) != 10:
            raise RuntimeError("groups are missing")

    return median_ms(group)


def run() -> list[Figure]:
    """The four figures of both."""
    ids = pa.array(range(ROWS), pa.int64())
    rows = pa.table({"id": ids, "kind": [i % 10 for i in range(ROWS)], "amount": [i / 7 for i in range(ROWS)]})
    figures: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        minilake = Minilake(Path(folder))
        begin = time.monotonic()
        with local_workspace(Path(folder) / "root") as ours:
            client = WorkspaceClient(host=ours.host, token=ours.token)
            figures.append([first_file(begin, client), memory(ours.process)])
            figures[0].append(median_ms(lambda i: round_trip(client, VOLUME, i)))
            ask = statements(client)
            ask("CREATE TABLE shop.bench.sales (id BIGINT, kind BIGINT, amount DOUBLE)")
            ask(f"INSERT INTO shop.bench.sales SELECT id, id % 10, id / 7.0 FROM range({ROWS})")
            figures[0] += [grouped_sql(ask), memory(ours.process)]
        begin = time.monotonic()
        with minilake.running() as (process, client):
            figures.append([first_file(begin, client), memory(process)])
            figures[1].append(median_ms(lambda i: round_trip(client, VOLUME, i)))
            client.warehouses.create(name="bench", cluster_size="2X-Small")
            ask = statements(client)
            minilake.delta_table(client, rows)
            figures[1] += [grouped_sql(ask), memory(process)]
    names = [
        ("start to first file", "s"),
        ("memory after it", "MB"),
        ("64 KiB file up and down", "ms"),
        ("grouped SQL over 10,000 Delta rows", "ms"),
        ("memory after all", "MB"),
    ]
    return [
        Figure(name, ours_, unit, "< minilake", theirs, "minilake 1.9")
        for (name, unit), ours_, theirs in zip(names, *figures, strict=True)
    ]

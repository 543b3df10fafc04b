"""The local workspace: start, memory, files and a point SELECT through the genuine SDK."""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.sql import StatementParameterListItem, StatementState
from deltalake import DeltaTable, QueryBuilder

from bench.report import Figure
from nbs_tests.processes import Workspace, local_workspace

ROWS = 10_000
DATA = bytes(range(256)) * 256


def median_ms(action: Callable[[int], object], times: int = 100) -> float:
    """The median time of `action(i)` in milliseconds, after ten calls to warm up."""
    for i in range(10):
        action(i)
    spans = []
    for i in range(times):
        begin = time.perf_counter()
        action(i)
        spans.append(time.perf_counter() - begin)
    return statistics.median(spans) * 1000


def round_trip(client: WorkspaceClient, folder: str, i: int) -> None:
    """64 KiB up and down through the Files API."""
    path = f"{folder}/{i}.bin"
    client.files.upload(path, io.BytesIO(DATA), overwrite=True)
    if client.files.download(path).contents.read() != DATA:
        raise RuntimeError("what came down is not what went up")


def statements(client: WorkspaceClient) -> Callable[..., list[list[str]]]:
    """A function that runs a statement with its parameters and returns the rows."""
    warehouse = next(iter(client.warehouses.list())).id

    def run(statement: str, *parameters: StatementParameterListItem) -> list[list[str]]:
        done = client.statement_execution.execute_statement(
            statement, warehouse, parameters=list(parameters), wait_timeout="50s"
        )
        if done.status.state != StatementState.SUCCEEDED:
            raise RuntimeError(done.status.error.message)
        return (done.result.data_array if done.result else None) or []

    return run


def files(client: WorkspaceClient, folder: Path) -> Figure:
    """64 KiB up and down through the Files API, against the same bytes written and read on disk."""
    client.volumes.create("main", "bench", "files", VolumeType.MANAGED)

    def on_disk(i: int) -> None:
        path = folder / f"{i}.bin"
        path.write_bytes(DATA)
        path.read_bytes()

    through_the_api = median_ms(lambda i: round_trip(client, "/Volumes/main/bench/files", i))
    return Figure("64 KiB file up and down", through_the_api, "ms", "< 6 ms", median_ms(on_disk), "disk")


def select(client: WorkspaceClient) -> Figure:
    """A point SELECT through the statement API, against delta-rs reading the same table in this process."""
    run = statements(client)
    run("CREATE TABLE main.bench.points (id BIGINT, name STRING, amount DOUBLE)")
    run(f"INSERT INTO main.bench.points SELECT id, concat('row ', id), id / 7.0 FROM range({ROWS})")
    table = DeltaTable(client.tables.get("main.bench.points").storage_location)

    def through_the_api(i: int) -> None:
        wanted = StatementParameterListItem(name="id", value=str(i * 97 % ROWS), type="BIGINT")
        if len(run("SELECT * FROM main.bench.points WHERE id = :id", wanted)) != 1:
            raise RuntimeError("the row is missing")

    def in_process(i: int) -> None:
        QueryBuilder().register("points", table).execute(f"SELECT * FROM points WHERE id = {i * 97 % ROWS}").read_all()

    point, baseline = median_ms(through_the_api), median_ms(in_process)
    return Figure("point SELECT on 10,000 rows", point, "ms", "< 60 ms", baseline, "delta-rs in process")


def first_request(begin: float, running: Workspace, name: str = "first request after start") -> Figure:
    """Seconds from the start of the process to the first answered request."""
    WorkspaceClient(host=running.host, token=running.token).current_user.me()
    return Figure(name, time.monotonic() - begin, "s", "< 3 s")


def run() -> list[Figure]:
    """All figures of the workspace, from a fresh root."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        with local_workspace(Path(folder) / "root") as running:
            figures = [first_request(begin, running)]
            client = WorkspaceClient(host=running.host, token=running.token)
            client.schemas.create("bench", "main")
            figures += [files(client, Path(folder)), select(client)]
            parent = psutil.Process(running.process.pid).memory_info().rss / 2**20
            figures.append(Figure("memory of the parent, in use", parent, "MB", "< 150 MB"))
            running.process.kill()
        begin = time.monotonic()
        with local_workspace(Path(folder) / "root") as running:
            return [*figures, first_request(begin, running, "first request after kill -9")]

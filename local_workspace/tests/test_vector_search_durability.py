"""kill -9 of the vector engine and of the workspace: no acknowledged upsert is lost, no sync is left half done."""

import json
import random
import threading
import time

import httpx
from databricks.sdk.service.vectorsearch import (
    DeltaSyncVectorIndexSpecRequest,
    EmbeddingVectorColumn,
    EndpointType,
    PipelineType,
    VectorIndexType,
)

from local_workspace.tests.conftest import Running, start_workspace
from local_workspace.tests.test_vector_search import create_index

KILLS, NAME = 2, "main.default.lasting"
MODULE = "local_workspace.vector_search.engine"


def kill_engine(running: Running) -> None:
    """kill -9 of the vector engine, if one runs."""
    for engine in running.engines(MODULE):
        engine.kill()


def write_until(running, stop: threading.Event, acknowledged: dict[int, int], first: int) -> None:
    """Upsert rows in pairs that only make sense together, and note what was acknowledged."""
    key = first
    while not stop.is_set():
        rows = [{"id": i, "vector": [key, 0], "twin": key} for i in (key, key + 1)]
        try:
            response = running.http.post(
                f"/api/2.0/vector-search/indexes/{NAME}/upsert-data", json={"inputs_json": json.dumps(rows)}
            )
        except httpx.TransportError:
            return
        if response.is_success:
            acknowledged |= {key: key, key + 1: key}
        key += 2


def rows_of(running) -> dict[int, int]:
    """Every row by scan pages."""
    found, after = {}, None
    while True:
        page = running.client.vector_search_indexes.scan_index(NAME, num_results=1000, last_primary_key=after)
        for row in page.data or []:
            fields = {field.key: field.value for field in row.fields}
            found[int(fields["id"].number_value)] = int(fields["twin"].number_value)
        after = page.last_primary_key
        if after is None:
            return found


def create(running) -> None:
    running.client.vector_search_endpoints.create_endpoint_and_wait("lasting", EndpointType.STANDARD)
    schema = {"id": "long", "vector": "array<float>", "twin": "long"}
    spec = {"schema_json": json.dumps(schema), "embedding_vector_columns": [EmbeddingVectorColumn(2, "vector")]}
    create_index(running.client, NAME, "lasting", **spec)


def check(running, acknowledged: dict[int, int]) -> None:
    """All that was acknowledged is there, and no row without its twin."""
    found = rows_of(running)
    assert acknowledged
    assert acknowledged.items() <= found.items()
    assert all((key ^ 1) in found for key in found)


def test_a_killed_engine_loses_no_acknowledged_upsert(tmp_path):
    acknowledged: dict[int, int] = {}
    moments = random.Random(4)  # noqa: S311 - the moments of the kills
    with start_workspace(tmp_path) as running:
        create(running)
        stop = threading.Event()
        writer = threading.Thread(target=write_until, args=(running, stop, acknowledged, 0))
        writer.start()
        for _ in range(KILLS):
            before = len(acknowledged)
            until = time.monotonic() + 30
            while len(acknowledged) < before + 10:
                assert time.monotonic() < until
                time.sleep(moments.uniform(0.01, 0.1))
            kill_engine(running)
        stop.set()
        writer.join()
        check(running, acknowledged)


def test_a_killed_workspace_loses_no_acknowledged_upsert(tmp_path):
    acknowledged: dict[int, int] = {}
    moments = random.Random(5)  # noqa: S311 - the moments of the kills
    for number in range(KILLS):
        with start_workspace(tmp_path) as running:
            if number == 0:
                create(running)
            before = len(acknowledged)
            writer = threading.Thread(
                target=write_until, args=(running, threading.Event(), acknowledged, number * 10**6)
            )
            writer.start()
            until = time.monotonic() + 30
            while len(acknowledged) < before + 10:
                assert time.monotonic() < until
                time.sleep(moments.uniform(0.01, 0.1))
            running.process.kill()
            writer.join()
    with start_workspace(tmp_path) as running:
        check(running, acknowledged)


def test_a_sync_that_is_killed_is_finished_at_the_next_start(tmp_path):
    table, rows = "main.default.killed", 30_000
    with start_workspace(tmp_path) as running:
        client = running.client
        client.vector_search_endpoints.create_endpoint_and_wait("kills", EndpointType.STORAGE_OPTIMIZED)
        warehouse = next(iter(client.warehouses.list())).id
        for statement in (
            f"CREATE TABLE {table} (id BIGINT, v ARRAY<FLOAT>)",
            f"INSERT INTO {table} SELECT id, array(CAST(id AS FLOAT), 1f) FROM range({rows})",
        ):
            done = client.statement_execution.execute_statement(statement, warehouse, wait_timeout="50s")
            assert done.status.state.value == "SUCCEEDED", done.status.error
        client.vector_search_indexes.create_index(
            f"{table}_index",
            "kills",
            "id",
            VectorIndexType.DELTA_SYNC,
            delta_sync_index_spec=DeltaSyncVectorIndexSpecRequest(
                source_table=table,
                pipeline_type=PipelineType.TRIGGERED,
                embedding_vector_columns=[EmbeddingVectorColumn(2, "v")],
            ),
        )
        time.sleep(0.3)
        kill_engine(running)
        time.sleep(0.5)
        running.process.kill()
    with start_workspace(tmp_path) as running:
        until = time.monotonic() + 30
        while not (status := running.http.get(f"/api/2.0/vector-search/indexes/{table}_index").json()["status"])[
            "ready"
        ]:
            assert time.monotonic() < until, status
        assert status["indexed_row_count"] == rows
        assert status["triggered_update_status"]["last_processed_commit_version"] == 1

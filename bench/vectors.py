"""Vector search through HTTP and the SDK: 100,000 vectors of 384 numbers, filtered too, clustered and random."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.vectorsearch import (
    DirectAccessVectorIndexSpec,
    EmbeddingVectorColumn,
    EndpointType,
    VectorIndexType,
)

from bench.report import Figure
from nbs_tests.processes import local_workspace

ROWS, DIMENSION, RESULTS, QUERIES = 100_000, 384, 10, 100
BATCH = 2_000
FILTERS: dict[str, tuple[str | None, Callable[[np.ndarray], np.ndarray]]] = {
    "just loaded": (None, lambda group: np.ones(len(group), bool)),
    "10 % filter": ('{"group <": 10}', lambda group: group < 10),
    "1 % filter": ('{"group": 7}', lambda group: group == 7),
    "no filter": (None, lambda group: np.ones(len(group), bool)),
}
"""In this order: right after loading, the engine builds its codes while it answers."""
SETTLE_SECONDS = 20
"""The codes are built by then: the figures after `just loaded` are those of an index at rest."""


def clustered(rng: np.random.Generator) -> np.ndarray:
    """Unit vectors around 500 centres, as embeddings of texts are."""
    centres = rng.normal(size=(500, DIMENSION))
    return _units(centres[rng.integers(500, size=ROWS)] + 0.6 * rng.normal(size=(ROWS, DIMENSION)))


def random(rng: np.random.Generator) -> np.ndarray:
    """Unit vectors in all directions: the hardest case, as no neighbour is much nearer than others."""
    return _units(rng.normal(size=(ROWS, DIMENSION)))


def _units(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Bench:
    """One index with the vectors in it."""

    def __init__(self, client: WorkspaceClient, name: str, vectors: np.ndarray, rng: np.random.Generator):
        self.indexes = client.vector_search_indexes
        self.name = f"main.default.{name}"
        self.vectors = vectors
        self.groups = np.arange(ROWS) % 100
        near = vectors[rng.integers(ROWS, size=QUERIES)] + rng.normal(0, 0.02, size=(QUERIES, DIMENSION))
        self.queries = _units(near if name == "clustered" else rng.normal(size=(QUERIES, DIMENSION)))
        schema = {"id": "long", "vector": "array<float>", "group": "int", "text": "string"}
        spec = DirectAccessVectorIndexSpec(
            embedding_vector_columns=[EmbeddingVectorColumn(DIMENSION, "vector")], schema_json=json.dumps(schema)
        )
        self.indexes.create_index(
            self.name, "bench", "id", VectorIndexType.DIRECT_ACCESS, direct_access_index_spec=spec
        )

    def upsert(self) -> float:
        """Write all rows; rows per second of the requests alone."""
        seconds = 0.0
        for start in range(0, ROWS, BATCH):
            rows = [
                {"id": i, "vector": self.vectors[i].tolist(), "group": int(self.groups[i]), "text": f"row {i}"}
                for i in range(start, start + BATCH)
            ]
            content = json.dumps(rows)
            begin = time.perf_counter()
            self.indexes.upsert_data_vector_index(self.name, content)
            seconds += time.perf_counter() - begin
        return ROWS / seconds

    def query(self, filters: str | None, allowed: np.ndarray) -> tuple[list[float], float]:
        """The sorted latencies in milliseconds, and the mean share of the true neighbours that were found."""
        # Before the clock runs: numpy would take both cores from the engine.
        true = [
            set(np.argpartition(-np.where(allowed, self.vectors @ vector, -np.inf), RESULTS)[:RESULTS].tolist())
            for vector in self.queries
        ]
        spans, recalls = [], []
        for vector, nearest in zip(self.queries, true, strict=True):
            begin = time.perf_counter()
            answer = self.indexes.query_index(
                self.name, ["id", "text"], query_vector=vector.tolist(), num_results=RESULTS, filters_json=filters
            )
            spans.append((time.perf_counter() - begin) * 1000)
            found = {int(row[0]) for row in answer.result.data_array}
            recalls.append(len(found & nearest) / RESULTS)
        return sorted(spans), statistics.mean(recalls)


def _engine_memory(pid: int) -> float:
    module = "local_workspace.vector_search.engine"
    engine = next(child for child in psutil.Process(pid).children(recursive=True) if module in child.cmdline())
    return engine.memory_info().rss / 2**20


def exact_ms(vectors: np.ndarray, queries: np.ndarray) -> float:
    """The baseline: distances to every vector by numpy, in this process, without rows or filters."""
    spans = []
    for vector in queries:
        begin = time.perf_counter()
        np.argpartition(-(vectors @ vector), RESULTS)
        spans.append((time.perf_counter() - begin) * 1000)
    return sorted(spans)[int(0.95 * len(spans))]


def run() -> list[Figure]:
    """Query time and recall by kind of vectors and filter, upsert rate, memory of the engine."""
    rng = np.random.default_rng(0)
    figures = []
    with tempfile.TemporaryDirectory() as folder, local_workspace(Path(folder)) as running:
        client = WorkspaceClient(host=running.host, token=running.token)
        client.vector_search_endpoints.create_endpoint_and_wait("bench", EndpointType.STANDARD)
        for kind in (clustered, random):
            bench = Bench(client, kind.__name__, kind(rng), rng)
            figures.append(
                Figure(f"vectors, {kind.__name__}: upsert in batches of {BATCH}", bench.upsert(), "rows/s", "")
            )
            baseline = exact_ms(bench.vectors, bench.queries)
            for label, (filters, allows) in FILTERS.items():
                spans, recall = bench.query(filters, allows(bench.groups))
                if label == "just loaded":
                    time.sleep(SETTLE_SECONDS)
                what = f"vectors, {kind.__name__}, {label}"
                p95 = spans[int(0.95 * len(spans))]
                figures += [
                    Figure(f"{what}: query p50", statistics.median(spans), "ms", ""),
                    Figure(f"{what}: query p95", p95, "ms", "< 30 ms", baseline, "numpy, distances alone"),
                    Figure(f"{what}: recall@{RESULTS}", recall, "", "≥ 0.95"),
                ]
            memory = _engine_memory(running.process.pid)
            figures.append(Figure(f"vectors: memory of the engine, {kind.__name__} loaded", memory, "MB", ""))
    return figures

"""Searches of thousands of rows: the nearest are found, filtered too, in pages, and what is gone stays gone."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import lancedb
import numpy as np
import pytest
from databricks.ai_search.client import AISearchClient
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.vectorsearch import EmbeddingVectorColumn, EndpointType

from local_workspace.tests.test_vector_search import create_index
from local_workspace.vector_search.columns import Columns
from local_workspace.vector_search.index import LEAST_INDEXED, Index
from local_workspace.vector_search.search import Query, search

ROWS, DIMENSION = 5000, 16
NAME = "main.default.scale"


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def loaded(workspace, vectors):
    client = workspace.client
    client.vector_search_endpoints.create_endpoint_and_wait("scale", EndpointType.STANDARD)
    create_index(
        client,
        NAME,
        "scale",
        schema_json=json.dumps({"id": "long", "vector": "array<float>", "part": "int"}),
        embedding_vector_columns=[EmbeddingVectorColumn(DIMENSION, "vector")],
    )
    for start in range(0, ROWS, 1250):
        upsert(client, [(i, vectors[i]) for i in range(start, start + 1250)])
    return client


def upsert(client, rows) -> None:
    content = [{"id": i, "vector": vector.tolist(), "part": i % 100} for i, vector in rows]
    client.vector_search_indexes.upsert_data_vector_index(NAME, json.dumps(content))


def nearest(client, vector, limit=10, filters=None) -> list[int]:
    answer = client.vector_search_indexes.query_index(
        NAME, ["id"], query_vector=vector.tolist(), num_results=limit, filters_json=filters and json.dumps(filters)
    )
    return [row[0] for row in answer.result.data_array]


def true_nearest(vectors, vector, allowed, limit=10) -> set[int]:
    distances = np.where(allowed, ((vectors - vector) ** 2).sum(axis=1), np.inf)
    return set(np.argsort(distances)[:limit].tolist())


@pytest.mark.parametrize(
    ("filters", "share"), [(None, 100), ({"part <": 10}, 10), ({"part": 7}, None)], ids=["all", "10 %", "1 %"]
)
def test_the_nearest_are_found(loaded, vectors, filters, share):
    parts = np.arange(ROWS) % 100
    allowed = parts == 7 if share is None else parts < share
    rng = np.random.default_rng(1)
    recalls = []
    for vector in rng.normal(size=(15, DIMENSION)).astype(np.float32):
        recalls.append(len(set(nearest(loaded, vector, filters=filters)) & true_nearest(vectors, vector, allowed)) / 10)
    assert np.mean(recalls) >= 0.98


def test_changes_are_seen_at_once_and_what_is_gone_stays_gone(loaded, vectors):
    far = np.full(DIMENSION, 1000, np.float32)
    upsert(loaded, [(3, far), (ROWS + 1, far + 1)])
    assert nearest(loaded, far, 2) == [3, ROWS + 1]
    assert 3 not in nearest(loaded, vectors[3], 50)
    loaded.vector_search_indexes.delete_data_vector_index(NAME, ["3", str(ROWS + 1), "5"])
    assert not {3, ROWS + 1} & set(nearest(loaded, far, 50))
    assert 5 not in nearest(loaded, vectors[5], 50)
    upsert(loaded, [(3, vectors[3]), (5, vectors[5])])
    assert nearest(loaded, vectors[5], 1) == [5]


def test_more_than_a_thousand_rows_come_in_pages(workspace, loaded, vectors):
    indexes = loaded.vector_search_indexes
    first = indexes.query_index(NAME, ["id"], query_vector=vectors[0].tolist(), num_results=2500)
    assert (first.result.row_count, len(first.result.data_array)) == (1000, 1000)
    second = indexes.query_next_page(NAME, endpoint_name="scale", page_token=first.next_page_token)
    third = indexes.query_next_page(NAME, page_token=second.next_page_token)
    assert (third.result.row_count, third.next_page_token) == (500, None)
    pages = [first.result.data_array, second.result.data_array, third.result.data_array]
    ids = [row[0] for page in pages for row in page]
    assert len(set(ids)) == 2500
    scores = [row[-1] for page in pages for row in page]
    assert scores == sorted(scores, reverse=True)
    library = AISearchClient(workspace_url=workspace.host, personal_access_token=workspace.token, disable_notice=True)
    whole = library.get_index("scale", NAME).similarity_search(
        columns=["id"], query_vector=vectors[0].tolist(), num_results=2500, disable_notice=True
    )
    assert [row[0] for row in whole["result"]["data_array"]] == ids
    for wrong in ("", "x", "eJyrrgUAAXUA-Q==", first.next_page_token[:-9]):
        with pytest.raises(BadRequest, match="page_token"):
            indexes.query_next_page(NAME, page_token=wrong)


async def test_codes_that_do_not_fit_the_vectors_are_not_used(tmp_path):
    rng = np.random.default_rng(2)
    count = LEAST_INDEXED + 100
    vectors = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    vectors[: count // 2] *= 1e-4
    with ThreadPoolExecutor(1) as upkeep:
        columns = Columns("id", "vector", DIMENSION, {"id": "long", "vector": "array<float>"})
        index = Index.create(lancedb.connect(tmp_path), "mixed", columns, upkeep)
        index.write(columns.table([{"id": i, "vector": vectors[i]} for i in range(count)]))
        until = time.monotonic() + 30
        while not [made for made in index.table.list_indices() if made.index_type == "IvfFlat"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        found = await search(index, Query(["id"], 5, vector=vectors[7].tolist()))
        assert {row[0] for row in found} == true_nearest(vectors, vectors[7], np.ones(count, bool), 5)

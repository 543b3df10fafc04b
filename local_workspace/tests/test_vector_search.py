"""Direct-access indexes by the SDK and the client library: upsert, query, filters, scan, delete, failures."""

import json
import os
import re
import signal

import pytest
from databricks.ai_search.client import AISearchClient
from databricks.ai_search.exceptions import BadRequest as ClientBadRequest
from databricks.sdk.errors import BadRequest, NotFound, ResourceAlreadyExists
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from databricks.sdk.service.vectorsearch import (
    DirectAccessVectorIndexSpec,
    EmbeddingSourceColumn,
    EmbeddingVectorColumn,
    EndpointStatusState,
    EndpointType,
    VectorIndexType,
)

from local_workspace.tests.conftest import start_workspace

SCHEMA = {
    "id": "string",
    "vector": "array<float>",
    "text": "string",
    "amount": "double",
    "count": "int",
    "fraud": "boolean",
    "tags": "array<string>",
    "at": "timestamp",
}
ROWS = [
    {
        "id": str(number),
        "vector": [number, 0, 1],
        "text": ["a red lion", "zebra crossing", "it's \\ odd"][number % 3],
        "amount": number * 1.5,
        "count": number,
        "fraud": number % 2 == 0,
        "tags": ["all", f"t{number}"],
        "at": f"2026-01-0{number + 1}T00:00:00Z",
    }
    for number in range(6)
]


def create_index(client, name: str, endpoint: str = "memory", **changes):
    spec = {"schema_json": json.dumps(SCHEMA), "embedding_vector_columns": [EmbeddingVectorColumn(3, "vector")]}
    return client.vector_search_indexes.create_index(
        name,
        endpoint,
        changes.pop("primary_key", "id"),
        VectorIndexType.DIRECT_ACCESS,
        direct_access_index_spec=DirectAccessVectorIndexSpec(**spec | changes),
    )


def ids(index, **query) -> list[str]:
    answer = index.similarity_search(columns=["id"], disable_notice=True, **{"query_vector": [0, 0, 1]} | query)
    return [row[0] for row in answer["result"]["data_array"]]


@pytest.fixture(scope="module")
def endpoint(workspace):
    return workspace.client.vector_search_endpoints.create_endpoint_and_wait("memory", EndpointType.STANDARD)


@pytest.fixture(scope="module")
def library(workspace):
    return AISearchClient(workspace_url=workspace.host, personal_access_token=workspace.token, disable_notice=True)


@pytest.fixture
def index(request, workspace, endpoint, library):
    """An index with the rows in it, as the client library sees it."""
    name = "main.default." + re.sub(r"\W", "_", request.node.name)
    create_index(workspace.client, name)
    index = library.get_index("memory", name)
    index.upsert(ROWS)
    yield index
    library.delete_index("memory", name)


def test_endpoints(workspace, endpoint):
    endpoints = workspace.client.vector_search_endpoints
    assert endpoint.endpoint_status.state is EndpointStatusState.ONLINE
    assert endpoints.get_endpoint("memory").id == endpoint.id
    assert "memory" in [found.name for found in endpoints.list_endpoints()]
    with pytest.raises(ResourceAlreadyExists):
        endpoints.create_endpoint("memory", EndpointType.STANDARD)
    with pytest.raises(NotFound):
        endpoints.get_endpoint("nobody")


def test_an_index_by_both_dialects(workspace, endpoint, library):
    made = library.create_direct_access_index(
        endpoint_name="memory",
        index_name="main.default.both",
        primary_key="id",
        embedding_dimension=3,
        embedding_vector_column="vector",
        schema=SCHEMA,
    )
    made.wait_until_ready()
    assert made.upsert(ROWS)["result"]["success_row_count"] == len(ROWS)
    by_sdk = workspace.client.vector_search_indexes
    found = by_sdk.get_index("main.default.both")
    assert (found.status.ready, found.status.indexed_row_count, found.primary_key) == (True, len(ROWS), "id")
    assert "main.default.both" in [listed.name for listed in by_sdk.list_indexes("memory")]
    assert "main.default.both" in [listed["name"] for listed in library.list_indexes("memory")["vector_indexes"]]
    with pytest.raises(ResourceAlreadyExists):
        create_index(workspace.client, "main.default.both")
    with pytest.raises(BadRequest, match="delete them first"):
        workspace.client.vector_search_endpoints.delete_endpoint("memory")
    by_sdk.delete_index("main.default.both")
    assert not library.index_exists("memory", "main.default.both")


def test_the_score_falls_with_the_squared_distance(workspace, index):
    answer = workspace.client.vector_search_indexes.query_index(
        index.name, ["id", "amount", "fraud", "tags", "at"], query_vector=[1, 0, 1], num_results=3
    )
    assert [column.name for column in answer.manifest.columns] == ["id", "amount", "fraud", "tags", "at", "score"]
    assert answer.result.row_count == 3
    assert answer.result.data_array[0] == ["1", 1.5, False, ["all", "t1"], "2026-01-02T00:00:00+00:00", 1.0]
    assert [row[-1] for row in answer.result.data_array] == [1, 0.5, 0.5]
    assert ids(index, num_results=5, score_threshold=0.4) == ["0", "1"]


def test_an_upsert_replaces_by_primary_key(index):
    index.upsert([{"id": "0", "vector": [9, 9, 9], "text": "new"}, {"id": "0", "vector": [8, 8, 8], "text": "newer"}])
    found = index.similarity_search(columns=["id", "text", "amount"], query_vector=[8, 8, 8], disable_notice=True)
    assert found["result"]["data_array"][0] == ["0", "newer", None, 1.0]
    assert index.describe()["status"]["indexed_row_count"] == len(ROWS)


def test_an_upsert_with_wrong_rows_writes_none_and_names_each(index):
    wrong = [
        {"id": "10", "vector": [1, 2, 3]},
        {"id": "11", "vector": [1, 2]},
        {"vector": [1, 2, 3]},
        {"id": "12", "vector": [1, 2, float("nan")]},
        {"id": "13", "vector": [1, 2, 3], "count": 2**40},
        {"id": "14", "vector": [1, 2, 3], "colour": "red"},
        "row",
    ]
    with pytest.raises(ClientBadRequest) as raised:
        index.upsert([row for row in wrong if isinstance(row, dict)])
    message = str(raised.value)
    for named in ("2 dimensions, the index has 3", "row 2.*missing", "row 3.*finite", "row 4.*count", "row 5.*colour"):
        assert re.search(named, message)
    assert index.describe()["status"]["indexed_row_count"] == len(ROWS)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"count <": 2}, "01"),
        ({"count >=": 2, "count <=": 4}, "234"),
        ({"amount >": 4.4}, "345"),
        ({"text": "it's \\ odd"}, "25"),
        ({"text NOT": "a red lion"}, "1245"),
        ({"text LIKE": "red"}, "03"),
        ({"text LIKE": "re"}, ""),
        ({"text LIKE": "%cross%"}, "14"),
        ({"count": [1, 2]}, "12"),
        ({"count NOT": [1, 2]}, "0345"),
        ({"fraud": True}, "024"),
        ({"tags": "t3"}, "3"),
        ({"at >": "2026-01-05"}, "5"),
        ({"text OR id": ["a red lion", "1"]}, "013"),
        ([{"count >": 0}, {"count <": 3}], "12"),
        ({"text": "x' OR 1=1 --"}, ""),
        ({"text": "x') OR (1=1"}, ""),
    ],
)
def test_filters(workspace, filtered, filters, expected):
    answer = workspace.client.vector_search_indexes.query_index(
        "main.default.filtered", ["id"], query_vector=[0, 0, 1], filters_json=json.dumps(filters)
    )
    assert "".join(row[0] for row in answer.result.data_array) == expected


@pytest.fixture(scope="module")
def filtered(workspace, endpoint, library):
    create_index(workspace.client, "main.default.filtered")
    library.get_index("memory", "main.default.filtered").upsert(ROWS)


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ({"colour": "red"}, "no column 'colour'"),
        ({"1=1 OR count": 1}, "needs a list"),
        ({"count` = 1 OR `count": 1}, "needs a list"),
        ({"count <": "1 OR 1=1"}, "integer"),
        ({"count": {"$gt": 1}}, "integer"),
        ({"text LIKE": 1}, "string"),
        ({"at >": "yesterday"}, "isoformat"),
        ({"vector": [1, 2, 3]}, "vector"),
        ("count < 3", "JSON object"),
    ],
)
def test_a_wrong_filter_is_400(workspace, filtered, filters, named):
    with pytest.raises(BadRequest, match=named):
        workspace.client.vector_search_indexes.query_index(
            "main.default.filtered", ["id"], query_vector=[0, 0, 1], filters_json=json.dumps(filters)
        )


def test_a_storage_optimized_endpoint_filters_by_sql(workspace, library):
    workspace.client.vector_search_endpoints.create_endpoint_and_wait("large", EndpointType.STORAGE_OPTIMIZED)
    create_index(workspace.client, "main.default.large", "large")
    index = library.get_index("large", "main.default.large")
    index.upsert(ROWS)
    assert ids(index, filters="count < 4 AND text = 'a red lion'") == ["0", "3"]
    assert ids(index, filters="text LIKE '%it''s%' OR count IN (0, 1) AND NOT fraud") == ["1", "2", "5"]
    assert ids(index, filters="count BETWEEN 1 AND 2 AND amount IS NOT NULL") == ["1", "2"]
    for wrong in ("colour = 1", "count = (SELECT 1)", "count < 1; DROP TABLE x", "sleep(9) = 1", "((", "a.count = 1"):
        with pytest.raises(ClientBadRequest, match="filter_string"):
            ids(index, filters=wrong)
    with pytest.raises(ClientBadRequest, match="does not fit"):
        ids(index, filters="count = 'many'")
    with pytest.raises(ClientBadRequest, match="STANDARD"):
        ids(index, filters={"count": 1})


def test_hybrid_and_full_text_search(index):
    assert ids(index, query_vector=[5, 0, 1], query_text="zebra", query_type="HYBRID", num_results=2) == ["4", "5"]
    best = index.similarity_search(
        columns=["id"], query_vector=[1, 0, 1], query_text="zebra", query_type="hybrid", disable_notice=True
    )
    assert best["result"]["data_array"][0][0] == "1"
    assert 0.9 < best["result"]["data_array"][0][-1] <= 1
    assert set(ids(index, query_vector=None, query_text="zebra", query_type="FULL_TEXT")) == {"1", "4"}
    assert ids(index, query_text="zebra", query_type="HYBRID", filters={"count": 4}) == ["4"]


def test_text_is_embedded_by_the_indexs_endpoint(workspace, endpoint, library):
    entity = ServedEntityInput(entity_name="system.ai.minilm", entity_version="1")
    config = EndpointCoreConfigInput(name="embedder", served_entities=[entity])
    workspace.client.serving_endpoints.create_and_wait("embedder", config=config)
    create_index(
        workspace.client,
        "main.default.texts",
        schema_json=json.dumps({"id": "long", "vector": "array<float>", "text": "string"}),
        embedding_vector_columns=[EmbeddingVectorColumn(384, "vector")],
        embedding_source_columns=[EmbeddingSourceColumn(embedding_model_endpoint_name="embedder")],
    )
    texts = ["The card was used abroad.", "Bananas are yellow."]
    vectors = [item.embedding for item in workspace.client.serving_endpoints.query("embedder", input=texts).data]
    index = library.get_index("memory", "main.default.texts")
    index.upsert([{"id": n, "vector": v, "text": texts[n]} for n, v in enumerate(vectors)])
    assert ids(index, query_vector=None, query_text="payment in a foreign country") == [0, 1]
    assert index.scan(1)["last_primary_key"] == "0"
    assert index.scan(9, "0")["last_primary_key"] == "1"
    assert index.delete(["0"])["result"]["success_row_count"] == 1


def test_a_scan_pages_in_the_order_of_the_keys(workspace, index):
    first = workspace.client.vector_search_indexes.scan_index(index.name, num_results=4)
    keys = [row.fields[0].value.string_value for row in first.data]
    assert (keys, first.last_primary_key) == (["0", "1", "2", "3"], "3")
    assert first.data[1].as_dict()["fields"][1]["value"]["list_value"]["values"][0] == {"number_value": 1.0}
    rest = index.scan(num_results=4, last_primary_key="3")
    assert [row["fields"][0]["value"]["string_value"] for row in rest["data"]] == ["4", "5"]
    assert index.scan(num_results=4, last_primary_key="5") == {"data": []}


def test_delete_by_primary_key_in_both_dialects(workspace, index):
    assert index.delete(["0", "none"])["result"]["success_row_count"] == 1
    deleted = workspace.client.vector_search_indexes.delete_data_vector_index(index.name, ["1", "2"])
    assert deleted.result.success_row_count == 2
    assert ids(index) == ["3", "4", "5"]


def test_wrong_queries_are_400_and_name_the_field(index):
    for wrong, named in [
        ({"query_vector": [1, 2]}, "2 dimensions, the index has 3"),
        ({"query_vector": ["a", 2, 3]}, "query_vector"),
        ({"query_vector": None, "query_text": "a"}, "embedding model"),
        ({"query_vector": None}, "query_vector is needed"),
        ({"num_results": 0}, "num_results"),
        ({"num_results": 201, "query_type": "HYBRID", "query_text": "a"}, "num_results"),
        ({"query_type": "NEAREST"}, "query_type"),
        ({"filters": "count < 1"}, "filters_json"),
    ]:
        with pytest.raises(ClientBadRequest, match=named):
            ids(index, **wrong)
    with pytest.raises(ClientBadRequest, match="colour"):
        index.similarity_search(columns=["colour"], query_vector=[1, 2, 3], disable_notice=True)
    with pytest.raises(ClientBadRequest, match="nothing to sync"):
        index.sync()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_json": "{"}, "schema_json"),
        ({"schema_json": '{"id": "string"}'}, "embedding_vector_columns"),
        ({"schema_json": '{"id": "blob", "vector": "array<float>"}'}, "primary_key"),
        ({"schema_json": '{"id": "int", "x": "map<int,int>", "vector": "array<float>"}'}, "map<int,int>"),
        ({"schema_json": '{"id": "int", "a`b": "int", "vector": "array<float>"}'}, "a`b"),
        ({"embedding_vector_columns": [EmbeddingVectorColumn(0, "vector")]}, "embedding_dimension"),
        ({"primary_key": "key"}, "primary_key"),
    ],
)
def test_a_wrong_specification_is_400_and_names_the_field(workspace, endpoint, changes, named):
    with pytest.raises(BadRequest, match=re.escape(named)):
        create_index(workspace.client, "main.default.wrong", **changes)
    with pytest.raises(NotFound):
        workspace.client.vector_search_indexes.get_index("main.default.wrong")


def test_what_an_index_needs_must_exist(workspace, endpoint):
    with pytest.raises(NotFound, match="nobody"):
        create_index(workspace.client, "main.default.lost", "nobody")
    with pytest.raises(NotFound, match="nowhere"):
        create_index(workspace.client, "main.nowhere.lost")
    with pytest.raises(BadRequest, match="catalog"):
        create_index(workspace.client, "lost")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"inputs_json": 5}', b'{"inputs_json": "{}"}', b"\xff"])
def test_a_broken_body_is_400(workspace, filtered, content):
    for operation in ("upsert-data", "query", "delete-data"):
        path = f"/api/2.0/vector-search/indexes/main.default.filtered/{operation}"
        assert workspace.http.post(path, content=content).status_code == 400, operation


def test_rows_survive_a_killed_engine_and_a_killed_workspace(tmp_path):
    with start_workspace(tmp_path) as first:
        first.client.vector_search_endpoints.create_endpoint_and_wait("memory", EndpointType.STANDARD)
        create_index(first.client, "main.default.kept")
        indexes = first.client.vector_search_indexes
        indexes.upsert_data_vector_index("main.default.kept", json.dumps(ROWS[:3]))
        engine = first.engine("local_workspace.vector_search.engine")
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait(10)
        indexes.upsert_data_vector_index("main.default.kept", json.dumps(ROWS[3:]))
        first.process.kill()
    with start_workspace(tmp_path) as second:
        answer = second.client.vector_search_indexes.query_index(
            "main.default.kept", ["id"], query_vector=[0, 0, 1], filters_json='{"count <": 5}'
        )
        assert [row[0] for row in answer.result.data_array] == ["0", "1", "2", "3", "4"]

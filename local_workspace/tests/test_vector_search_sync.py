"""Delta-sync indexes: self-managed and managed embeddings, triggered and continuous, what fails and heals."""

import time

import pytest
from databricks.ai_search.client import AISearchClient
from databricks.ai_search.exceptions import BadRequest as ClientBadRequest
from databricks.sdk.errors import BadRequest, NotFound, NotImplemented
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from databricks.sdk.service.vectorsearch import (
    DeltaSyncVectorIndexSpecRequest,
    EmbeddingSourceColumn,
    EmbeddingVectorColumn,
    EndpointType,
    PipelineType,
    VectorIndexType,
)

FEED = "TBLPROPERTIES (delta.enableChangeDataFeed = true)"


@pytest.fixture(scope="module")
def sql(workspace):
    warehouse = next(iter(workspace.client.warehouses.list())).id

    def run(statement: str) -> None:
        done = workspace.client.statement_execution.execute_statement(statement, warehouse, wait_timeout="50s")
        assert done.status.state.value == "SUCCEEDED", done.status.error

    run("CREATE SCHEMA main.synced")
    return run


@pytest.fixture(scope="module")
def library(workspace):
    client = AISearchClient(workspace_url=workspace.host, personal_access_token=workspace.token, disable_notice=True)
    client.create_endpoint_and_wait("synced", "STANDARD")
    client.create_endpoint_and_wait("synced-large", "STORAGE_OPTIMIZED")
    return client


@pytest.fixture(scope="module")
def embedder(workspace):
    entity = ServedEntityInput(entity_name="system.ai.minilm", entity_version="1")
    config = EndpointCoreConfigInput(name="sync-embedder", served_entities=[entity])
    workspace.client.serving_endpoints.create_and_wait("sync-embedder", config=config)
    return "sync-embedder"


def self_managed(library, table: str, pipeline_type: str = "TRIGGERED", endpoint: str = "synced", **options):
    return library.create_delta_sync_index(
        endpoint_name=endpoint,
        index_name=f"{table}_index",
        primary_key="id",
        source_table_name=table,
        pipeline_type=pipeline_type,
        embedding_dimension=2,
        embedding_vector_column="v",
        **options,
    )


def found(index, columns=("id",), **query) -> list[list]:
    answer = index.similarity_search(
        columns=list(columns), num_results=100, disable_notice=True, **{"query_vector": [0.0, 0.0]} | query
    )
    return [row[: len(columns)] for row in answer["result"]["data_array"]]


def wait_for(index, *states: str) -> dict:
    until = time.monotonic() + 20
    while (status := index.describe()["status"])["detailed_state"] not in states:
        assert time.monotonic() < until, status
        assert "FAILED" not in status["detailed_state"], status
        time.sleep(0.05)
    return status


def test_a_triggered_index_shows_its_table_after_each_sync(workspace, sql, library):
    table = "main.synced.points"
    sql(f"CREATE TABLE {table} (id BIGINT, v ARRAY<FLOAT>, kind STRING, at TIMESTAMP) {FEED}")
    sql(
        f"INSERT INTO {table} VALUES (1, array(0f, 0f), 'a', TIMESTAMP'2026-01-01'), "
        "(2, array(1f, 0f), 'b', NULL), (3, array(2f, 0f), NULL, NULL), (4, NULL, 'no vector', NULL)"
    )
    index = self_managed(library, table)
    index.wait_until_ready(wait_for_updates=True)
    status = index.describe()["status"]
    assert (status["detailed_state"], status["ready"], status["indexed_row_count"]) == (
        "ONLINE_NO_PENDING_UPDATE",
        True,
        3,
    )
    assert status["triggered_update_status"]["last_processed_commit_version"] == 1
    assert found(index, ["id", "kind", "at"])[0] == [1, "a", "2026-01-01T00:00:00+00:00"]
    sql(f"UPDATE {table} SET v = array(9f, 0f), kind = 'moved' WHERE id = 1")
    sql(f"DELETE FROM {table} WHERE id = 2")
    sql(f"INSERT INTO {table} VALUES (5, array(3f, 0f), 'new', NULL)")
    assert [row[0] for row in found(index)] == [1, 2, 3]
    workspace.client.vector_search_indexes.sync_index(index.name)
    assert wait_for(index, "ONLINE_NO_PENDING_UPDATE")["triggered_update_status"]["last_processed_commit_version"] == 4
    assert found(index, ["id", "kind"]) == [[3, None], [5, "new"], [1, "moved"]]
    assert found(index, filters={"kind": "moved"}) == [[1]]
    described = workspace.client.vector_search_indexes.get_index(index.name)
    assert described.index_type is VectorIndexType.DELTA_SYNC
    assert described.delta_sync_index_spec.source_table == table
    assert described.delta_sync_index_spec.pipeline_type is PipelineType.TRIGGERED
    assert described.delta_sync_index_spec.pipeline_id
    assert described.status.indexed_row_count == 3
    with pytest.raises(ClientBadRequest, match="source table"):
        index.upsert([{"id": 7, "v": [0, 0]}])
    with pytest.raises(ClientBadRequest, match="source table"):
        index.delete([1])
    sql(f"CREATE OR REPLACE TABLE {table} (id BIGINT, v ARRAY<FLOAT>, kind STRING, at TIMESTAMP) {FEED}")
    sql(f"INSERT INTO {table} VALUES (8, array(0f, 0f), 'only', NULL)")
    index.sync()
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    assert found(index) == [[8]]


def test_a_continuous_index_follows_its_table(sql, library):
    table = "main.synced.stream"
    sql(f"CREATE TABLE {table} (id STRING, v ARRAY<DOUBLE>, secret STRING) {FEED}")
    index = self_managed(library, table, "CONTINUOUS", columns_to_sync=["id"])
    wait_for(index, "ONLINE_CONTINUOUS_UPDATE")
    assert found(index) == []
    sql(f"INSERT INTO {table} VALUES ('a', array(1d, 1d), 'x'), ('b', array(2d, 2d), 'y')")
    until = time.monotonic() + 20
    while len(found(index)) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    sql(f"DELETE FROM {table} WHERE id = 'a'")
    while found(index) != [["b"]]:
        assert time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(ClientBadRequest, match="secret"):
        found(index, ["secret"])
    with pytest.raises(ClientBadRequest, match="CONTINUOUS"):
        index.sync()


def test_managed_embeddings_come_from_the_endpoint(workspace, sql, library, embedder):
    table = "main.synced.texts"
    sql(f"CREATE TABLE {table} (id INT, text STRING, year INT) {FEED}")
    sql(f"INSERT INTO {table} VALUES (1, 'The card was used abroad.', 2025), (2, 'Bananas are yellow.', 2026)")
    made = workspace.client.vector_search_indexes.create_index(
        f"{table}_index",
        "synced",
        "id",
        VectorIndexType.DELTA_SYNC,
        delta_sync_index_spec=DeltaSyncVectorIndexSpecRequest(
            source_table=table,
            pipeline_type=PipelineType.TRIGGERED,
            embedding_source_columns=[
                EmbeddingSourceColumn(embedder, model_endpoint_name_for_query=embedder, name="text"),
            ],
        ),
    )
    assert made.status.ready is False
    index = library.get_index("synced", f"{table}_index")
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    question = {"query_vector": None, "query_text": "a payment in a foreign country"}
    assert found(index, **question) == [[1], [2]]
    assert found(index, **question, query_type="HYBRID", filters={"year >": 2025}) == [[2]]
    assert found(index, query_vector=None, query_text="bananas", query_type="FULL_TEXT") == [[2]]
    vector = index.scan(1)["data"][0]["fields"][-1]
    assert vector["key"] == "__db_text_vector"
    assert len(vector["value"]["list_value"]["values"]) == 384
    sql(f"UPDATE {table} SET text = 'A purchase in another country.' WHERE id = 2")
    sql(f"UPDATE {table} SET year = 1999 WHERE id = 1")
    index.sync()
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    assert found(index, ["id", "year"], **question) == [[2, 2026], [1, 1999]]


def test_a_failing_endpoint_is_named_and_a_later_sync_heals(workspace, sql, library):
    table = "main.synced.heals"
    sql(f"CREATE TABLE {table} (id INT, text STRING) {FEED}")
    sql(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")

    def serve(entity: str):
        return EndpointCoreConfigInput(
            name="mortal", served_entities=[ServedEntityInput(entity_name=entity, entity_version="1")]
        )

    endpoints = workspace.client.serving_endpoints
    endpoints.create_and_wait("mortal", config=serve("system.ai.minilm"))
    index = library.create_delta_sync_index(
        "synced", f"{table}_index", "id", table, "TRIGGERED", None, None, "text", "mortal"
    )
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    endpoints.delete("mortal")
    sql(f"INSERT INTO {table} VALUES (3, 'three')")
    index.sync()
    status = wait_for(index, "ONLINE_PIPELINE_FAILED")
    assert "mortal" in status["message"]
    assert status["failed_status"]["last_processed_commit_version"] == 1
    assert len(index.scan()["data"]) == 2
    with pytest.raises(ClientBadRequest, match=r"mortal.*404"):
        index.similarity_search(columns=["id"], query_text="two", disable_notice=True)
    endpoints.create_and_wait("mortal", config=serve("system.ai.minilm"))
    index.sync()
    assert wait_for(index, "ONLINE_NO_PENDING_UPDATE")["indexed_row_count"] == 3
    assert found(index, query_vector=None, query_text="three")[0] == [3]


def test_a_table_without_feed_needs_a_storage_optimized_endpoint(sql, library):
    table = "main.synced.plain"
    sql(f"CREATE TABLE {table} (id INT, v ARRAY<FLOAT>)")
    sql(f"INSERT INTO {table} VALUES (1, array(1f, 1f)), (2, array(2f, 2f))")
    with pytest.raises(ClientBadRequest, match=r"Change Data Feed.*delta\.enableChangeDataFeed"):
        self_managed(library, table)
    index = self_managed(library, table, endpoint="synced-large")
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    sql(f"DELETE FROM {table} WHERE id = 1")
    sql(f"INSERT INTO {table} VALUES (3, array(3f, 3f))")
    index.sync()
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    assert found(index) == [[2], [3]]
    assert found(index, filters="id > 2") == [[3]]


def test_a_wrong_vector_fails_the_sync_and_names_the_row(sql, library):
    table = "main.synced.wrong"
    sql(f"CREATE TABLE {table} (id INT, v ARRAY<FLOAT>) {FEED}")
    sql(f"INSERT INTO {table} VALUES (1, array(1f, 1f)), (77, array(2f, 2f, 2f))")
    index = self_managed(library, table)
    status = wait_for(index, "OFFLINE_FAILED")
    assert "77" in status["message"]
    assert "3 dimensions, the index has 2" in status["message"]
    assert status["ready"] is False
    with pytest.raises(ClientBadRequest, match="not ready"):
        found(index)
    sql(f"DELETE FROM {table} WHERE id = 77")
    index.sync()
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    assert found(index) == [[1]]


def test_a_dropped_source_and_a_dropped_schema(workspace, sql, library):
    sql("CREATE SCHEMA main.dropped")
    sql(f"CREATE TABLE main.dropped.t (id INT, v ARRAY<FLOAT>) {FEED}")
    sql("INSERT INTO main.dropped.t VALUES (1, array(1f, 1f))")
    index = self_managed(library, "main.dropped.t")
    wait_for(index, "ONLINE_NO_PENDING_UPDATE")
    sql("DROP TABLE main.dropped.t")
    index.sync()
    assert "main.dropped.t" in wait_for(index, "ONLINE_PIPELINE_FAILED")["message"]
    assert found(index) == [[1]]
    workspace.client.schemas.delete("main.dropped", force=True)
    assert not library.index_exists("synced", "main.dropped.t_index")
    assert "main.dropped.t_index" not in [listed["name"] for listed in library.list_indexes("synced")["vector_indexes"]]


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"source_table": "main.synced.nowhere"}, NotFound, "nowhere"),
        ({"embedding_writeback_table": "main.synced.w"}, NotImplemented, "embedding_writeback_table"),
        ({"columns_to_sync": ["colour"]}, BadRequest, "colour"),
        ({"embedding_vector_columns": [EmbeddingVectorColumn(2, "kind")]}, BadRequest, "kind"),
        ({"embedding_vector_columns": [EmbeddingVectorColumn(2, "none")]}, BadRequest, "none"),
        ({"embedding_vector_columns": None}, BadRequest, "embedding_source_columns"),
        ({"pipeline_type": None}, BadRequest, "pipeline_type"),
        (
            {
                "embedding_vector_columns": None,
                "embedding_source_columns": [EmbeddingSourceColumn("nobody", name="kind")],
            },
            NotFound,
            "nobody",
        ),
    ],
)
def test_a_wrong_specification_is_refused_by_name(workspace, sql, library, changes, error, named):
    sql(f"CREATE TABLE IF NOT EXISTS main.synced.spec (id INT, v ARRAY<FLOAT>, kind STRING) {FEED}")
    spec = {
        "source_table": "main.synced.spec",
        "pipeline_type": PipelineType.TRIGGERED,
        "embedding_vector_columns": [EmbeddingVectorColumn(2, "v")],
    }
    indexes = workspace.client.vector_search_indexes
    with pytest.raises(error, match=named):
        indexes.create_index(
            "main.synced.refused",
            "synced",
            "id",
            VectorIndexType.DELTA_SYNC,
            delta_sync_index_spec=DeltaSyncVectorIndexSpecRequest(**spec | changes),
        )
    with pytest.raises(NotFound):
        indexes.get_index("main.synced.refused")


def test_endpoints_of_both_types_are_listed(workspace, library):
    listed = {endpoint.name: endpoint for endpoint in workspace.client.vector_search_endpoints.list_endpoints()}
    assert listed["synced"].endpoint_type is EndpointType.STANDARD
    assert listed["synced-large"].endpoint_type is EndpointType.STORAGE_OPTIMIZED

"""ai_query and vector_search against the workspace's own endpoints and indexes."""

import json

import pytest
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from databricks.sdk.service.vectorsearch import (
    DirectAccessVectorIndexSpec,
    EmbeddingVectorColumn,
    EndpointType,
    VectorIndexType,
)

from local_workspace.tests.test_sql import execute, failure, rows


@pytest.fixture(scope="module")
def embeddings(workspace) -> str:
    entity = ServedEntityInput(entity_name="system.ai.all_minilm_l6_v2", entity_version="1")
    config = EndpointCoreConfigInput(name="sql-embeddings", served_entities=[entity])
    workspace.client.serving_endpoints.create_and_wait("sql-embeddings", config=config)
    return "sql-embeddings"


def test_ai_query_embeds_rows_in_batches(workspace, embeddings):
    query = f"""WITH texts AS (SELECT id, IF(id = 7, NULL, concat('text ', id % 2)) AS text FROM range(100)),
        found AS (SELECT id, ai_query('{embeddings}', text) AS v FROM texts)
        SELECT count(v), min(size(v)), max(size(v)), count(DISTINCT round(v[0], 4)) FROM found"""
    assert rows(workspace, query) == [["99", "384", "384", "2"]]
    answer = execute(
        workspace, f"SELECT ai_query('{embeddings}', :text, returnType => 'ARRAY<DOUBLE>') AS v", {"text": ("x", None)}
    )
    assert answer.manifest.schema.columns[0].type_text == "ARRAY<DOUBLE>"


def test_an_endpoints_error_fails_the_statement_or_stands_in_its_row(workspace, embeddings):
    wrong = f"ai_query('{embeddings}', 'x', modelParameters => named_struct('dimensions', 'many')"
    assert "AI_FUNCTION_HTTP_REQUEST_ERROR" in failure(workspace, f"SELECT {wrong})")
    [[result, message]] = rows(
        workspace, f"SELECT a.result, a.errorMessage FROM (SELECT {wrong}, failOnError => false) AS a)"
    )
    assert result is None
    assert f"The endpoint {embeddings} answered 501" in message


def test_vector_search_is_a_table(workspace):
    w = workspace.client
    w.vector_search_endpoints.create_endpoint_and_wait("sql-vectors", EndpointType.STANDARD)
    spec = DirectAccessVectorIndexSpec(
        embedding_vector_columns=[EmbeddingVectorColumn(name="v", embedding_dimension=3)],
        schema_json='{"id": "int", "text": "string", "v": "array<float>"}',
    )
    name = "main.default.sql_index"
    w.vector_search_indexes.create_index(
        name, "sql-vectors", "id", VectorIndexType.DIRECT_ACCESS, direct_access_index_spec=spec
    )
    vectors = [{"id": i, "text": f"t{i}", "v": [i, 1, 0]} for i in range(4)]
    w.vector_search_indexes.upsert_data_vector_index(name, json.dumps(vectors))
    nearest = f"vector_search(index => '{name}', query_vector => array(3.0f, 1.0f, 0.0f), num_results => 2)"
    found = rows(workspace, f"SELECT s.id, n.id, s.search_score > 0.4 FROM {nearest} s JOIN range(9) n ON s.id = n.id")
    assert sorted(found) == [["2", "2", "true"], ["3", "3", "true"]]
    assert "RESOURCE_DOES_NOT_EXIST" in failure(
        workspace, "SELECT * FROM vector_search(index => 'a.b.c', query_text => 'x')"
    )
    assert "the argument filters" in failure(workspace, "SELECT * FROM vector_search(index => 'a.b.c', filters => 'x')")

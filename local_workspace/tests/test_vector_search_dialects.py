"""The paths below an endpoint's name, as the client library has them, mean the same as the SDK's."""

import json
import time

import pytest

BASE = "/api/2.0/vector-search"
ENDPOINT, INDEX = "dialects", "main.default.dialects"
TABLE, SYNCED = "main.default.dialects_source", "main.default.dialects_synced"
WAREHOUSE = "10ca1000000000a1"


@pytest.fixture(scope="module")
def rows(workspace) -> list[dict]:
    http = workspace.http
    http.post(f"{BASE}/endpoints", json={"name": ENDPOINT, "endpoint_type": "STANDARD"}).raise_for_status()
    schema = json.dumps({"id": "string", "v": "array<float>"})
    spec = {"schema_json": schema, "embedding_vector_columns": [{"name": "v", "embedding_dimension": 2}]}
    index = {"name": INDEX, "primary_key": "id", "index_type": "DIRECT_ACCESS", "direct_access_index_spec": spec}
    http.post(f"{BASE}/endpoints/{ENDPOINT}/indexes", json=index).raise_for_status()
    return [{"id": str(n), "v": [float(n), 1.0]} for n in range(1200)]


@pytest.mark.parametrize("path", [f"{BASE}/indexes/{INDEX}", f"{BASE}/endpoints/{ENDPOINT}/indexes/{INDEX}"])
def test_both_paths_have_every_operation(workspace, rows, path):
    http = workspace.http

    def call(method: str, operation: str, body: dict) -> dict:
        answer = http.request(method, f"{path}/{operation}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert call("POST", "upsert-data", {"inputs_json": json.dumps(rows)})["result"]["success_row_count"] == len(rows)
    for method in ("GET", "POST"):
        body = {"query_vector": [0.0, 1.0], "columns": ["id"], "num_results": len(rows)}
        found = call(method, "query", body)
        assert [row[0] for row in found["result"]["data_array"][:3]] == ["0", "1", "2"]
        following = call(method, "query-next-page", {"page_token": found["next_page_token"], "endpoint_name": ENDPOINT})
        shown = len(found["result"]["data_array"]) + len(following["result"]["data_array"])
        assert shown == len(rows)
        assert len(call(method, "scan", {"num_results": 10})["data"]) == 10
    for method, key in (("DELETE", "3"), ("POST", "4")):
        assert call(method, "delete-data", {"primary_keys": [key]})["result"]["success_row_count"] == 1
    found = call("POST", "query", {"query_vector": [0.0, 1.0], "columns": ["id"], "num_results": 4})
    assert [row[0] for row in found["result"]["data_array"]] == ["0", "1", "2", "5"]


def test_a_sync_is_asked_for_below_the_endpoint(workspace, rows):
    client, http = workspace.client, workspace.http
    for statement in (
        f"CREATE TABLE {TABLE} (id STRING, v ARRAY<FLOAT>) TBLPROPERTIES (delta.enableChangeDataFeed = true)",
        f"INSERT INTO {TABLE} VALUES ('a', array(1.0, 2.0))",
    ):
        client.statement_execution.execute_statement(statement, WAREHOUSE, wait_timeout="50s")
    columns = [{"name": "v", "embedding_dimension": 2}]
    spec = {"source_table": TABLE, "pipeline_type": "TRIGGERED", "embedding_vector_columns": columns}
    index = {"name": SYNCED, "primary_key": "id", "index_type": "DELTA_SYNC", "delta_sync_index_spec": spec}
    http.post(f"{BASE}/endpoints/{ENDPOINT}/indexes", json=index).raise_for_status()
    deadline = time.monotonic() + 60
    while not http.get(f"{BASE}/endpoints/{ENDPOINT}/indexes/{SYNCED}").json()["status"]["ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert http.post(f"{BASE}/endpoints/{ENDPOINT}/indexes/{SYNCED}/sync").status_code == 200
    refused = http.post(f"{BASE}/endpoints/{ENDPOINT}/indexes/{INDEX}/sync")
    assert refused.status_code == 400
    assert "nothing to sync" in refused.json()["message"]

"""Requests that no client of good will sends are the caller's error in every room: 400, and they spoil nothing."""

import json

import pytest

from local_workspace.tests.conftest import Running

HALF = '"\\ud800"'
UNWRITABLE = [HALF, '"\\udc00\\ud83d"', "1e999", "-1e999", "NaN", "-Infinity", "9" * 400 + ".0"]
DEEP = "[" * 50_000
KEPT = {  # operations that keep what they are given, and those that show it again
    "/api/2.2/jobs/create": ("name", "/api/2.2/jobs/list"),
    "/api/2.1/clusters/create": ("cluster_name", "/api/2.1/clusters/list"),
    "/api/2.1/unity-catalog/catalogs": ("name", "/api/2.1/unity-catalog/catalogs"),
    "/api/2.0/preview/scim/v2/ServicePrincipals": ("displayName", "/api/2.0/preview/scim/v2/ServicePrincipals"),
    "/api/2.0/lakeview/dashboards": ("parent_path", "/api/2.0/lakeview/dashboards"),
    "/api/2.0/mlflow/experiments/create": ("name", "/api/2.0/mlflow/experiments/search"),
    "/api/2.0/sql/statements": ("statement", "/api/2.0/sql/history/queries"),
}


def refused(workspace: Running, method: str, path: str, **content) -> str:
    answer = workspace.http.request(method, path, **content)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
    return answer.json()["message"]


@pytest.mark.parametrize("path", KEPT)
def test_json_that_nobody_can_write_again_is_not_kept(workspace: Running, path: str):
    field, shown = KEPT[path]
    for value in UNWRITABLE:
        body = f'{{"{field}": {value}, "more": [{{"deeper": {value}}}]}}'.encode()
        message = refused(workspace, "POST", path, content=body, headers={"Content-Type": "application/json"})
        assert "what JSON cannot say" in message
    refused(workspace, "POST", path, content=DEEP.encode(), headers={"Content-Type": "application/json"})
    assert workspace.http.get(shown).status_code == 200


def test_a_body_in_pieces_or_of_another_type_is_checked_too(workspace: Running):
    halves = [b'{"name": "\\ud8', b'00"}']
    refused(workspace, "POST", "/api/2.2/jobs/create", content=halves, headers={"Content-Type": "application/json"})
    refused(workspace, "POST", "/api/2.2/jobs/create", content=b"".join(halves), headers={"Content-Type": "text/plain"})


def test_what_only_looks_alike_is_taken(workspace: Running):
    name = "\U0001f600 NaN \\ud800 1e999 Infinity"
    body = json.dumps({"name": name, "health": {"rules": [{"value": 1e300}]}, "tasks": []})
    assert "\\ud83d\\ude00" in body
    answer = workspace.http.post("/api/2.2/jobs/create", content=body, headers={"Content-Type": "application/json"})
    job = workspace.http.get("/api/2.2/jobs/get", params=answer.json()).json()
    assert job["settings"]["name"] == name
    assert job["settings"]["health"]["rules"] == [{"value": 1e300}]
    workspace.client.jobs.delete(job["job_id"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.1/unity-catalog/catalogs?max_results=",
        "/api/2.1/unity-catalog/tables?catalog_name=main&schema_name=default&max_results=",
        "/api/2.1/unity-catalog/volumes?catalog_name=main&schema_name=default&max_results=",
    ],
)
def test_numbers_beyond_64_bits_are_bad_requests(workspace: Running, path: str):
    assert "64 bits" in refused(workspace, "GET", path + "9" * 25)


@pytest.mark.parametrize(
    ("operation", "bodies"),
    {
        "runs/log-metric": [b"", b"[]", b"null", b'{"timestamp": []}', b'{"value": {}}', DEEP.encode()],
        "runs/log-batch": [b"", b"[]", b'{"metrics": [5]}', b'{"params": ["x"]}', b'{"tags": [[]]}'],
        "runs/search": [b"", b'"x"', b'{"page_token": "\xc3\xbc", "experiment_ids": ["0"]}'],
        "runs/create": [b'{"start_time": []}'],
        "experiments/search": [b'{"view_type": []}', b'{"max_results": {}}', b'{"max_results": 5, "page_token": "x"}'],
        "logged-models/search": [b'{"experiment_ids": ["0"], "page_token": "x"}'],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_do_not_fit_mlflow_are_bad_requests(workspace: Running, operation: str, bodies: list[bytes]):
    for body in bodies:
        refused(workspace, "POST", f"/api/2.0/mlflow/{operation}", content=body)


def test_experiments_and_tokens_that_cannot_be(workspace: Running):
    answer = workspace.http.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": "9" * 25})
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    for wrong in ([], {}, None, 5):
        refused(workspace, "POST", "/api/2.0/token-management/on-behalf-of/tokens", json={"application_id": wrong})


def test_ten_megabytes_of_escapes_are_read(workspace: Running):
    body = b'{"path": "/Shared/large", "content": "' + b"\\u0041" * 1_800_000 + b'", "format": "SOURCE"}'
    headers = {"Content-Type": "application/json"}
    answer = workspace.http.post("/api/2.0/workspace/import", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert "language" in answer.json()["message"]

"""The token check, OAuth and the 501 of unknown operations."""

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotImplemented, Unauthenticated


def test_the_sdk_knows_who_it_is(workspace):
    assert workspace.client.current_user.me().user_name == "developer@local.workspace"


def test_a_wrong_token_is_refused(workspace):
    with pytest.raises(Unauthenticated, match="Invalid access token"):
        WorkspaceClient(host=workspace.host, token="dapi-wrong").current_user.me()
    assert httpx.get(f"{workspace.host}/api/2.0/preview/scim/v2/Me").status_code == 401


def test_an_unknown_operation_is_501_with_its_name(workspace):
    with pytest.raises(NotImplemented, match=r"GET /api/2\.2/jobs/list"):
        list(workspace.client.jobs.list())


def test_wrong_client_credentials_are_refused(workspace):
    answer = httpx.post(
        f"{workspace.host}/oidc/v1/token",
        data={"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"},
    )
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "invalid_client"

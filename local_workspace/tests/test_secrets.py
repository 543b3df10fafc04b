"""Secrets with the genuine SDK."""

import base64

import pytest
from databricks.sdk.errors import (
    InvalidParameterValue,
    NotImplemented,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.workspace import AclPermission


def test_secrets_are_put_listed_read_and_deleted(workspace):
    secrets = workspace.client.secrets
    secrets.create_scope("agents")
    secrets.put_secret("agents", "text", string_value="größe")
    secrets.put_secret("agents", "text", string_value="größer")
    secrets.put_secret("agents", "bytes", bytes_value=base64.b64encode(b"\0\xff").decode())
    assert base64.b64decode(secrets.get_secret("agents", "text").value).decode() == "größer"
    assert base64.b64decode(secrets.get_secret("agents", "bytes").value) == b"\0\xff"
    assert workspace.client.dbutils.secrets.get("agents", "text") == "größer"
    assert [s.key for s in secrets.list_secrets("agents")] == ["bytes", "text"]
    assert "agents" in [s.name for s in secrets.list_scopes()]
    secrets.delete_secret("agents", "text")
    with pytest.raises(ResourceDoesNotExist, match="text"):
        secrets.get_secret("agents", "text")
    secrets.delete_scope("agents")
    with pytest.raises(ResourceDoesNotExist, match="agents"):
        secrets.list_secrets("agents")
    secrets.create_scope("agents")
    assert list(secrets.list_secrets("agents")) == []


def test_what_is_refused(workspace):
    secrets = workspace.client.secrets
    secrets.create_scope("refusals")
    with pytest.raises(ResourceAlreadyExists):
        secrets.create_scope("refusals")
    for name in ("", "a b", "ä", "x" * 129):
        with pytest.raises(InvalidParameterValue):
            secrets.create_scope(name)
        with pytest.raises(InvalidParameterValue):
            secrets.put_secret("refusals", name, string_value="x")
    with pytest.raises(InvalidParameterValue, match="exactly one"):
        secrets.put_secret("refusals", "key")
    with pytest.raises(InvalidParameterValue, match="base64"):
        secrets.put_secret("refusals", "key", bytes_value="%")
    with pytest.raises(InvalidParameterValue, match="limit"):
        secrets.put_secret("refusals", "key", string_value="x" * (128 * 1024 + 1))
    with pytest.raises(ResourceDoesNotExist):
        secrets.put_secret("nowhere", "key", string_value="x")
    with pytest.raises(ResourceDoesNotExist):
        secrets.delete_secret("refusals", "nothing")
    with pytest.raises(NotImplemented, match="acls/put"):
        secrets.put_acl("refusals", "users", AclPermission.READ)
    for body in (b"", b"[]", b"{", b'{"scope": 5}'):
        assert workspace.http.post("/api/2.0/secrets/scopes/create", content=body).status_code == 400

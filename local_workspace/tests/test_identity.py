"""The token check, OAuth, SCIM, personal access tokens and the 501 of unknown operations."""

import time

import httpx
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    NotImplemented,
    PermissionDenied,
    ResourceConflict,
    Unauthenticated,
)
from databricks.sdk.service.iam import ComplexValue, Patch, PatchOp, PatchSchema

from local_workspace.tests.conftest import start_workspace

OWNER = "developer@local.workspace"


def test_the_sdk_knows_who_it_is(workspace):
    me = workspace.client.current_user.me()
    assert (me.user_name, me.active, me.emails[0].value) == (OWNER, True, OWNER)
    assert {"admins", "users"} == {group.display for group in me.groups}
    assert me.id == next(iter(workspace.client.users.list(filter=f'userName eq "{OWNER}"'))).id


def test_the_host_says_which_workspace_and_account_it_is(workspace):
    config = Config(host=workspace.host, token=workspace.token)
    assert config.account_id
    assert int(config.workspace_id) == workspace.client.get_workspace_id()


def test_a_wrong_token_is_refused(workspace):
    with pytest.raises(Unauthenticated, match="Invalid access token"):
        WorkspaceClient(host=workspace.host, token="dapi-wrong").current_user.me()
    assert httpx.get(f"{workspace.host}/api/2.0/preview/scim/v2/Me").status_code == 401


def test_an_unknown_operation_is_501_with_its_name(workspace):
    with pytest.raises(NotImplemented, match=r"GET /api/2\.0/git-credentials"):
        list(workspace.client.git_credentials.list())


def test_wrong_client_credentials_are_refused(workspace):
    answer = httpx.post(
        f"{workspace.host}/oidc/v1/token",
        data={"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"},
    )
    assert answer.status_code == 401
    assert answer.json()["error_code"] == "invalid_client"


def test_a_user_lives_from_create_to_delete(workspace):
    users = workspace.client.users
    made = users.create(user_name="ada@example.com", display_name="Ada Lovelace")
    assert users.get(made.id).as_dict() == made.as_dict()
    assert (made.name.given_name, made.name.family_name) == ("Ada", "Lovelace")
    with pytest.raises(ResourceConflict, match="already exists"):
        users.create(user_name="ada@example.com")
    found = list(users.list(filter='userName sw "ada" and displayName co love', attributes="userName"))
    assert [(u.user_name, u.display_name) for u in found] == [("ada@example.com", None)]
    assert len(list(users.list(count=1))) == workspace.http.get("/api/2.0/preview/scim/v2/Users").json()["totalResults"]
    users.delete(made.id)
    with pytest.raises(NotFound, match="not found"):
        users.get(made.id)
    with pytest.raises(PermissionDenied):
        users.delete(workspace.client.current_user.me().id)
    for body in (b"", b"[]", b'{"userName": 5}', b'{"userName": ""}'):
        assert workspace.http.post("/api/2.0/preview/scim/v2/Users", content=body).status_code == 400


def test_groups_have_members(workspace):
    w = workspace.client
    user = w.users.create(user_name="grace@example.com", display_name="Grace")
    group = w.groups.create(display_name="analysts", members=[ComplexValue(value=user.id)])
    assert [(m.value, m.display) for m in w.groups.get(group.id).members] == [(user.id, "Grace")]
    assert "analysts" in [g.display for g in w.users.get(user.id).groups]
    schemas = [PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP]
    gone = Patch(op=PatchOp.REMOVE, path=f'members[value eq "{user.id}"]')
    w.groups.patch(group.id, operations=[gone], schemas=schemas)
    assert not w.groups.get(group.id).members
    back = Patch(op=PatchOp.ADD, value={"members": [{"value": user.id}]})
    w.groups.patch(group.id, operations=[back], schemas=schemas)
    w.users.delete(user.id)
    assert not w.groups.get(group.id).members
    with pytest.raises(NotImplemented, match="members only"):
        w.groups.patch(group.id, operations=[Patch(op=PatchOp.REPLACE, path="displayName", value="x")], schemas=schemas)
    with pytest.raises(ResourceConflict):
        w.groups.create(display_name="Analysts")
    w.groups.delete(group.id)
    with pytest.raises(NotFound):
        w.groups.get(group.id)
    with pytest.raises(PermissionDenied):
        w.groups.delete(next(iter(w.groups.list(filter="displayName eq admins"))).id)
    assert list(w.groups.list(filter="displayName eq nobody")) == []
    for wrong in ("nonsense", "displayName gt 5", "displayName eq"):
        with pytest.raises(BadRequest, match="Given filter operator is not supported"):
            list(w.groups.list(filter=wrong))


def test_a_service_principal_signs_in_with_its_secret(workspace):
    w = workspace.client
    made = w.service_principals.create(display_name="nightly")
    secret = w.service_principal_secrets_proxy.create(service_principal_id=made.id).secret
    robot = WorkspaceClient(host=workspace.host, client_id=made.application_id, client_secret=secret)
    assert robot.current_user.me().display_name == "nightly"
    assert made.id in [p.id for p in w.service_principals.list(filter="displayName eq nightly")]
    assert w.service_principals.get(made.id).application_id == made.application_id
    lent = w.token_management.create_obo_token(
        application_id=made.application_id, comment="for CI", lifetime_seconds=99
    )
    assert WorkspaceClient(host=workspace.host, token=lent.token_value).current_user.me().id == made.id
    managed = w.token_management.get(lent.token_info.token_id).token_info
    assert (managed.created_by_username, str(managed.owner_id)) == (OWNER, made.id)
    assert lent.token_info.token_id in [t.token_id for t in w.token_management.list(created_by_username=OWNER)]
    w.token_management.delete(lent.token_info.token_id)
    with pytest.raises(NotFound):
        w.token_management.get(lent.token_info.token_id)
    with pytest.raises(InvalidParameterValue, match="application_id"):
        w.token_management.create_obo_token(application_id="nobody")
    w.service_principals.delete(made.id)
    with pytest.raises(Unauthenticated):
        robot.current_user.me()


def test_a_personal_token_works_until_it_expires_or_is_revoked(tmp_path):
    with start_workspace(tmp_path) as first:
        tokens = first.client.tokens
        kept = tokens.create(comment="kept")
        short = tokens.create(comment="short", lifetime_seconds=1)
        assert (kept.token_info.expiry_time, kept.token_info.comment) == (-1, "kept")
        assert short.token_info.expiry_time - short.token_info.creation_time in (999, 1000, 1001)
        for token in (kept, short):
            assert WorkspaceClient(host=first.host, token=token.token_value).current_user.me().user_name == OWNER
        first.process.kill()
    deadline = short.token_info.expiry_time / 1000
    with start_workspace(tmp_path) as second:
        client = WorkspaceClient(host=second.host, token=kept.token_value)
        time.sleep(max(0.0, deadline - time.time()) + 0.01)
        assert [t.comment for t in client.tokens.list()] == ["kept"]
        with pytest.raises(Unauthenticated):
            WorkspaceClient(host=second.host, token=short.token_value).current_user.me()
        second.client.tokens.delete(kept.token_info.token_id)
        with pytest.raises(Unauthenticated):
            client.current_user.me()
        with pytest.raises(NotFound, match="does not exist"):
            second.client.tokens.delete(kept.token_info.token_id)
        for lifetime in (0, -1, 10**12):
            with pytest.raises(InvalidParameterValue, match="lifetime_seconds"):
                second.client.tokens.create(lifetime_seconds=lifetime)
        with pytest.raises(NotImplemented, match="scopes"):
            second.client.tokens.create(scopes=["sql"])

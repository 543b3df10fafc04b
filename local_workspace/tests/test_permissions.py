"""Permissions of objects with the genuine SDK."""

import io

import pytest
from databricks.sdk.errors import DatabricksError, InvalidParameterValue, NotFound, NotImplemented
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.jobs import JobAccessControlRequest, JobPermissionLevel
from databricks.sdk.service.workspace import ImportFormat

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.test_alerts import alert

OWNER = "developer@local.workspace"


def levels(answer) -> dict[str, list[str]]:
    """Principal → its levels; inherited ones in brackets."""
    return {
        entry.user_name or entry.group_name or entry.service_principal_name: [
            f"({p.permission_level.value})" if p.inherited else p.permission_level.value for p in entry.all_permissions
        ]
        for entry in answer.access_control_list
    }


def may(level: PermissionLevel, **principal: str) -> AccessControlRequest:
    return AccessControlRequest(permission_level=level, **principal)


@pytest.fixture(scope="module")
def cluster(workspace) -> str:
    clusters = workspace.client.clusters
    made = clusters.create(spark_version=clusters.select_spark_version(), num_workers=0, cluster_name="acl")
    yield made.cluster_id
    clusters.permanent_delete(made.cluster_id)


def test_permissions_are_set_updated_and_merged_with_the_owners(workspace, cluster):
    w = workspace.client
    shown = w.permissions.get("clusters", cluster)
    assert (shown.object_id, shown.object_type) == (f"/clusters/{cluster}", "cluster")
    assert levels(shown) == {OWNER: ["CAN_MANAGE"], "admins": ["(CAN_MANAGE)"]}
    given = [
        may(PermissionLevel.CAN_RESTART, group_name="users"),
        may(PermissionLevel.CAN_ATTACH_TO, user_name="a@b.c"),
    ]
    assert levels(w.permissions.set("clusters", cluster, access_control_list=given))["users"] == ["CAN_RESTART"]
    more = [
        may(PermissionLevel.CAN_MANAGE, user_name="a@b.c"),
        may(PermissionLevel.CAN_RESTART, service_principal_name="robot"),
    ]
    w.permissions.update("clusters", cluster, access_control_list=more)
    assert levels(w.clusters.get_permissions(cluster)) == {
        OWNER: ["CAN_MANAGE"],
        "a@b.c": ["CAN_MANAGE"],
        "robot": ["CAN_RESTART"],
        "users": ["CAN_RESTART"],
        "admins": ["(CAN_MANAGE)"],
    }
    assert levels(w.permissions.set("clusters", cluster)) == {OWNER: ["CAN_MANAGE"], "admins": ["(CAN_MANAGE)"]}
    known = w.clusters.get_permission_levels(cluster).permission_levels
    assert [level.permission_level.value for level in known] == ["CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"]
    assert all(level.description for level in known)


def test_what_is_wrong_is_refused(workspace, cluster):
    w = workspace.client
    with pytest.raises(InvalidParameterValue, match="CAN_ATTACH_TO"):
        w.permissions.set("clusters", cluster, access_control_list=[may(PermissionLevel.CAN_READ, user_name="a@b.c")])
    for entry in (may(PermissionLevel.CAN_MANAGE), may(PermissionLevel.CAN_MANAGE, user_name="a", group_name="b")):
        with pytest.raises(InvalidParameterValue, match="exactly one"):
            w.permissions.update("clusters", cluster, access_control_list=[entry])
    with pytest.raises(InvalidParameterValue, match="does not exist"):
        w.permissions.get("clusters", "nothing")
    with pytest.raises(NotFound):
        w.permissions.get("notebooks", "999999")
    with pytest.raises(InvalidParameterValue, match="number"):
        w.permissions.get("directories", "abc")
    for call in (w.permissions.get, w.permissions.get_permission_levels, w.permissions.set):
        with pytest.raises(NotImplemented, match="pipelines"):
            call("pipelines", "1")
    url = f"/api/2.0/permissions/clusters/{cluster}"
    for body in (b"", b"[]", b'{"access_control_list": 5}', b'{"access_control_list": [5]}'):
        assert workspace.http.put(url, content=body).status_code == 400
    assert list(levels(w.permissions.get("clusters", cluster))) == [OWNER, "admins"]


def test_objects_of_the_workspace_tree(workspace):
    tree = workspace.client.workspace
    tree.mkdirs("/Shared/acl")
    tree.upload("/Shared/acl/file", b"1", format=ImportFormat.RAW)
    tree.upload("/Shared/acl/nb.py", b"1")
    for path, kind in (
        ("/Shared/acl", "directories"),
        ("/Shared/acl/file", "files"),
        ("/Shared/acl/nb.py", "notebooks"),
    ):
        object_id = str(tree.get_status(path).object_id)
        given = [may(PermissionLevel.CAN_RUN, group_name="users")]
        workspace.client.permissions.update(kind, object_id, access_control_list=given)
        assert levels(tree.get_permissions(kind, object_id))["users"] == ["CAN_RUN"]
    with pytest.raises(NotFound, match="Notebook"):
        tree.get_permissions("notebooks", str(tree.get_status("/Shared/acl").object_id))


def test_a_job_has_one_owner(workspace):
    w = workspace.client
    job = str(workspace.http.post("/api/2.2/jobs/create", json={"name": "acl"}).json()["job_id"])
    assert levels(w.jobs.get_permissions(job))[OWNER] == ["IS_OWNER"]
    given = [JobAccessControlRequest(permission_level=JobPermissionLevel.IS_OWNER, user_name="new@owner")]
    assert levels(w.jobs.set_permissions(job, access_control_list=given)) == {
        "new@owner": ["IS_OWNER"],
        "admins": ["(CAN_MANAGE)"],
    }
    two = [*given, JobAccessControlRequest(permission_level=JobPermissionLevel.IS_OWNER, user_name="other@owner")]
    group = [JobAccessControlRequest(permission_level=JobPermissionLevel.IS_OWNER, group_name="users")]
    for wrong in (two, group):
        with pytest.raises(InvalidParameterValue, match="one owner"):
            w.jobs.update_permissions(job, access_control_list=wrong)


def test_every_other_type_of_object(workspace):
    w, http = workspace.client, workspace.http
    pool = w.instance_pools.create("acl", "local-1").instance_pool_id
    app = http.post("/api/2.0/apps?no_compute=true", json={"name": "acl-app"}).json()["name"]
    query = http.post("/api/2.0/sql/queries", json={"query": {"display_name": "acl", "query_text": "SELECT 1"}}).json()
    warehouse = next(iter(w.warehouses.list())).id
    board = http.post("/api/2.0/lakeview/dashboards", json={"display_name": "acl"}).json()["dashboard_id"]
    index = http.post("/api/2.0/vector-search/endpoints", json={"name": "acl", "endpoint_type": "STANDARD"}).json()[
        "id"
    ]
    w.registered_models.create(catalog_name="main", schema_name="default", name="acl_model")
    entity = {"entity_name": "system.ai.all_minilm_l6_v2", "scale_to_zero_enabled": True}
    config = {"name": "acl-served", "config": {"served_entities": [entity]}}
    endpoint = http.post("/api/2.0/serving-endpoints", json=config).json()["id"]
    watch = w.alerts_v2.create_alert(alert("SELECT 1 AS errors")).id
    attach = PermissionLevel.CAN_ATTACH_TO
    w.workspace.mkdirs("/Shared/acl-kinds")
    w.workspace.upload("/Shared/acl-kinds/f.txt", io.BytesIO(b"x"), format=ImportFormat.AUTO)
    w.workspace.upload("/Shared/acl-kinds/n.py", io.BytesIO(b"# Databricks notebook source"), format=ImportFormat.AUTO)
    paths = ("/Shared/acl-kinds", "/Shared/acl-kinds/f.txt", "/Shared/acl-kinds/n")
    folder, file, notebook = (str(w.workspace.get_status(path).object_id) for path in paths)
    experiment = w.experiments.create_experiment("/Shared/acl-experiment").experiment_id
    objects = [
        ("instance-pools", pool, PermissionLevel.CAN_ATTACH_TO),
        ("apps", app, PermissionLevel.CAN_USE),
        ("queries", query["id"], PermissionLevel.CAN_RUN),
        ("warehouses", warehouse, PermissionLevel.CAN_MONITOR),
        ("dashboards", board, PermissionLevel.CAN_READ),
        ("vector-search-endpoints", index, PermissionLevel.CAN_USE),
        ("registered-models", "main.default.acl_model", PermissionLevel.CAN_EDIT),
        ("experiments", experiment, PermissionLevel.CAN_READ),
        ("authorization", "tokens", PermissionLevel.CAN_USE),
        ("alerts", watch, PermissionLevel.CAN_RUN),
        ("directories", folder, PermissionLevel.CAN_EDIT),
        ("files", file, PermissionLevel.CAN_READ),
        ("notebooks", notebook, PermissionLevel.CAN_RUN),
        ("authorization", "passwords", PermissionLevel.CAN_USE),
        ("serving-endpoints", endpoint, PermissionLevel.CAN_QUERY),
        ("alertsv2", watch, PermissionLevel.CAN_READ),
        ("clusters", w.clusters.create("15.4.x-scala2.12", autotermination_minutes=10).cluster_id, attach),
        ("jobs", str(w.jobs.create(name="acl-job").job_id), PermissionLevel.CAN_VIEW),
    ]
    for kind, object_id, level in objects:
        offered = w.permissions.get_permission_levels(kind, object_id).permission_levels
        assert level in [known.permission_level for known in offered], kind
        before = w.permissions.get(kind, object_id)
        assert OWNER in levels(before), kind
        w.permissions.set(kind, object_id, access_control_list=[may(level, group_name="writers")])
        given = [may(level, group_name="readers")]
        answer = w.permissions.update(kind, object_id, access_control_list=given)
        assert levels(answer)["readers"] == [level.value], kind
        assert OWNER in levels(answer), kind
    readers = [e for e in w.token_management.get_permissions().access_control_list if e.group_name == "readers"]
    assert [p.permission_level.value for p in readers[0].all_permissions] == ["CAN_USE"]
    for kind in ("serving-endpoints", "alertsv2", "vector-search-endpoints", "authorization"):
        with pytest.raises(DatabricksError) as missing:
            w.permissions.get(kind, "nothing")
        assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST", kind


def test_a_new_app_of_an_old_name_has_nothing_of_the_old_one(workspace):
    w, http = workspace.client, workspace.http
    for _ in range(2):
        http.post("/api/2.0/apps?no_compute=true", json={"name": "acl-again"})
        assert list(levels(w.permissions.get("apps", "acl-again"))) == [OWNER, "admins"]
        w.permissions.set("apps", "acl-again", access_control_list=[may(PermissionLevel.CAN_USE, group_name="users")])
        http.delete("/api/2.0/apps/acl-again")


def test_permissions_survive_kill_9(tmp_path):
    with start_workspace(tmp_path) as first:
        shared = str(first.client.workspace.get_status("/Shared").object_id)
        given = [may(PermissionLevel.CAN_EDIT, group_name="users")]
        first.client.permissions.set("directories", shared, access_control_list=given)
        first.process.kill()
    with start_workspace(tmp_path) as second:
        assert levels(second.client.permissions.get("directories", shared))["users"] == ["CAN_EDIT"]

"""SQL warehouses and data sources, with the genuine SDK."""

import httpx
import pytest
from databricks.sdk.errors import BadRequest, NotFound, NotImplemented, ResourceAlreadyExists
from databricks.sdk.service.sql import (
    Disposition,
    EndpointTagPair,
    EndpointTags,
    Format,
    QueryStatus,
    SetWorkspaceWarehouseConfigRequestSecurityPolicy,
    State,
    StatementState,
)

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.test_sql import SLOW, execute


@pytest.fixture
def made(workspace):
    tags = EndpointTags(custom_tags=[EndpointTagPair("team", "data")])
    settings = {"cluster_size": "Small", "max_num_clusters": 2, "auto_stop_mins": 10, "tags": tags}
    warehouse = workspace.client.warehouses.create_and_wait(name="made by a test", **settings)
    yield warehouse
    if warehouse.id in [other.id for other in workspace.client.warehouses.list()]:
        workspace.client.warehouses.delete(warehouse.id)


def test_a_warehouse_is_made_edited_and_deleted(workspace, made):
    api = workspace.client.warehouses
    assert (made.state, made.cluster_size, made.max_num_clusters) == (State.RUNNING, "Small", 2)
    assert made.tags.custom_tags[0].as_dict() == {"key": "team", "value": "data"}
    assert made.creator_name == workspace.client.current_user.me().user_name
    edited = api.edit_and_wait(made.id, name="edited", cluster_size="Large", max_num_clusters=3)
    assert (edited.name, edited.cluster_size, edited.auto_stop_mins) == ("edited", "Large", 10)
    assert [w.name for w in api.list()] == ["Local Warehouse", "edited"]
    assert [w.name for w in api.list(page_size=1)] == ["Local Warehouse", "edited"]
    api.delete(made.id)
    with pytest.raises(NotFound, match=made.id):
        api.get(made.id)
    with pytest.raises(NotFound):
        api.delete(made.id)


def test_it_stops_and_a_statement_starts_it(workspace, made):
    api = workspace.client.warehouses
    running = execute(workspace, SLOW, wait_timeout="0s", warehouse_id=made.id)
    assert api.get(made.id).num_active_sessions == 1
    stopped = api.stop_and_wait(made.id)
    assert (stopped.state, stopped.num_clusters) == (State.STOPPED, 0)
    statements = workspace.client.statement_execution
    assert statements.get_statement(running.statement_id).status.state is StatementState.CANCELED
    assert execute(workspace, "SELECT 1", warehouse_id=made.id).result.data_array == [["1"]]
    assert api.get(made.id).state is State.RUNNING
    api.stop_and_wait(made.id)
    assert api.start_and_wait(made.id).state is State.RUNNING


def test_data_sources_are_the_warehouses(workspace, made):
    sources = list(workspace.client.data_sources.list())
    assert [source.warehouse_id for source in sources] == [w.id for w in workspace.client.warehouses.list()]
    assert len({source.id for source in sources}) == 2


def test_the_settings_of_all_warehouses(workspace):
    api = workspace.client.warehouses
    assert {pair.warehouse_type.value for pair in api.get_workspace_warehouse_config().enabled_warehouse_types} == {
        "CLASSIC",
        "PRO",
    }
    policy = SetWorkspaceWarehouseConfigRequestSecurityPolicy.DATA_ACCESS_CONTROL
    api.set_workspace_warehouse_config(security_policy=policy)
    assert api.get_workspace_warehouse_config().security_policy.value == "DATA_ACCESS_CONTROL"


def test_impossible_settings_are_refused_by_name(workspace, made):
    create = workspace.client.warehouses.create
    for wrong, field in [
        ({"cluster_size": "Tiny"}, "cluster_size"),
        ({"cluster_size": "Small", "auto_stop_mins": 3}, "auto_stop_mins"),
        ({"cluster_size": "Small", "min_num_clusters": 3, "max_num_clusters": 2}, "min_num_clusters"),
        ({}, "cluster_size"),
    ]:
        with pytest.raises(BadRequest, match=field):
            create(name="wrong", **wrong)
    with pytest.raises(ResourceAlreadyExists):
        create(name="made by a test", cluster_size="Small")
    with pytest.raises(ResourceAlreadyExists):
        workspace.client.warehouses.edit(made.id, name="Local Warehouse")
    path = "/api/2.0/sql/warehouses"
    body = {"name": "x", "cluster_size": "Small"}
    assert "no_such" in workspace.http.post(path, json=body | {"no_such": 1}).json()["message"]
    for wrong in ({"tags": 7}, {"auto_stop_mins": -1}, {"name": ""}, {"channel": {"name": "x"}}):
        assert workspace.http.post(path, json=body | wrong).status_code == 400
    assert workspace.http.post(path, content=b"").status_code == 400
    assert workspace.http.post(path, json=[]).status_code == 400
    assert workspace.http.get(f"{path}/..%2F..%2Fidentity.json").status_code in (404, 501)


def test_thrift_is_refused_by_its_name(workspace, made):
    path = made.odbc_params.path
    answer = workspace.http.post(path, content=b"\x80\x01", headers={"Content-Type": "application/x-thrift"})
    assert (answer.status_code, "databricks-sql-connector" in answer.json()["message"]) == (501, True)
    with pytest.raises(NotImplemented):
        workspace.client.api_client.do("POST", path)


def test_warehouses_queries_and_links_to_results_survive_a_kill(tmp_path):
    with start_workspace(tmp_path) as first:
        made = first.client.warehouses.create_and_wait(name="kept", cluster_size="Small")
        first.client.warehouses.stop(made.id)
        query = first.client.queries.create()
        ran = execute(first, "SELECT 7", disposition=Disposition.EXTERNAL_LINKS, format=Format.CSV)
        first.process.kill()
    with start_workspace(tmp_path) as second:
        assert second.client.warehouses.get(made.id).state is State.STOPPED
        assert second.client.queries.get(query.id).display_name == query.display_name
        assert httpx.get(ran.result.external_links[0].external_link).text == "7\r\n7\r\n"
        [found] = second.client.query_history.list().res
        assert (found.query_id, found.status) == (ran.statement_id, QueryStatus.FINISHED)

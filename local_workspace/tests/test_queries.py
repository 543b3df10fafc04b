"""Saved queries and the query history, with the genuine SDK."""

import time

import pytest
from databricks.sdk.errors import BadRequest, NotFound, ResourceAlreadyExists
from databricks.sdk.service.sql import (
    CreateQueryRequestQuery,
    LifecycleState,
    QueryFilter,
    QueryParameter,
    QueryStatementType,
    QueryStatus,
    QueryTag,
    TextValue,
    TimeRange,
    UpdateQueryRequestQuery,
)

from local_workspace.tests.test_sql import execute, warehouse


@pytest.fixture
def query(workspace):
    wanted = CreateQueryRequestQuery(
        display_name="People",
        query_text="SELECT :name AS name",
        warehouse_id=warehouse(workspace),
        catalog="main",
        schema="default",
        description="who is there",
        tags=["demo"],
        parameters=[QueryParameter(name="name", title="Name", text_value=TextValue("Ada"))],
    )
    made = workspace.client.queries.create(query=wanted)
    yield made
    workspace.client.queries.delete(made.id)


def test_a_query_is_made_and_read(workspace, query):
    me = workspace.client.current_user.me().user_name
    read = workspace.client.queries.get(query.id)
    assert read == query
    assert (read.display_name, read.schema, read.owner_user_name) == ("People", "default", me)
    assert read.parameters[0].text_value.value == "Ada"
    assert read.parent_path == f"/Workspace/Users/{me}"
    assert read.lifecycle_state is LifecycleState.ACTIVE
    assert read.create_time == read.update_time


def test_only_what_the_mask_names_is_updated(workspace, query):
    api = workspace.client.queries
    change = UpdateQueryRequestQuery(display_name="Persons", query_text="SELECT 1", schema="other")
    changed = api.update(query.id, "display_name,description,schema", query=change)
    assert (changed.display_name, changed.description, changed.schema) == ("Persons", None, "other")
    assert changed.query_text == query.query_text
    with pytest.raises(BadRequest, match="create_time"):
        api.update(query.id, "create_time", query=change)
    with pytest.raises(NotFound):
        api.update("no-such", "display_name", query=change)


def test_names_are_unique_in_a_folder(workspace, query):
    api = workspace.client.queries
    again = CreateQueryRequestQuery(display_name="People")
    with pytest.raises(ResourceAlreadyExists):
        api.create(query=again)
    other = api.create(query=again, auto_resolve_display_name=True)
    assert other.display_name == "People (1)"
    with pytest.raises(ResourceAlreadyExists):
        api.update(other.id, "display_name", query=UpdateQueryRequestQuery(display_name="People"))
    assert {query.id, other.id} <= {found.id for found in api.list(page_size=1)}
    api.delete(other.id)
    assert other.id not in {found.id for found in api.list()}
    assert api.get(other.id).lifecycle_state is LifecycleState.TRASHED


def test_impossible_queries_are_refused_by_name(workspace):
    with pytest.raises(NotFound, match="no-such"):
        workspace.client.queries.create(query=CreateQueryRequestQuery(warehouse_id="no-such"))
    path = "/api/2.0/sql/queries"
    for wrong, field in [
        ({"query": {"query_text": 7}}, "query_text"),
        ({"query": {"display_name": ""}}, "display_name"),
        ({"query": {"run_as_mode": "ME"}}, "run_as_mode"),
        ({"query": []}, "query"),
        ({"query": {"no_such": 1}}, "no_such"),
    ]:
        answer = workspace.http.post(path, json=wrong)
        assert (answer.status_code in (400, 501), field in answer.json()["message"]) == (True, True)
    assert workspace.http.post(path, content=b"").status_code == 400
    assert workspace.http.get(path, params={"page_token": "x"}).status_code == 400
    assert workspace.http.get(f"{path}/..%2F..%2Fidentity.json").status_code in (404, 501)


def history(workspace, **options):
    return workspace.client.query_history.list(**options)


def test_the_history_tells_what_ran(workspace):
    text = f"SELECT id, 'history {time.time()}' FROM range(5)"
    ran = execute(workspace, text, query_tags=[QueryTag("team", "data"), QueryTag("team", "other"), QueryTag("alone")])
    failed = execute(workspace, "SELECT nope FROM range(1)")
    by_id = QueryFilter(statement_ids=[ran.statement_id])
    [found] = history(workspace, filter_by=by_id).res
    me = workspace.client.current_user.me()
    assert (found.query_text, found.status, found.rows_produced) == (text, QueryStatus.FINISHED, 5)
    assert (found.statement_type, found.warehouse_id) == (QueryStatementType.SELECT, warehouse(workspace))
    assert (str(found.user_id), found.user_name) == (me.id, me.user_name)
    assert [(tag.key, tag.value) for tag in found.query_tags] == [("team", "other"), ("alone", None)]
    assert found.query_start_time_ms + found.duration <= found.query_end_time_ms + 1
    assert found.metrics is None
    [measured] = history(workspace, filter_by=by_id, include_metrics=True).res
    assert (measured.metrics.rows_produced_count, measured.metrics.total_time_ms) == (5, measured.duration)
    [lost] = history(workspace, filter_by=QueryFilter(statement_ids=[failed.statement_id])).res
    assert (lost.status, "UNRESOLVED_COLUMN" in lost.error_message) == (QueryStatus.FAILED, True)


def test_the_history_is_filtered_and_comes_in_pages(workspace):
    ids = [execute(workspace, f"SELECT {i}").statement_id for i in range(3)]
    me = int(workspace.client.current_user.me().id)
    mine = QueryFilter(
        statement_ids=ids,
        user_ids=[me],
        statuses=[QueryStatus.FINISHED, QueryStatus.RUNNING],
        warehouse_ids=[warehouse(workspace)],
        query_start_time_range=TimeRange(start_time_ms=1, end_time_ms=int(time.time() * 1000) + 1000),
    )
    first = history(workspace, filter_by=mine, max_results=2)
    assert ([found.query_id for found in first.res], first.has_next_page) == ([ids[2], ids[1]], True)
    second = history(workspace, filter_by=mine, max_results=2, page_token=first.next_page_token)
    assert ([found.query_id for found in second.res], second.has_next_page) == ([ids[0]], False)
    for nothing in (
        QueryFilter(statement_ids=ids, user_ids=[1]),
        QueryFilter(statement_ids=ids, statuses=[QueryStatus.COMPILING]),
        QueryFilter(statement_ids=ids, warehouse_ids=["other"]),
        QueryFilter(statement_ids=ids, query_start_time_range=TimeRange(end_time_ms=1)),
    ):
        assert history(workspace, filter_by=nothing).res == []
    path = "/api/2.0/sql/history/queries"
    for wrong in (
        {"page_token": "x"},
        {"max_results": 0},
        {"filter_by.statuses": "DONE"},
        {"filter_by.user_ids": "me"},
        {"filter_by.nope": "1"},
    ):
        assert workspace.http.get(path, params=wrong).status_code == 400

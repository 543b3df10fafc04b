"""Lakeview dashboards by the SDK: drafts, what is published, schedules, and their queries."""

import json
import time

import httpx
import pytest
from databricks.sdk.errors import BadRequest, NotFound, ResourceAlreadyExists, ResourceConflict
from databricks.sdk.service.dashboards import (
    CronSchedule,
    Dashboard,
    LifecycleState,
    Schedule,
    SchedulePauseStatus,
    Subscriber,
    Subscription,
    SubscriptionSubscriberUser,
)

from local_workspace.dashboards.definition import widgets
from local_workspace.pages.chart import series, svg
from local_workspace.tests.conftest import start_workspace


def widget(
    name: str, kind: str, fields: dict[str, str], *, disaggregated: bool = False, dataset: str = "sales"
) -> dict:
    query = {
        "datasetName": dataset,
        "fields": [{"name": alias, "expression": expression} for alias, expression in fields.items()],
        "disaggregated": disaggregated,
    }
    spec = {"version": 3, "widgetType": kind, "encodings": {}, "frame": {"title": name, "showTitle": True}}
    return {"widget": {"name": name, "queries": [{"name": "main_query", "query": query}], "spec": spec}}


DEFINITION = {
    "datasets": [{"name": "sales", "queryLines": ["SELECT id % 3 AS kind, id * 1.0 AS amount ", "FROM range(9)"]}],
    "pages": [
        {
            "name": "p1",
            "displayName": "Sales",
            "layout": [
                widget("total", "counter", {"sum(amount)": "SUM(`amount`)"}),
                widget("by kind", "bar", {"kind": "`kind`", "sum(amount)": "SUM(`amount`)"}),
                widget("rows", "table", {"amount": "`amount`"}, disaggregated=True),
                {"widget": {"name": "note", "multilineTextboxSpec": {"lines": ["# Sales"]}}},
            ],
        }
    ],
}


@pytest.fixture
def dashboard(workspace):
    body = Dashboard(display_name="Sales", serialized_dashboard=json.dumps(DEFINITION), warehouse_id="10ca1000000000a1")
    return workspace.client.lakeview.create(body)


def test_a_draft_is_published_reverted_and_trashed(workspace, dashboard):
    lakeview = workspace.client.lakeview
    assert dashboard.path.endswith("/Sales.lvdash.json")
    with pytest.raises(NotFound):
        lakeview.get_published(dashboard.dashboard_id)
    assert lakeview.publish(dashboard.dashboard_id, embed_credentials=False).embed_credentials is False
    changed = Dashboard(serialized_dashboard='{"pages": []}', etag=dashboard.etag)
    updated = lakeview.update(dashboard.dashboard_id, changed)
    assert updated.etag != dashboard.etag
    with pytest.raises(ResourceConflict):
        lakeview.update(dashboard.dashboard_id, changed)
    assert lakeview.get_published(dashboard.dashboard_id).warehouse_id == "10ca1000000000a1"
    lakeview.revert(dashboard.dashboard_id)
    assert json.loads(lakeview.get(dashboard.dashboard_id).serialized_dashboard) == DEFINITION
    lakeview.unpublish(dashboard.dashboard_id)
    lakeview.trash(dashboard.dashboard_id)
    assert lakeview.get(dashboard.dashboard_id).lifecycle_state == LifecycleState.TRASHED
    assert dashboard.dashboard_id not in [found.dashboard_id for found in lakeview.list()]
    assert dashboard.dashboard_id in [found.dashboard_id for found in lakeview.list(show_trashed=True)]


def test_a_schedule_runs_the_published_queries(workspace, dashboard):
    lakeview = workspace.client.lakeview
    lakeview.publish(dashboard.dashboard_id)
    every = Schedule(CronSchedule("* * * * * ?", "UTC"), pause_status=SchedulePauseStatus.PAUSED)
    schedule = lakeview.create_schedule(dashboard.dashboard_id, every)
    reader = Subscription(Subscriber(user_subscriber=SubscriptionSubscriberUser(user_id=7)))
    kept = lakeview.create_subscription(dashboard.dashboard_id, schedule.schedule_id, reader)
    found = lakeview.get_subscription(dashboard.dashboard_id, schedule.schedule_id, kept.subscription_id)
    assert found.subscriber.user_subscriber.user_id == 7
    assert [s.subscription_id for s in lakeview.list_subscriptions(dashboard.dashboard_id, schedule.schedule_id)] == [
        kept.subscription_id
    ]
    awake = Schedule(CronSchedule("* * * * * ?", "UTC"), etag=schedule.etag)
    lakeview.update_schedule(dashboard.dashboard_id, schedule.schedule_id, awake)
    assert lakeview.get_schedule(dashboard.dashboard_id, schedule.schedule_id).etag != schedule.etag
    assert len(list(lakeview.list_schedules(dashboard.dashboard_id))) == 1
    deadline = time.monotonic() + 60
    while not any("SUM(`amount`)" in (q.query_text or "") for q in workspace.client.query_history.list().res or []):
        assert time.monotonic() < deadline, "the schedule has run no query"
        time.sleep(0.2)
    lakeview.delete_subscription(dashboard.dashboard_id, schedule.schedule_id, kept.subscription_id)
    lakeview.delete_schedule(dashboard.dashboard_id, schedule.schedule_id)
    assert list(lakeview.list_schedules(dashboard.dashboard_id)) == []


def test_widgets_group_their_datasets():
    total, by_kind, rows, note = widgets(DEFINITION)
    assert "GROUP BY" not in total.sql
    assert by_kind.sql.endswith("GROUP BY `kind`")
    assert rows.sql == "SELECT `amount` AS `amount` FROM (SELECT id % 3 AS kind, id * 1.0 AS amount FROM range(9))"
    assert (note.kind, note.text, note.sql) == ("text", "# Sales", "")


def test_dashboards_survive_a_kill(tmp_path):
    with start_workspace(tmp_path) as running:
        kept = running.client.lakeview.create(Dashboard(display_name="Kept"))
        running.client.lakeview.publish(kept.dashboard_id)
        running.process.kill()
    with start_workspace(tmp_path) as running:
        assert running.client.lakeview.get_published(kept.dashboard_id).display_name == "Kept"


@pytest.mark.parametrize("serialized", ["not json", "[]", '{"pages": 7}'])
def test_a_definition_that_cannot_be_is_refused(workspace, serialized):
    with pytest.raises(BadRequest, match="serialized_dashboard"):
        workspace.client.lakeview.create(Dashboard(display_name="x", serialized_dashboard=serialized))


def test_a_name_is_needed(workspace):
    with pytest.raises(BadRequest, match="display_name"):
        workspace.client.lakeview.create(Dashboard(serialized_dashboard="{}"))


def test_a_body_that_is_too_long_is_refused(workspace):
    body = {"display_name": "x", "serialized_dashboard": "x" * (10 * 2**20)}
    answer: httpx.Response = workspace.http.post("/api/2.0/lakeview/dashboards", json=body)
    assert answer.status_code == 400


def test_two_dashboards_cannot_have_one_place(workspace):
    lakeview = workspace.client.lakeview
    first = lakeview.create(Dashboard(display_name="Only", parent_path="/Shared"))
    other = lakeview.create(Dashboard(display_name="Other", parent_path="/Shared"))
    with pytest.raises(ResourceAlreadyExists, match="'Only' already"):
        lakeview.create(Dashboard(display_name="Only", parent_path="/Shared"))
    with pytest.raises(ResourceAlreadyExists, match="'Only' already"):
        lakeview.update(other.dashboard_id, Dashboard(display_name="Only"))
    lakeview.trash(first.dashboard_id)
    assert lakeview.update(other.dashboard_id, Dashboard(display_name="Only")).path == first.path
    lakeview.trash(other.dashboard_id)


def test_charts_are_drawn_in_the_order_of_their_first_column():
    data = series([["10", "1"], ["9", "-2"], ["<b>", None]], 0, 1)
    assert (data.labels, data.values) == (["9", "10", "<b>"], [-2.0, 1.0, 0.0])
    drawn = svg("bar", data)
    assert drawn.count("<rect") == 3
    assert "&lt;b&gt;" in drawn
    assert "<polyline" in svg("line", data)
    assert series([["a", "b"]], 0, 1) is None

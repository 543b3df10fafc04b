"""Alerts by the SDK: evaluated on schedule against real results, errors that name the field."""

import time

import pytest
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.sql import (
    Aggregation,
    AlertEvaluationState,
    AlertLifecycleState,
    AlertV2,
    AlertV2Evaluation,
    AlertV2Notification,
    AlertV2Operand,
    AlertV2OperandColumn,
    AlertV2OperandValue,
    AlertV2Subscription,
    ComparisonOperator,
    CronSchedule,
    SchedulePauseStatus,
)

from local_workspace.alerts.condition import outcome
from local_workspace.alerts.wire import Evaluation
from local_workspace.sql.ask import Answer
from local_workspace.tests.conftest import start_workspace

EVERY_SECOND = CronSchedule("* * * * * ?", "Europe/Berlin", SchedulePauseStatus.UNPAUSED)
PAUSED = CronSchedule("0 0 8 * * ?", "Europe/Berlin", SchedulePauseStatus.PAUSED)


def alert(query: str, schedule: CronSchedule = PAUSED, **changes) -> AlertV2:
    above = {"source": AlertV2OperandColumn("errors"), "comparison_operator": ComparisonOperator.GREATER_THAN}
    threshold = AlertV2Operand(value=AlertV2OperandValue(double_value=5))
    evaluation = AlertV2Evaluation(**above | {"threshold": threshold} | changes)
    return AlertV2("too many errors", query, "10ca1000000000a1", evaluation, schedule)


def wait_for(client, alert_id: str, state: AlertEvaluationState) -> AlertV2:
    deadline = time.monotonic() + 60
    while (found := client.alerts_v2.get_alert(alert_id)).evaluation.state != state:
        assert time.monotonic() < deadline, found.evaluation
        time.sleep(0.1)
    return found


def test_an_alert_follows_its_query(workspace):
    client = workspace.client
    told = AlertV2Notification(subscriptions=[AlertV2Subscription(user_email="a@b.c")], notify_on_ok=True)
    created = client.alerts_v2.create_alert(alert("SELECT 7 AS errors", EVERY_SECOND, notification=told))
    assert created.evaluation.state == AlertEvaluationState.UNKNOWN
    assert created.lifecycle_state == AlertLifecycleState.ACTIVE
    assert created.owner_user_name == client.current_user.me().user_name
    assert wait_for(client, created.id, AlertEvaluationState.TRIGGERED).evaluation.last_evaluated_at
    calm = client.alerts_v2.update_alert(created.id, alert("SELECT 2 AS errors"), "query_text")
    assert calm.query_text == "SELECT 2 AS errors"
    assert calm.schedule.pause_status == SchedulePauseStatus.UNPAUSED
    wait_for(client, created.id, AlertEvaluationState.OK)
    broken = alert("SELECT nothing FROM nowhere")
    client.alerts_v2.update_alert(created.id, broken, "query_text")
    wait_for(client, created.id, AlertEvaluationState.ERROR)
    client.alerts_v2.trash_alert(created.id)
    assert created.id not in [found.id for found in client.alerts_v2.list_alerts()]
    assert client.alerts_v2.get_alert(created.id).lifecycle_state == AlertLifecycleState.DELETED
    client.alerts_v2.trash_alert(created.id, purge=True)
    with pytest.raises(NotFound):
        client.alerts_v2.get_alert(created.id)


def test_alerts_are_listed_in_pages_and_survive_a_kill(tmp_path):
    with start_workspace(tmp_path) as running:
        ids = [running.client.alerts_v2.create_alert(alert("SELECT 1 AS errors")).id for _ in range(3)]
        running.process.kill()
    with start_workspace(tmp_path) as running:
        assert [found.id for found in running.client.alerts_v2.list_alerts(page_size=2)] == ids


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"display_name": ""}, "display_name"),
        ({"schedule": {"quartz_cron_schedule": "every day", "timezone_id": "UTC"}}, "quartz_cron"),
        ({"schedule": {"quartz_cron_schedule": "0 0 8 * * ?", "timezone_id": "Mars"}}, "timezone_id"),
        ({"evaluation": {"source": {"name": "x"}, "comparison_operator": "EQUAL"}}, "threshold is needed"),
        ({"evaluation": {"source": {"name": "x"}, "comparison_operator": "ABOUT"}}, "comparison_operator"),
        ({"query_text": 7}, "query_text"),
    ],
)
def test_a_wrong_field_is_named(workspace, changes, named):
    answer = workspace.http.post("/api/2.0/alerts", json=alert("SELECT 1 AS errors").as_dict() | changes)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_an_update_names_only_fields_that_are_there(workspace):
    created = workspace.client.alerts_v2.create_alert(alert("SELECT 1 AS errors"))
    with pytest.raises(BadRequest, match="colour"):
        workspace.client.alerts_v2.update_alert(created.id, alert("SELECT 1 AS errors"), "colour")


ROWS = Answer(["kind", "amount", "none"], ["STRING", "DOUBLE", "INT"], [["a", "1.5", None], ["b", "4.5", None]], False)


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [(None, "1.5"), ("SUM", 6.0), ("AVG", 3.0), ("MEDIAN", 3.0), ("MIN", 1.5), ("MAX", 4.5), ("COUNT", 2)],
)
def test_columns_are_aggregated(aggregation, value):
    source = {"name": "Amount", "aggregation": aggregation}
    condition = {"source": source, "comparison_operator": "IS_NOT_NULL"}
    assert outcome(Evaluation(**condition), ROWS) == ("TRIGGERED", value)


@pytest.mark.parametrize(
    ("source", "operator", "threshold", "state"),
    [
        ("amount", "LESS_THAN", {"value": {"double_value": 2}}, "TRIGGERED"),
        ("amount", "GREATER_THAN_OR_EQUAL", {"value": {"double_value": 2}}, "OK"),
        ("kind", "EQUAL", {"value": {"string_value": "a"}}, "TRIGGERED"),
        ("kind", "NOT_EQUAL", {"value": {"string_value": "a"}}, "OK"),
        ("amount", "LESS_THAN", {"column": {"name": "amount", "aggregation": "MAX"}}, "TRIGGERED"),
        ("none", "IS_NULL", None, "TRIGGERED"),
        ("none", "GREATER_THAN", {"value": {"double_value": 0}}, "OK"),
    ],
)
def test_conditions(source, operator, threshold, state):
    condition = {"source": {"name": source}, "comparison_operator": operator, "threshold": threshold}
    assert outcome(Evaluation(**condition), ROWS)[0] == state


def test_no_rows_put_it_in_the_state_that_was_asked_for():
    condition = {"source": {"name": "x"}, "comparison_operator": "IS_NULL", "empty_result_state": "TRIGGERED"}
    assert outcome(Evaluation(**condition), Answer(["x"], ["INT"], [], False)) == ("TRIGGERED", None)


def test_more_aggregations():
    for name, value in ((Aggregation.STDDEV, 2.1213), (Aggregation.COUNT_DISTINCT, 2)):
        source = {"name": "amount", "aggregation": name.value}
        found = outcome(Evaluation(source=source, comparison_operator="IS_NOT_NULL"), ROWS)[1]
        assert found == pytest.approx(value, abs=1e-4)

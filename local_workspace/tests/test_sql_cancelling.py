"""Statements that nobody wants any more."""

import time

import pytest
from databricks.sdk.errors import NotFound
from databricks.sdk.service.sql import ExecuteStatementRequestOnWaitTimeout, StatementState

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.test_sql import SLOW, execute, lake_process


def test_a_statement_can_be_polled_and_cancelled(workspace):
    api = workspace.client.statement_execution
    running = execute(workspace, SLOW, wait_timeout="0s")
    assert running.status.state in (StatementState.PENDING, StatementState.RUNNING)
    api.cancel_execution(running.statement_id)
    assert api.get_statement(running.statement_id).status.state is StatementState.CANCELED
    given_up = execute(workspace, SLOW, wait_timeout="5s", on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CANCEL)
    assert given_up.status.state is StatementState.CANCELED
    later = execute(workspace, "SELECT 1", wait_timeout="0s")
    while (polled := api.get_statement(later.statement_id)).status.state is not StatementState.SUCCEEDED:
        time.sleep(0.02)
    assert polled.result.data_array == [["1"]]
    with pytest.raises(NotFound):
        api.get_statement("01ef-nope")


def test_statements_cancelled_at_their_beginning_keep_no_processor_busy(tmp_path):
    with start_workspace(tmp_path) as running:  # its own: other tests have work for the engine of the shared one
        api = running.client.statement_execution
        for number in range(10):
            slow = execute(running, SLOW, wait_timeout="0s")
            time.sleep(0.003 * number)
            api.cancel_execution(slow.statement_id)
        assert execute(running, "SELECT 1").result.data_array == [["1"]]
        engine = lake_process(running)
        until = time.monotonic() + 30
        while engine.cpu_percent(1.0) > 25:
            assert time.monotonic() < until, "the engine still works on what nobody wants"

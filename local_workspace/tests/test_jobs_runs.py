"""Runs of jobs: the graph, parameters and values, retries, timeouts, cancelling, queueing, repairs."""

import time

import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.jobs import JobParameterDefinition, QueueSettings, RunType, Task

from local_workspace.tests.conftest import Running
from local_workspace.tests.jobs_client import FINISHED, finished, output, results, submit, task, until

EXIT = "dbutils.notebook.exit('done')"


def create(workspace: Running, *tasks: dict, **settings) -> int:
    made = [Task.from_dict(item) for item in tasks]
    return workspace.client.jobs.create(name="job", tasks=made, **settings).job_id


def condition(key: str, op: str, left: str, right: str, **settings) -> dict:
    return {"task_key": key, "condition_task": {"op": op, "left": left, "right": right}} | settings


def test_values_pass_between_the_notebooks_of_a_graph(workspace: Running):
    client = workspace.client
    job_id = create(
        workspace,
        task(client, "first", "dbutils.jobs.taskValues.set('rows', {'n': 41})"),
        task(
            client,
            "second",
            "n = dbutils.jobs.taskValues.get(taskKey='first', key='rows')['n']",
            "dbutils.notebook.exit(f\"{n + 1} {dbutils.widgets.get('day')} {dbutils.widgets.get('seen')}\")",
            after="first",
        ),
        condition("enough", "GREATER_THAN", "{{tasks.first.values.rows.n}}", "40", depends_on=[{"task_key": "first"}]),
        task(client, "yes", EXIT, depends_on=[{"task_key": "enough", "outcome": "true"}]),
        task(client, "no", EXIT, depends_on=[{"task_key": "enough", "outcome": "false"}]),
        parameters=[JobParameterDefinition(name="day", default="{{job.start_time.iso_date}}")],
    )
    settings = client.jobs.get(job_id).settings
    settings.tasks[1].notebook_task.base_parameters = {"seen": "{{job.parameters.day}}/{{job.id}}", "day": "unused"}
    client.jobs.reset(job_id, settings)
    run = finished(client, client.jobs.run_now(job_id, job_parameters={"day": "Monday"}).run_id)
    assert run.state.result_state.value == "SUCCESS"
    assert results(run) == dict.fromkeys(("first", "second", "enough", "yes"), "SUCCESS") | {"no": "EXCLUDED"}
    tasks = {item.task_key: item for item in run.tasks}
    assert output(client, tasks["second"]) == f"42 Monday Monday/{job_id}"
    assert tasks["enough"].condition_task.outcome == "true"
    assert run.job_parameters[0].value == "Monday"
    assert run.run_page_url.endswith(f"/ui/runs/{run.run_id}")
    assert tasks["first"].start_time <= tasks["first"].end_time <= tasks["second"].start_time
    assert run.run_duration >= tasks["first"].execution_duration > 0
    assert run.status.termination_details.code.value == "SUCCESS"


def test_run_if_decides_after_a_failure(workspace: Running):
    client = workspace.client
    rules = ("ALL_SUCCESS", "ALL_DONE", "NONE_FAILED", "AT_LEAST_ONE_SUCCESS", "ALL_FAILED", "AT_LEAST_ONE_FAILED")
    both = [{"task_key": "good"}, {"task_key": "bad"}]
    job_id = create(
        workspace,
        condition("good", "EQUAL_TO", "1", "1"),
        condition("bad", "LESS_THAN", "no number", "1"),
        *(condition(rule, "EQUAL_TO", "1", "1", depends_on=both, run_if=rule) for rule in rules),
    )
    run = finished(client, client.jobs.run_now(job_id).run_id)
    found = results(run)
    assert {rule: found[rule] for rule in rules} == {
        "ALL_SUCCESS": "UPSTREAM_FAILED",
        "ALL_DONE": "SUCCESS",
        "NONE_FAILED": "UPSTREAM_FAILED",
        "AT_LEAST_ONE_SUCCESS": "SUCCESS",
        "ALL_FAILED": "EXCLUDED",
        "AT_LEAST_ONE_FAILED": "SUCCESS",
    }
    assert run.state.result_state.value == "FAILED"
    assert "Task bad failed" in run.state.state_message
    partial = create(
        workspace,
        condition("bad", "LESS_THAN", "no number", "1"),
        condition("last", "EQUAL_TO", "1", "1", depends_on=[{"task_key": "bad"}], run_if="ALL_DONE"),
    )
    assert finished(client, client.jobs.run_now(partial).run_id).state.result_state.value == "SUCCESS_WITH_FAILURES"


def test_a_failure_is_shown_with_its_trace_and_tried_again(workspace: Running, tmp_path):
    client, counter = workspace.client, tmp_path / "count"
    cells = (
        f"from pathlib import Path\nfile = Path({str(counter)!r})",
        "count = int(file.read_text()) + 1 if file.exists() else 1\nfile.write_text(str(count))",
        "print('attempt', count)\nif count < 3: raise ValueError(f'only {count}')",
        "dbutils.notebook.exit(str(count))",
    )
    job_id = create(workspace, task(client, "flaky", *cells, max_retries=2, min_retry_interval_millis=10))
    run = finished(client, client.jobs.run_now(job_id).run_id)
    assert run.state.result_state.value == "SUCCESS"
    assert [(item.attempt_number, item.state.result_state.value) for item in run.tasks] == [
        (0, "FAILED"),
        (1, "FAILED"),
        (2, "SUCCESS"),
    ]
    failed = client.jobs.get_run_output(run.tasks[0].run_id)
    assert failed.error == "ValueError: only 1"
    assert "raise ValueError(f'only {count}')" in failed.error_trace
    assert run.tasks[0].state.state_message == "Workload failed, see run output for details"
    assert run.tasks[0].status.termination_details.code.value == "RUN_EXECUTION_ERROR"
    assert output(client, run.tasks[2]) == "3"


def test_tasks_and_runs_that_take_too_long_are_ended(workspace: Running):
    client = workspace.client
    sleep = "import time\ntime.sleep(60)"
    job_id = create(workspace, task(client, "slow", sleep, timeout_seconds=1, max_retries=3))
    run = finished(client, client.jobs.run_now(job_id).run_id)
    assert results(run) == {"slow": "TIMEDOUT"}
    assert run.state.result_state.value == "TIMEDOUT"
    assert len(run.tasks) == 1  # retry_on_timeout was not asked for
    job_id = create(workspace, task(client, "slow", sleep), task(client, "next", EXIT, after="slow"), timeout_seconds=1)
    run = finished(client, client.jobs.run_now(job_id).run_id)
    assert (run.state.life_cycle_state.value, run.state.result_state.value) == ("TERMINATED", "TIMEDOUT")
    assert run.state.user_cancelled_or_timedout


def test_cancelling_ends_everything_a_task_has_started(workspace: Running, tmp_path):
    client, alive = workspace.client, tmp_path / "alive"
    ticking = f"while true; do date +%s.%N > {alive}; sleep 0.05; done"
    job_id = create(workspace, task(client, "busy", f"import subprocess\nsubprocess.run(['sh', '-c', {ticking!r}])"))
    run_id = client.jobs.run_now(job_id).run_id
    while not alive.exists():
        time.sleep(0.05)
    assert client.jobs.get_run(run_id).status.state.value == "RUNNING"
    run = client.jobs.cancel_run(run_id).result()
    assert (run.state.life_cycle_state.value, run.state.result_state.value) == ("TERMINATED", "CANCELED")
    assert run.state.user_cancelled_or_timedout
    assert results(run) == {"busy": "CANCELED"}
    last = alive.read_text()
    time.sleep(0.3)
    assert alive.read_text() == last
    exported = client.jobs.export_run(run.tasks[0].run_id).views[0]
    assert "subprocess" in exported.content  # the record of what it did is kept
    client.jobs.delete_run(run_id)
    with pytest.raises(BadRequest):
        workspace.client.jobs.cancel_run(run_id)


def test_one_run_at_a_time_the_others_wait_or_are_skipped(workspace: Running):
    client = workspace.client
    job_id = create(workspace, task(client, "slow", "import time\ntime.sleep(60)"))
    running = client.jobs.run_now(job_id).run_id
    skipped = client.jobs.get_run(client.jobs.run_now(job_id).run_id)
    assert skipped.state.life_cycle_state.value == "SKIPPED"
    assert skipped.state.result_state.value == "MAXIMUM_CONCURRENT_RUNS_REACHED"
    queued = [client.jobs.run_now(job_id, queue=QueueSettings(True)).run_id for _ in range(2)]
    states = [client.jobs.get_run(run_id).status for run_id in queued]
    assert [(s.state.value, s.queue_details.code.value) for s in states] == [
        ("QUEUED", "MAX_CONCURRENT_RUNS_REACHED")
    ] * 2
    assert {run.run_id for run in client.jobs.list_runs(job_id=job_id, active_only=True)} == {running, *queued}
    client.jobs.cancel_run(queued[1])
    client.jobs.cancel_run(running)
    assert until(client, queued[0], ("RUNNING",)).status.state.value == "RUNNING"
    client.jobs.cancel_all_runs(job_id=job_id)
    assert finished(client, queued[0]).state.result_state.value == "CANCELED"
    completed = list(client.jobs.list_runs(job_id=job_id, completed_only=True, expand_tasks=True, limit=2))
    assert [run.run_id for run in completed] == [queued[1], queued[0], skipped.run_id, running]
    assert completed[0].tasks[0].task_key == "slow"


def test_a_token_makes_a_second_submission_the_same_run(workspace: Running):
    client = workspace.client
    job_id = create(workspace, condition("a", "EQUAL_TO", "1", "1"), condition("b", "EQUAL_TO", "1", "1"))
    first = client.jobs.run_now(job_id, idempotency_token="once", only=["b"])
    second = client.jobs.run_now(job_id, idempotency_token="once")
    assert first.run_id == second.run_id
    run = finished(client, first.run_id)
    assert results(run) == {"b": "SUCCESS"}
    assert run.run_type == RunType.JOB_RUN
    since = run.start_time
    assert [item.run_id for item in client.jobs.list_runs(job_id=job_id, start_time_from=since)] == [run.run_id]
    assert list(client.jobs.list_runs(job_id=job_id, start_time_to=since - 1)) == []


def test_a_repair_runs_what_failed_and_what_waited_for_it(workspace: Running, tmp_path):
    client, flag = workspace.client, tmp_path / "flag"
    job_id = create(
        workspace,
        condition("fine", "EQUAL_TO", "1", "1"),
        task(client, "broken", f"open({str(flag)!r}).read()", after="fine"),
        task(client, "after", EXIT, after="broken"),
    )
    run_id = client.jobs.run_now(job_id).run_id
    assert results(finished(client, run_id)) == {"fine": "SUCCESS", "broken": "FAILED", "after": "UPSTREAM_FAILED"}
    flag.touch()
    repair_id = client.jobs.repair_run(run_id, rerun_all_failed_tasks=True).response.repair_id
    assert finished(client, run_id).state.result_state.value == "SUCCESS"
    run = client.jobs.get_run(run_id, include_history=True)
    assert results(run) == dict.fromkeys(("fine", "broken", "after"), "SUCCESS")
    assert [(item.task_key, item.attempt_number) for item in run.tasks[3:]] == [("broken", 1), ("after", 1)]
    original, repair = run.repair_history
    assert (original.type.value, original.state.result_state.value) == ("ORIGINAL", "FAILED")
    assert (repair.id, repair.state.result_state.value) == (repair_id, "SUCCESS")
    assert repair.task_run_ids == [item.run_id for item in run.tasks[3:]]
    with pytest.raises(BadRequest, match="latest_repair_id"):
        client.jobs.repair_run(run_id, rerun_tasks=["after"])
    client.jobs.repair_run(run_id, rerun_tasks=["fine"], rerun_dependent_tasks=True, latest_repair_id=repair_id)
    assert len(finished(client, run_id).tasks) == 8


def test_a_run_that_is_not_of_a_job_is_kept_like_others(workspace: Running):
    client = workspace.client
    run = submit(client, "dbutils.notebook.exit(dbutils.widgets.get('p'))", p="ü")
    assert run.run_type == RunType.SUBMIT_RUN
    assert run.state.life_cycle_state.value in FINISHED
    assert output(client, run) == "ü"
    listed = next(iter(client.jobs.list_runs(run_type=RunType.SUBMIT_RUN)))
    assert listed.run_id == run.run_id
    assert client.jobs.get_run(run.tasks[0].run_id).tasks[0].task_key == "only"

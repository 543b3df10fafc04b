"""Jobs over time: schedules that fire, and runs that outlive the workspace's sudden end."""

import os
import signal
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import CronSchedule, JobSettings, QueueSettings, SubmitTask, Task

from local_workspace.jobs.store import JobStore
from local_workspace.state import State
from local_workspace.tests.conftest import Running, start_workspace
from local_workspace.tests.jobs_client import finished, results, task, until

EVERY_SECOND = {"quartz_cron_expression": "* * * * * ?", "timezone_id": "Europe/Berlin"}


def condition(key: str, **settings: Any) -> Task:
    return Task.from_dict({"task_key": key, "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}} | settings)


def first_run(workspace: Running, job_id: int, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not (runs := list(workspace.client.jobs.list_runs(job_id=job_id))):
        assert time.monotonic() < deadline, "the job was not started"
        time.sleep(0.1)
    return finished(workspace.client, runs[-1].run_id)


def test_a_schedule_starts_its_job_until_it_is_paused(workspace: Running):
    jobs = workspace.client.jobs
    job_id = jobs.create(name="often", tasks=[condition("a")], schedule=CronSchedule.from_dict(EVERY_SECOND)).job_id
    run = first_run(workspace, job_id)
    assert (run.trigger.value, run.state.result_state.value) == ("PERIODIC", "SUCCESS")
    assert run.schedule.quartz_cron_expression == "* * * * * ?"
    paused = CronSchedule.from_dict(EVERY_SECOND | {"pause_status": "PAUSED"})
    jobs.update(job_id, new_settings=JobSettings(schedule=paused))
    count = len(list(jobs.list_runs(job_id=job_id)))
    time.sleep(1.5)
    assert len(list(jobs.list_runs(job_id=job_id))) == count
    jobs.delete(job_id)


def test_a_continuous_job_runs_again_and_again(workspace: Running):
    jobs = workspace.client.jobs
    body = {"name": "always", "tasks": [condition("a").as_dict()], "continuous": {"pause_status": "UNPAUSED"}}
    job_id = workspace.http.post("/api/2.2/jobs/create", json=body).json()["job_id"]
    assert first_run(workspace, job_id).trigger.value == "CONTINUOUS"
    while len(list(jobs.list_runs(job_id=job_id))) < 3:
        time.sleep(0.1)
    jobs.delete(job_id)


def test_new_files_start_a_job(workspace: Running):
    client = workspace.client
    client.volumes.create("main", "default", "landing", volume_type=VolumeType.MANAGED)
    trigger = {"file_arrival": {"url": "/Volumes/main/default/landing/"}}
    body = {"name": "files", "tasks": [condition("a").as_dict()], "trigger": trigger}
    client.files.upload("/Volumes/main/default/landing/old", BytesIO(b"1"))
    job_id = workspace.http.post("/api/2.2/jobs/create", json=body).json()["job_id"]
    time.sleep(3)  # its first look only looks
    assert list(client.jobs.list_runs(job_id=job_id)) == []
    client.files.upload("/Volumes/main/default/landing/new", BytesIO(b"2"))
    assert first_run(workspace, job_id).trigger.value == "FILE_ARRIVAL"
    client.jobs.delete(job_id)


def test_killed_with_everything_running_it_goes_on_where_it_was(tmp_path: Path):
    alive = tmp_path / "alive"
    script = f"while true; do date +%s.%N > {alive}; sleep 0.05; done"
    ticking = f"import subprocess\nsubprocess.run(['sh', '-c', {script!r}])"
    flag = tmp_path / "flag"
    again = f"from pathlib import Path\nimport time\nif not Path({str(flag)!r}).exists(): time.sleep(60)"
    with start_workspace(tmp_path / "root") as running:
        client = running.client
        busy = Task.from_dict(task(client, "busy", "print('begun')", ticking))
        job_id = client.jobs.create(
            name="busy", tasks=[busy, condition("next", depends_on=[{"task_key": "busy"}])]
        ).job_id
        lost = client.jobs.run_now(job_id).run_id
        queued = client.jobs.run_now(job_id, queue=QueueSettings(True)).run_id
        retried = Task.from_dict(task(client, "again", again, max_retries=1))
        kept = client.jobs.run_now(client.jobs.create(name="again", tasks=[retried]).job_id).run_id
        often = client.jobs.create(name="often", tasks=[condition("a")], schedule=CronSchedule.from_dict(EVERY_SECOND))
        first_run(running, often.job_id)
        until(client, kept, ("RUNNING",))
        while not alive.exists():
            time.sleep(0.05)
        submitted = SubmitTask.from_dict(condition("s").as_dict())
        acknowledged = [client.jobs.submit(run_name="s", tasks=[submitted]).run_id for _ in range(20)]
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
    flag.touch()
    with start_workspace(tmp_path / "root") as running:
        client = running.client
        time.sleep(0.3)
        run = finished(client, lost)
        assert run.state.life_cycle_state.value == "INTERNAL_ERROR"
        assert results(run) == {"busy": "FAILED", "next": "UPSTREAM_FAILED"}
        assert run.tasks[0].state.state_message == "The workspace ended while this task ran."
        output = client.jobs.export_run(run.tasks[0].run_id).views[0].content
        assert "begun" in output
        assert until(client, queued, ("RUNNING",)).status.state.value == "RUNNING"
        attempts = finished(client, kept).tasks
        assert [item.state.result_state.value for item in attempts] == ["FAILED", "SUCCESS"]
        assert all(finished(client, run_id).state.result_state.value == "SUCCESS" for run_id in acknowledged)
        before = len(list(client.jobs.list_runs(job_id=often.job_id)))
        while len(list(client.jobs.list_runs(job_id=often.job_id))) == before:
            time.sleep(0.1)
        client.jobs.cancel_all_runs(job_id=job_id)
        finished(client, queued)
        last = alive.read_text()
        time.sleep(0.3)
        assert alive.read_text() == last


def test_notifications_are_recorded(workspace: Running):
    emails = {"on_start": ["a@x"], "on_failure": ["b@x"], "on_success": ["c@x"]}
    webhooks = {"on_success": [{"id": "hook"}]}
    body = {"name": "n", "tasks": [condition("a", email_notifications={"on_success": ["t@x"]}).as_dict()]}
    body |= {"email_notifications": emails, "webhook_notifications": webhooks}
    job_id = workspace.http.post("/api/2.2/jobs/create", json=body).json()["job_id"]
    run_id = workspace.client.jobs.run_now(job_id).run_id
    finished(workspace.client, run_id)
    state = State(workspace.root / "state.db")
    sent = JobStore(state).notifications(run_id)
    state.close()
    assert [(item["event"], item["channel"], item["destination"], item["task_key"]) for item in sent] == [
        ("on_start", "email", "a@x", None),
        ("on_success", "email", "t@x", "a"),
        ("on_success", "email", "c@x", None),
        ("on_success", "webhook", "hook", None),
    ]

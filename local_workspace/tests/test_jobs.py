"""The Jobs API: jobs themselves, as databricks-sdk sees them."""

import pytest
from databricks.sdk.errors import BadRequest, DatabricksError, NotImplemented, ResourceDoesNotExist
from databricks.sdk.service.jobs import (
    CronSchedule,
    JobAccessControlRequest,
    JobCluster,
    JobParameterDefinition,
    JobPermissionLevel,
    JobSettings,
    NotebookTask,
    PauseStatus,
    Task,
    TaskDependency,
)

from local_workspace.tests.conftest import Running

CREATE = "/api/2.2/jobs/create"


def work(key: str, *after: str) -> Task:
    return Task(key, notebook_task=NotebookTask("/Shared/none"), depends_on=[TaskDependency(name) for name in after])


def test_a_job_is_created_shown_changed_and_deleted(workspace: Running):
    jobs = workspace.client.jobs
    job_id = jobs.create(name="Nightly", tasks=[work("a"), work("b", "a")], tags={"team": "fraud"}).job_id
    job = jobs.get(job_id)
    assert job.settings.name == "Nightly"
    assert job.settings.max_concurrent_runs == 1
    assert [task.task_key for task in job.settings.tasks] == ["a", "b"]
    assert job.creator_user_name == job.run_as_user_name == "developer@local.workspace"
    jobs.update(job_id, new_settings=JobSettings(timeout_seconds=60, tasks=[work("c", "a")]), fields_to_remove=["tags"])
    changed = jobs.get(job_id).settings
    assert [task.task_key for task in changed.tasks] == ["a", "b", "c"]
    assert (changed.timeout_seconds, changed.tags, changed.name) == (60, None, "Nightly")
    jobs.update(job_id, fields_to_remove=["tasks/b"])
    assert [task.task_key for task in jobs.get(job_id).settings.tasks] == ["a", "c"]
    jobs.reset(job_id, JobSettings(name="Other", tasks=[work("z")]))
    assert jobs.get(job_id).settings.timeout_seconds == 0
    jobs.delete(job_id)
    with pytest.raises(ResourceDoesNotExist):
        jobs.get(job_id)


def test_jobs_are_listed_in_pages_newest_first_and_by_name(workspace: Running):
    jobs = workspace.client.jobs
    made = [jobs.create(name=f"Page {number % 2}", tasks=[work("a")]).job_id for number in range(5)]
    listed = list(jobs.list(limit=2))
    assert [job.job_id for job in listed if job.job_id in made] == made[::-1]
    assert not any(job.settings.tasks for job in listed)
    assert [job.job_id for job in jobs.list(name="page 1")] == [made[3], made[1]]
    assert next(iter(jobs.list(expand_tasks=True))).settings.tasks[0].task_key == "a"
    for job_id in made:
        jobs.delete(job_id)


def test_a_job_with_many_tasks_comes_in_pages(workspace: Running):
    jobs = workspace.client.jobs
    cluster = JobCluster.from_dict({"job_cluster_key": "small", "new_cluster": {"num_workers": 2}})
    job_id = jobs.create(name="many", tasks=[work(f"t{n}") for n in range(150)], job_clusters=[cluster]).job_id
    job = jobs.get(job_id)
    assert len({task.task_key for task in job.settings.tasks}) == 150
    assert job.settings.job_clusters[0].new_cluster.num_workers == 2
    listed = next(job for job in jobs.list(expand_tasks=True) if job.job_id == job_id)
    assert len(listed.settings.tasks) == 150
    jobs.delete(job_id)


def test_older_versions_and_the_form_of_one_task_are_understood(workspace: Running):
    body = {"name": "old", "notebook_task": {"notebook_path": "/x"}, "max_retries": 2, "new_cluster": {}}
    job_id = workspace.http.post("/api/2.0/jobs/create", json=body).json()["job_id"]
    shown = workspace.http.get("/api/2.1/jobs/get", params={"job_id": job_id}).json()["settings"]["tasks"]
    assert [(task["task_key"], task["max_retries"]) for task in shown] == [("main", 2)]
    assert workspace.http.post("/api/2.1/jobs/delete", json={"job_id": job_id}).json() == {}
    assert workspace.http.get("/api/2.3/jobs/list").status_code == 501


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"tasks": [{"task_key": "a"}]}, "'a' must have exactly one of"),
        ({"tasks": [{"task_key": "ä b", "notebook_task": {"notebook_path": "/x"}}]}, "tasks.0.task_key"),
        ({"tasks": "all"}, "tasks"),
        ({"tasks": [{"task_key": "a", "notebook_task": {"notebook_path": 7}}]}, "notebook_path"),
        ({"tasks": [{"task_key": "a", "notebook_task": {"notebook_path": "/x"}, "max_retries": "1"}]}, "max_retries"),
        (
            {"tasks": [{"task_key": "a", "environment_key": "e", "notebook_task": {"notebook_path": "/x"}}]},
            "environment_key",
        ),
        ({"run_as": {"user_name": "nobody@x"}}, "run_as.user_name"),
        ({"email_notifications": {"on_start": "a@x"}}, "email_notifications.on_start"),
        ({"environments": [{"environment_key": "e", "spec": {"dependencies": "x"}}]}, "environments.0.spec"),
        ({"job_clusters": [{"new_cluster": {}}]}, "job_cluster_key"),
        ({"max_concurrent_runs": 5000}, "max_concurrent_runs"),
        ({"parameters": [{"name": "p", "default": "1"}, {"name": "p", "default": "2"}]}, "parameters.name"),
        ({"schedule": {"quartz_cron_expression": "* * * * *", "timezone_id": "UTC"}}, "quartz_cron_expression"),
        ({"schedule": {"quartz_cron_expression": "0 0 0 * * ?", "timezone_id": "Mars/Olympus"}}, "timezone_id"),
        ({"continuous": {}, "trigger": {"periodic": {"interval": 1, "unit": "DAYS"}}}, "only one of"),
        ({"trigger": {"periodic": {"interval": 0, "unit": "DAYS"}}}, "interval"),
    ],
)
def test_wrong_settings_name_their_field(workspace: Running, settings: dict, field: str):
    answer = workspace.http.post(CREATE, json=settings)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert field in answer.json()["message"]


def test_graphs_that_cannot_run_are_refused(workspace: Running):
    jobs = workspace.client.jobs
    with pytest.raises(BadRequest, match="a, b wait for each other in a cycle"):
        jobs.create(tasks=[work("a", "b"), work("b", "a"), work("c")])
    with pytest.raises(BadRequest, match="there is no task 'gone'"):
        jobs.create(tasks=[work("a", "gone")])
    with pytest.raises(BadRequest, match="'a' is there twice"):
        jobs.create(tasks=[work("a"), work("a")])


@pytest.mark.parametrize(
    "settings",
    [
        {"tasks": [{"task_key": "a", "spark_jar_task": {"main_class_name": "x"}}]},
        {"tasks": [{"task_key": "a", "dbt_task": {"commands": ["dbt run"]}}]},
        {"tasks": [{"task_key": "a", "pipeline_task": {"pipeline_id": "1"}}]},
        {"git_source": {"git_url": "https://example.com/x", "git_provider": "gitHub"}},
        {"trigger": {"table_update": {"table_names": ["a.b.c"]}}},
        {"schedule": {"quartz_cron_expression": "0 0 0 LW * ?", "timezone_id": "UTC"}},
    ],
)
def test_what_is_not_here_is_refused_by_name(workspace: Running, settings: dict):
    answer = workspace.http.post(CREATE, json=settings)
    assert answer.status_code == 501
    names = ("spark_jar_task", "dbt_task", "pipeline_task", "git_source", "table_update", "LW")
    assert any(name in answer.json()["message"] for name in names)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"job_id": "x"}', b'{"job_id": -1}', b'{"job_id": true}'])
@pytest.mark.parametrize("path", ["/run-now", "/reset", "/update", "/delete", "/runs/cancel", "/runs/repair"])
def test_hostile_bodies_are_bad_requests(workspace: Running, path: str, body: bytes):
    assert workspace.http.post(f"/api/2.2/jobs{path}", content=body).status_code == 400


def test_what_does_not_exist_is_said_in_the_real_words(workspace: Running):
    jobs = workspace.client.jobs
    with pytest.raises(DatabricksError, match="Job 987654 does not exist"):
        jobs.run_now(987654)
    with pytest.raises(ResourceDoesNotExist, match="Run 987654 does not exist"):
        jobs.get_run(987654)
    with pytest.raises(ResourceDoesNotExist):
        jobs.get_run(10**30)
    with pytest.raises(ResourceDoesNotExist):
        jobs.get(10**30)
    assert list(jobs.list_runs(job_id=10**30)) == []
    with pytest.raises(NotImplemented, match="jar_params"):
        jobs.run_now(1, jar_params=["x"])


def test_a_schedule_is_kept_and_shown(workspace: Running):
    jobs = workspace.client.jobs
    schedule = CronSchedule("0 0 6 ? * MON-FRI", "Europe/Berlin", PauseStatus.PAUSED)
    parameter = JobParameterDefinition(name="day", default="{{job.start_time.iso_date}}")
    job_id = jobs.create(name="s", tasks=[work("a")], schedule=schedule, parameters=[parameter]).job_id
    assert jobs.get(job_id).settings.schedule == schedule
    assert jobs.get(job_id).settings.parameters == [parameter]
    jobs.delete(job_id)


def test_a_job_comes_with_its_permissions(workspace: Running):
    w = workspace.client
    may = JobAccessControlRequest(group_name="readers", permission_level=JobPermissionLevel.CAN_VIEW)
    job_id = w.jobs.create(name="Shared", tasks=[work("a")], access_control_list=[may]).job_id
    shown = {
        e.group_name or e.user_name: e.all_permissions[0] for e in w.jobs.get_permissions(job_id).access_control_list
    }
    assert shown["readers"].permission_level == JobPermissionLevel.CAN_VIEW
    assert shown["developer@local.workspace"].permission_level == JobPermissionLevel.IS_OWNER
    w.jobs.delete(job_id)
    wrong = {"name": "never", "access_control_list": [{"group_name": "x", "permission_level": "CAN_FLY"}]}
    answer = workspace.http.post(CREATE, json=wrong)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert not list(w.jobs.list(name="never"))

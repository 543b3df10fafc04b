"""Scheduled jobs: one definition, brought about by the genuine SDK, run for real in the workspace's job runner."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lib.context import AppContext
from lib.core import ConfigurationError, NotFound, new_id
from lib.deploy import AppDeployment
from lib.feedback import record_feedback
from lib.jobs import JobDeployment, bundle_values, read_jobs, run_now, task_context
from lib.settings import load_settings
from local_workspace.cron import Cron
from nbs_tests.detector_ground import AGENT, ROWS, answer, detector_ground, rows
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script

APP = f"jobs-{new_id()[:8]}"


@pytest.fixture(scope="module")
def context(environment: dict[str, str]) -> AppContext:
    return AppContext(replace(load_settings(environment), schema=APP.replace("-", "_"), app_name=APP))


@pytest.fixture(scope="module")
def folder(context: AppContext) -> str:
    """Where the release lies in the workspace."""
    deployment = AppDeployment(context, ROOT)
    deployment.upload()
    return deployment.folder


@pytest.fixture
def deployment(context: AppContext, folder: str) -> Iterator[JobDeployment]:
    deployment = JobDeployment(context, ROOT, folder)
    yield deployment
    for job in deployment.api.list():
        if (job.settings.name or "").startswith(APP):
            deployment.api.delete(job.job_id)


def defined(folder: Path, text: str) -> Path:
    """A folder with one file of jobs."""
    (folder / "jobs.yml").write_text("resources:\n  jobs:\n" + text)
    return folder


def test_jobs_are_created_once_and_updated_only_when_they_differ(deployment: JobDeployment):
    keys = ["prompts_nightly", "prompts_nightly_cluster", "prompts_watch"]
    assert [(step.kind, step.action) for step in deployment.plan()] == [("job", "create")] * 3
    assert deployment.ensure() == dict.fromkeys(keys, "created")
    assert deployment.ensure() == dict.fromkeys(keys, "unchanged")
    assert {step.action for step in deployment.plan()} == {"none"}
    job = deployment.find("prompts_nightly")
    job.settings.tasks[-1].run_if = None  # by hand: nobody is told about a failure any more
    deployment.api.reset(job.job_id, job.settings)
    again = JobDeployment(deployment.context, ROOT, deployment.folder)
    told: list[str] = []
    assert again.ensure(told.append) == dict.fromkeys(keys, "unchanged") | {"prompts_nightly": "updated"}
    assert told == [f"job {APP}-prompts-nightly: updated"]
    assert again.find("prompts_nightly").job_id == job.job_id


def test_a_new_release_moves_the_jobs_to_its_folder(deployment: JobDeployment):
    deployment.ensure()
    newer = JobDeployment(deployment.context, ROOT, f"{deployment.folder}0")
    assert set(newer.ensure().values()) == {"updated"}
    [notify] = [task for task in newer.find("prompts_nightly").settings.tasks if task.task_key == "notify"]
    assert notify.notebook_task.notebook_path == f"{deployment.folder}0/jobs/notify"


def test_two_jobs_of_one_name_are_not_guessed_between(deployment: JobDeployment):
    deployment.ensure()
    twin = deployment.api.create(**deployment.wanted["prompts_watch"].as_shallow_dict())
    with pytest.raises(ConfigurationError, match=rf"\b{twin.job_id}\b.* are all called {APP}-prompts-watch"):
        deployment.plan()
    with pytest.raises(NotFound, match=r"no job prompts_weekly; jobs/.*prompts_nightly"):
        run_now(deployment, "prompts_weekly")


@pytest.mark.parametrize(
    ("moment", "fires"),
    [
        (datetime(2026, 1, 10, 12, tzinfo=UTC), datetime(2026, 1, 11, 10, tzinfo=UTC)),  # 02:00 in winter is UTC-8
        (datetime(2026, 7, 10, 12, tzinfo=UTC), datetime(2026, 7, 11, 9, tzinfo=UTC)),
    ],
)
def test_the_night_begins_at_two_in_los_angeles(deployment: JobDeployment, moment: datetime, fires: datetime):
    deployment.ensure()
    schedule = deployment.find("prompts_nightly").settings.schedule
    assert schedule.pause_status.value == "UNPAUSED"
    following = Cron(schedule.quartz_cron_expression, schedule.timezone_id).after(moment)
    assert following == fires
    assert following.astimezone(ZoneInfo("America/Los_Angeles")).hour == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "    a: {name: '${var.nothing}'}",
            r"jobs.yml: a.name: nobody knows \$\{var.nothing\}; known are .*var.catalog",
        ),
        ("    a: {name: x, tasks: [{task_key: t, max_retrys: 1}]}", r"a: the Jobs API knows no tasks\[0\].max_retrys"),
        ("    a: {name: x, tasks: [{task_key: t, run_if: ALWAYS}]}", r"a: the Jobs API knows no tasks\[0\].run_if"),
        ("    a: [", "jobs.yml cannot be read"),
    ],
)
def test_a_wrong_definition_is_named(context: AppContext, tmp_path: Path, text: str, told: str):
    values = bundle_values(ROOT, context.settings, "/Workspace/x", "me@example.com")
    with pytest.raises(ConfigurationError, match=told):
        read_jobs(defined(tmp_path, text), values)


def test_a_job_is_defined_in_one_file(context: AppContext, tmp_path: Path):
    for name in ("a.yml", "b.yml"):
        shutil.copy(ROOT / "jobs" / "prompts_watch.yml", tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"b\.yml: there is another job prompts_watch"):
        read_jobs(tmp_path, bundle_values(ROOT, context.settings, "/Workspace/x", "me"))


def test_a_task_has_the_names_of_whoever_deployed_it(context: AppContext, deployment: JobDeployment):
    [told] = [item.default for item in deployment.wanted["prompts_nightly"].parameters if item.name == "environment"]
    assert task_context(told, {}).settings.schema == context.settings.schema
    assert task_context("", {"SOTA_TARGET": "dev"}).settings.catalog == load_settings({"SOTA_TARGET": "dev"}).catalog
    for wrong, problem in (
        ("SOTA_TARGET", "expected SOTA_NAME=value"),
        ("'", "expected"),
        ("PATH=/x", "PATH is no SOTA_"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            task_context(wrong)


@pytest.fixture(scope="module")
def ground(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[JobDeployment, Script]]:
    """The jobs over labelled rows and a scripted model, the same as ours but without second attempts."""
    root = tmp_path_factory.mktemp("root")
    for name in ("databricks.yml", "settings.ini"):
        shutil.copy(ROOT / name, root)
    (root / "jobs").mkdir()
    for path in (ROOT / "jobs").glob("*.yml"):
        (root / "jobs" / path.name).write_text(path.read_text().replace("max_retries: 1", "max_retries: 0"))
    with detector_ground(environment, tmp_path_factory.mktemp("config")) as (context, script):
        release = AppDeployment(context, ROOT)
        release.upload()
        deployment = JobDeployment(context, root, release.folder)
        deployment.ensure()
        yield deployment, script
        for key in deployment.wanted:
            deployment.api.delete(deployment.find(key).job_id)


def test_a_night_improves_tests_promotes_and_tells(ground: tuple[JobDeployment, Script]):
    deployment, script = ground
    moved: list[dict[str, str]] = []
    run = run_now(
        deployment,
        "prompts_nightly",
        300,
        lambda tasks: moved.append({key: task.state for key, task in tasks.items()}),
        budget_money="0.5",
    )
    assert {key: task.state for key, task in run.tasks.items()} == {
        "by_gradients": "SUCCESS",
        "optimize_dspy": "SUCCESS",
        "optimize_textgrad": "EXCLUDED",
        "ab_test": "SUCCESS",
        "notify": "SUCCESS",
    }, run
    assert run.state == "SUCCESS"
    assert len(moved) > 3 and moved[-1]["notify"] == "SUCCESS"
    assert run.tasks["optimize_dspy"].output.startswith(f"{AGENT} v2 is a challenger")
    assert f"Prompt {AGENT}: promoted, v2" in run.tasks["ab_test"].output
    assert run.tasks["ab_test"].output in run.tasks["notify"].output
    assert script.count == 2 * ROWS["validation"] + 2 * ROWS["holdout"]
    store = deployment.context.prompt_store
    assert store.aliases(AGENT) == {"production": 2}
    assert {"optimizer", "seed", "data_version", "scores", "cost", "parent"} <= store.get(AGENT, 2).metadata.keys()


INSTRUCTIONS = 'Fraud is only what points to a stolen card. Answer in JSON: "reason", then "fraud_score" from 0 to 100.'


def proposing(messages: list[dict[str, Any]]) -> str:
    """The ground's model, which also criticises, and writes instructions that it then follows."""
    said = " ".join(message["content"] for message in messages)
    if "gradient (feedback) engine" in said:
        return "It takes every payment for fraud."
    if "<IMPROVED_VARIABLE>" in said:
        return f"<IMPROVED_VARIABLE>{INSTRUCTIONS}</IMPROVED_VARIABLE>"
    return answer(messages if INSTRUCTIONS not in said else [*messages[:1], *messages])


def judge_decisions(context: AppContext, version: int) -> None:
    """Decisions of a version, and what was right."""
    for row in rows("train", 6):
        decision, result = new_id(), json.dumps({"inputs": json.loads(row["input"])})
        context.workspace.execute(
            f"INSERT INTO {context.settings.table('decisions')} "
            "(decision_id, subject_id, agent_name, prompt, result, created_at) "
            "VALUES (:decision, :subject, 'fraud_case', :prompt, :result, current_timestamp())",
            decision=decision,
            subject=row["subject"],
            prompt=f"{AGENT} v{version}",
            result=result,
        )
        expected = json.loads(row["expected"])
        right = expected["label"] == "fraud"
        record_feedback(context.workspace, context.settings, decision, correct=right, expected=expected)


def test_a_night_on_a_job_cluster_learns_from_feedback(ground: tuple[JobDeployment, Script]):
    deployment, script = ground
    context = deployment.context
    context.prompt_store.promote(AGENT, 1, by="me", why="begin anew")
    judge_decisions(context, version=1)
    script.answer = proposing
    run = run_now(deployment, "prompts_nightly_cluster", 300, optimizer="textgrad")
    assert {key: task.state for key, task in run.tasks.items()} == {
        "by_gradients": "SUCCESS",
        "optimize_dspy": "EXCLUDED",
        "optimize_textgrad": "SUCCESS",
        "ab_test": "SUCCESS",
        "notify": "SUCCESS",
    }, run
    assert run.tasks["optimize_textgrad"].output.startswith(f"{AGENT} v3 is a challenger")
    assert f"Prompt {AGENT}: promoted, v3 has taken the place of v1" in run.tasks["ab_test"].output
    assert context.prompt_store.get(AGENT, "production").turns[0] == ("system", INSTRUCTIONS)
    [task] = [task for task in deployment.api.get_run(run.run_id).tasks if task.task_key == "optimize_textgrad"]
    assert task.job_cluster_key == "optimize"


def test_a_failed_night_is_told_and_ends_as_one(ground: tuple[JobDeployment, Script]):
    deployment, script = ground
    asked = script.count
    run = run_now(deployment, "prompts_nightly", 300, agent="nobody")
    tasks = run.tasks
    assert (run.state, script.count) == ("FAILED", asked)
    assert {key: task.state for key, task in tasks.items() if key != "by_gradients"} == {
        "optimize_dspy": "FAILED",
        "optimize_textgrad": "EXCLUDED",
        "ab_test": "UPSTREAM_FAILED",
        "notify": "FAILED",
    }
    assert "no agent is named 'nobody'" in tasks["optimize_dspy"].output
    told = tasks["notify"].output
    assert "optimize_dspy, ab_test failed tonight" in told
    assert "no agent is named 'nobody'" in told
    last = {task.task_key: task.run_id for task in deployment.api.get_run(run.run_id).tasks}
    trace = deployment.api.get_run_output(last["optimize_dspy"]).error_trace
    assert f"{deployment.folder.removeprefix('/Workspace')}/lib/studies.py" in trace  # the code of its own release


def test_the_watch_runs_and_finds_nothing_to_do_without_decisions(ground: tuple[JobDeployment, Script]):
    deployment, _ = ground
    run = run_now(deployment, "prompts_watch", 300)
    assert run.state == "SUCCESS"
    assert f"Prompt {AGENT}: waiting" in run.tasks["watch"].output

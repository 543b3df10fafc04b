"""databricks.yml asks for what settings.ini names, in the words of the REST API."""

import tomllib
from typing import Any

import pytest
import yaml
from databricks.sdk.service import apps, catalog, jobs, serving

from lib.jobs import bundle_values, read_jobs
from lib.settings import Settings, load_settings
from nbs_tests.house import ROOT

BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
RESOURCES = BUNDLE["resources"]


@pytest.fixture(params=BUNDLE["targets"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """The names of one target of the bundle."""
    return load_settings({"SOTA_TARGET": request.param})


def resolved(value: Any, settings: Settings) -> Any:
    """A resource with the target's variables put in."""
    text = yaml.safe_dump(value)
    variables = BUNDLE["targets"][settings.target]["variables"]
    text = text.replace("${var.catalog}", variables["catalog"])
    return yaml.safe_load(text.replace("${resources.schemas.agents.name}", RESOURCES["schemas"]["agents"]["name"]))


def test_schema_and_volumes_are_those_of_the_settings(settings: Settings):
    schema = catalog.SchemaInfo.from_dict(resolved(RESOURCES["schemas"]["agents"], settings))
    assert (schema.catalog_name, schema.name) == (settings.catalog, settings.schema)
    volumes = [catalog.VolumeInfo.from_dict(resolved(v, settings)) for v in RESOURCES["volumes"].values()]
    paths = {f"/Volumes/{volume.catalog_name}/{volume.schema_name}/{volume.name}" for volume in volumes}
    assert paths == {settings.volume(name) for name in ("configs", "prompts", "staging")}


def test_endpoints_are_those_of_the_settings(settings: Settings):
    defaults = {name: variable.get("default") for name, variable in BUNDLE["variables"].items()}
    named = {
        endpoint["name"]: endpoint["config"]["served_entities"]
        for endpoint in RESOURCES["model_serving_endpoints"].values()
    }
    assert set(named) == {settings.chat_endpoint, settings.embedding_endpoint}
    assert (defaults["chat_entity"], defaults["embedding_entity"]) == (settings.chat_entity, settings.embedding_entity)


def test_the_app_and_its_resources_are_those_of_the_settings(settings: Settings):
    wanted = resolved(RESOURCES["apps"]["agents"], settings)
    app = apps.App.from_dict(wanted)
    assert app.name == settings.app_name
    volumes = {found.uc_securable.securable_full_name for found in app.resources if found.uc_securable}
    assert volumes == {settings.full_name(settings.configs_volume), settings.full_name(settings.prompts_volume)}
    asked = {
        entry["valueFrom"]
        for entry in yaml.safe_load((ROOT / "app/app.yaml").read_text())["env"]
        if "valueFrom" in entry
    }
    assert asked <= {found.name for found in app.resources}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("schemas", catalog.SchemaInfo),
        ("volumes", catalog.VolumeInfo),
        ("apps", apps.App),
    ],
)
def test_every_field_is_one_of_the_rest_api(kind: str, words: Any):
    """What the SDK's own class does not know would be lost on the round trip."""
    for resource in RESOURCES[kind].values():
        sent = {name: value for name, value in resource.items() if name != "source_code_path"}  # the bundle's own
        assert words.from_dict(sent).as_dict() == sent


def test_every_field_of_an_endpoint_is_one_of_the_rest_api():
    for endpoint in RESOURCES["model_serving_endpoints"].values():
        config = endpoint["config"] | {"name": endpoint["name"]}
        assert serving.EndpointCoreConfigInput.from_dict(config).as_dict() == config


WRITTEN = {
    key: job
    for path in sorted((ROOT / "jobs").glob("*.yml"))
    for key, job in yaml.safe_load(path.read_text())["resources"]["jobs"].items()
}


def defined(settings: Settings) -> dict[str, jobs.JobSettings]:
    """The jobs as `sota-deploy apply` makes them."""
    return read_jobs(ROOT / "jobs", bundle_values(ROOT, settings, "/Workspace/release", "me@example.com"))


def as_the_bundle_reads(text: str, settings: Settings) -> str:
    """The file's text as the Databricks CLI fills it, from databricks.yml alone."""
    variables = {name: about.get("default") for name, about in BUNDLE["variables"].items()}
    variables |= BUNDLE["targets"][settings.target]["variables"]
    told = {f"var.{name}": value for name, value in variables.items()} | {
        "bundle.target": settings.target,
        "workspace.file_path": "/Workspace/release",
        "workspace.current_user.userName": "me@example.com",
        "resources.apps.agents.name": RESOURCES["apps"]["agents"]["name"],
    }
    for name, value in told.items():
        text = text.replace(f"${{{name}}}", str(value))
    return text


def test_both_roads_make_the_same_jobs(settings: Settings):
    """What the bundle would create and what the SDK creates, field by field."""
    assert BUNDLE["include"] == ["jobs/*.yml"]
    by_sdk = defined(settings)
    assert set(by_sdk) == {"prompts_nightly", "prompts_nightly_cluster", "prompts_watch"}
    for key, job in WRITTEN.items():
        by_bundle = yaml.safe_load(as_the_bundle_reads(yaml.safe_dump(job), settings))
        for parameter in by_bundle["parameters"]:
            parameter["default"] = parameter["default"].strip()
        made = by_sdk[key].as_dict()
        assert made.pop("tags").keys() == {"definition"}
        assert made == by_bundle


def test_the_night_is_what_it_should_be(settings: Settings):
    job = defined(settings)["prompts_nightly"]
    assert (job.schedule.quartz_cron_expression, job.schedule.timezone_id) == ("0 0 2 * * ?", "America/Los_Angeles")
    assert job.schedule.pause_status is jobs.PauseStatus.UNPAUSED
    assert job.max_concurrent_runs == 1 and job.timeout_seconds
    assert job.email_notifications.on_success == job.email_notifications.on_failure == ["me@example.com"]
    tasks = {task.task_key: task for task in job.tasks}
    needs = {key: {one.task_key for one in task.depends_on or []} for key, task in tasks.items()}
    assert needs["ab_test"] == {"optimize_dspy", "optimize_textgrad"}
    assert needs["notify"] == {"optimize_dspy", "optimize_textgrad", "ab_test"}
    assert tasks["notify"].run_if is jobs.RunIf.ALL_DONE
    assert all(task.timeout_seconds for task in tasks.values() if task.notebook_task)
    assert all(task.max_retries == (key != "notify") for key, task in tasks.items() if task.notebook_task)
    [environment] = job.environments
    assert environment.spec.environment_version and environment.spec.dependencies
    assert {task.environment_key for task in tasks.values() if task.notebook_task} == {environment.environment_key}


def test_the_cluster_variant_does_the_same_work(settings: Settings):
    found = defined(settings)
    nightly, cluster = found["prompts_nightly"].as_dict(), found["prompts_nightly_cluster"].as_dict()
    assert cluster["schedule"] == nightly["schedule"] | {"pause_status": "PAUSED"}
    for job in (nightly, cluster):
        for task in job["tasks"]:
            for name in ("environment_key", "job_cluster_key", "libraries", "disable_auto_optimization"):
                task.pop(name, None)
    assert cluster["tasks"] == nightly["tasks"]
    assert cluster["parameters"] == nightly["parameters"]
    [compute] = cluster["job_clusters"]
    assert compute["new_cluster"]["data_security_mode"] == "SINGLE_USER"  # Unity Catalog is for such clusters only


def test_every_notebook_of_a_job_is_there():
    paths = {
        task["notebook_task"]["notebook_path"].rpartition("/")[2]
        for job in WRITTEN.values()
        for task in job["tasks"]
        if "notebook_task" in task
    }
    assert paths == {path.stem for path in (ROOT / "jobs").glob("*.py")}
    for path in paths:
        text = (ROOT / "jobs" / f"{path}.py").read_text()
        assert text.startswith("# Databricks notebook source\n")
        assert "sys.path.insert(0, str(Path.cwd().parent))" in text.partition("from lib.")[0]


def test_the_jobs_requirements_are_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "jobs" / "requirements.txt").read_text().splitlines()
    wanted = {line for line in lines if line and not line.startswith(("#", "-c"))}
    extras = project["optional-dependencies"]
    assert set(project["dependencies"]) | set(extras["optimize"]) <= wanted
    assert wanted <= {*project["dependencies"], *extras["optimize"], *extras["notebooks"]}

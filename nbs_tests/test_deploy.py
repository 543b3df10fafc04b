"""Deployment into a real local workspace by the genuine SDK: planned, applied, verified, and nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from lib.context import AppContext
from lib.core import NotFound, Unavailable
from lib.deploy import AppDeployment, Release, app_url, repository, setup
from lib.settings import Settings, load_settings
from lib.verify import Verification
from nbs_tests.house import ROOT
from nbs_tests.processes import free_port, local_workspace, serve_app

APP = "deploy-test"


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    """A schema and an app of this module's own."""
    return replace(load_settings(environment), schema="deploy_test", app_name=APP)


@pytest.fixture(scope="module")
def own_environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"SOTA_SCHEMA": "deploy_test", "SOTA_APP_NAME": APP}


@pytest.fixture(scope="module")
def context(settings: Settings) -> Iterator[AppContext]:
    """The ground, set up once; the app is deleted at the end."""
    context = AppContext(settings)
    setup(context, repository() / "app")
    yield context
    if any(app.name == APP for app in context.workspace.client.apps.list()):
        context.workspace.client.apps.delete(APP)


@pytest.fixture(scope="module")
def url(context: AppContext) -> str:
    """The deployed app."""
    return AppDeployment(context, ROOT).apply()


def actions(context: AppContext) -> list[str]:
    return [step.action for step in AppDeployment(context, ROOT).plan()]


def test_set_up_twice_changes_nothing_the_second_time(context: AppContext):
    told: list[str] = []
    setup(context, repository() / "app", told.append)
    assert told == [
        "catalog: 0 changes",
        "config",
        "prompts",
        "embeddings endpoint: unchanged",
        "index: unchanged",
        "chat endpoint: unchanged",
    ]


def test_the_plan_is_brought_about_and_then_empty(context: AppContext):
    with pytest.raises(NotFound, match=APP):
        app_url(context)
    assert actions(context) == ["upload", "create", "deploy"]
    url = AppDeployment(context, ROOT).apply()
    assert actions(context) == ["none", "none", "none"]
    deployed = context.workspace.client.apps.get(APP)
    AppDeployment(context, ROOT).apply()
    again = context.workspace.client.apps.get(APP)
    assert deployed.active_deployment.deployment_id == again.active_deployment.deployment_id
    assert app_url(context) == url


def test_a_stopped_app_is_started_again(context: AppContext, url: str):
    context.workspace.client.apps.stop_and_wait(APP)
    assert AppDeployment(context, ROOT).apply() == url
    headers = context.workspace.auth_headers()
    assert httpx.get(f"{url}/ready", headers=headers, timeout=10).status_code == 200


def test_other_resources_update_the_app_object(context: AppContext, url: str):
    changed = AppContext(replace(context.settings, warehouse_id="another"))
    assert actions(changed)[1] == "update"


def test_the_app_has_its_own_identity_and_runs_the_staged_files(context: AppContext, url: str):
    app = context.workspace.client.apps.get(APP)
    assert app.service_principal_client_id
    release = Release.build(ROOT, context.settings)
    source = app.active_deployment.source_code_path
    assert source.endswith(f"/{APP}/{release.id}")
    listed = {item.path for item in context.workspace.client.workspace.list(source, recursive=True)}
    notebooks = {name: name.removesuffix(".py") for name in release.files if name.startswith("jobs/")}
    assert {f"{source}/{notebooks.get(name, name)}" for name in release.files} <= listed


async def test_a_deployment_is_verified_end_to_end(context: AppContext, url: str):
    own = AppContext(context.settings)
    checks = [check async for check in Verification(own, url).run()]
    await own.serving.aclose()
    assert [check for check in checks if not check.passed] == []
    assert {"health", "ready", "execute echo", "telemetry", "memory"} < {check.name for check in checks}


async def test_verification_fails_where_there_is_no_app(context: AppContext):
    checks = [check async for check in Verification(context, f"http://127.0.0.1:{free_port()}").run()]
    assert {check.name: check.passed for check in checks} == {
        "health": False,
        "ready": False,
        "execute echo": False,
        "telemetry": False,
        "memory": False,
    }


def test_a_release_is_named_by_its_contents(settings: Settings):
    release, again = Release.build(ROOT, settings), Release.build(ROOT, settings)
    assert release.id == again.id
    assert release.id != Release(release.files | {"settings.ini": b"other"}).id
    assert {"app.yaml", "requirements.txt", "constraints.txt", "settings.ini", "app/main.py"} < release.files.keys()
    assert not [name for name in release.files if "__pycache__" in name or name == "lib/_modidx.py"]


def test_the_app_is_told_our_names_and_nothing_secret(settings: Settings):
    content = Release.build(ROOT, settings).files["app.yaml"]
    env = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in yaml.safe_load(content)["env"]}
    assert env == {
        "SOTA_WAREHOUSE_ID": "warehouse",
        "SOTA_CHAT_ENDPOINT": "chat-endpoint",
        "SOTA_EMBEDDING_ENDPOINT": "embedding-endpoint",
        "SOTA_TARGET": "local",
        "SOTA_SCHEMA": "deploy_test",
        "SOTA_APP_NAME": APP,
        "ZEROBUS_ENDPOINT": settings.zerobus_endpoint,
    }
    assert settings.token.encode() not in content


def test_the_apps_requirements_are_the_projects():
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "app/requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "-c"))] == wanted


def test_the_app_stays_small_and_stops_cleanly(context: AppContext, own_environment: dict[str, str]):
    """Its process never holds what only the optimisers need, and SIGTERM is a clean exit."""
    with serve_app(own_environment) as app:
        app.wait_for("/health")
        app.wait_for("/ready")
        assert psutil.Process(app.process.pid).memory_info().rss < 250 * 2**20
        maps = Path(f"/proc/{app.process.pid}/maps")
        assert not maps.exists() or "torch" not in maps.read_text()
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(15) == 0


def test_the_app_stops_in_time_although_its_workspace_is_gone(tmp_path: Path):
    """The threads of requests that wait for the workspace do not hold the process."""
    with ThreadPoolExecutor() as pool:
        with local_workspace(tmp_path) as workspace, serve_app(workspace.environment) as app:
            app.wait_for("/ready")
            os.kill(workspace.process.pid, signal.SIGKILL)
            workspace.process.wait()
            payment = {"transaction_id": "T1", "timestamp": "2026-03-01T12:00:00", "customer_id": "C1", "amount": 900}
            body = {"agent_name": "fraud_case", "data": payment | {"merchant": "M1", "location": "Ghent"}}
            waiting = pool.submit(httpx.post, f"{app.url}/execute", json=body, timeout=60)
            time.sleep(1)
            app.process.send_signal(signal.SIGTERM)
            assert app.process.wait(15) == 0
        assert waiting.exception() or waiting.result().status_code in (200, 500, 503)  # cut off, or answered


def test_the_app_never_imports_the_optimisers(context: AppContext, own_environment: dict[str, str]):
    program = """
import asyncio, json, sys
from lib.context import AppContext, AppLife
from lib.settings import load_settings
from lib.api import create_api

async def main():
    context = AppContext(load_settings())
    life = AppLife(context)
    async with life(create_api(context.state)):
        while not (context.state.ready or life.failure):
            await asyncio.sleep(0.05)
    if life.failure:
        raise life.failure
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | own_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"databricks", "openai", "langgraph"} <= loaded
    assert not loaded & {"mlflow", "dspy", "litellm", "torch", "textgrad", "pyspark", "matplotlib", "pandas", "scipy"}


@pytest.mark.parametrize("module", [["app.main"], ["lib.cli", "serve"]])
@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_an_unreachable_workspace_ends_the_process_with_one_line(module: list[str], host: str):
    environment = os.environ | {
        "DATABRICKS_HOST": host,
        "DATABRICKS_TOKEN": "dapi0",
        "DATABRICKS_APP_PORT": str(free_port()),
    }
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert time.monotonic() - start < 10, "the requirement: not later than after 10 s"
    assert len(done.stderr.strip().splitlines()) == 1
    assert host in done.stderr
    assert "DATABRICKS_HOST" in done.stderr


def test_a_port_in_use_is_named(environment: dict[str, str]):
    port = environment["DATABRICKS_HOST"].rpartition(":")[2]
    command = [sys.executable, "-m", "lib.cli", "serve", "--port", port]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"cannot listen on port {port}" in done.stderr


def test_an_app_that_never_becomes_ready_is_told(context: AppContext):
    deployment = AppDeployment(context, ROOT)
    with pytest.raises(Unavailable, match="did not answer 200"):
        deployment.wait_ready(f"http://127.0.0.1:{free_port()}", seconds=0.5)

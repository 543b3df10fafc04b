"""Apps with the genuine SDK: real processes behind their stable address."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

import httpx
import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    InvalidParameterValue,
    InvalidState,
    NotFound,
    NotImplemented,
    OperationFailed,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.apps import (
    App,
    AppDeployment,
    AppDeploymentMode,
    AppDeploymentState,
    AppHealthCheck,
    ApplicationState,
    AppResource,
    AppResourceJob,
    AppResourceJobJobPermission,
    AppResourceSecret,
    AppResourceSecretSecretPermission,
    AppResourceServingEndpoint,
    AppResourceServingEndpointServingEndpointPermission,
    AppResourceSqlWarehouse,
    AppResourceSqlWarehouseSqlWarehousePermission,
    AppResourceUcSecurable,
    AppResourceUcSecurableUcSecurablePermission,
    AppResourceUcSecurableUcSecurableType,
    ComputeState,
    EnvVar,
)
from databricks.sdk.service.catalog import VolumeType

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.small_app import HOME, SERVER, deploy, eventually, upload


def test_the_life_of_an_app(workspace):
    client = workspace.client
    created = client.apps.create_and_wait(App("life", description="a test"))
    assert created.compute_status.state == ComputeState.ACTIVE
    assert created.app_status.state == ApplicationState.UNAVAILABLE
    assert httpx.get(created.url).status_code == 503

    app = deploy(client, "life")
    assert app.app_status.state == ApplicationState.RUNNING
    assert app.app_status.running_instances == 1
    assert app.active_deployment.status.state == AppDeploymentState.SUCCEEDED
    assert app.default_source_code_path == f"{HOME}/life"
    assert (app.url, app.description) == (created.url, "a test")
    seen = httpx.get(f"{app.url}/hello?x=1").json()
    assert seen["path"] == "/hello?x=1"
    assert seen["cwd"] == str(workspace.root / "apps" / "life" / app.active_deployment.deployment_id)

    stopped = client.apps.stop_and_wait("life")
    assert stopped.compute_status.state == ComputeState.STOPPED
    assert not psutil.pid_exists(seen["pid"])
    answer = httpx.get(app.url)
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    with pytest.raises(InvalidState, match="start the app first"):
        client.apps.deploy("life", AppDeployment(source_code_path=f"{HOME}/life"))

    assert client.apps.start_and_wait("life").app_status.state == ApplicationState.RUNNING
    assert httpx.get(app.url).status_code == 200
    assert "serving version 1" in httpx.get(f"{app.url}/logz").text

    client.apps.delete("life")
    with pytest.raises(NotFound, match="life"):
        client.apps.get("life")
    with pytest.raises(httpx.ConnectError):
        httpx.get(app.url)


def test_an_app_gets_its_identity_its_values_and_nothing_else(workspace):
    client = workspace.client
    client.secrets.create_scope("app-secrets")
    client.secrets.put_secret("app-secrets", "key", string_value="höchst geheim")
    read = AppResourceSecretSecretPermission.READ
    resources = [
        AppResource("the-secret", secret=AppResourceSecret("app-secrets", "key", read)),
        AppResource(
            "llm",
            serving_endpoint=AppResourceServingEndpoint(
                "chat", AppResourceServingEndpointServingEndpointPermission.CAN_QUERY
            ),
        ),
        AppResource(
            "warehouse",
            sql_warehouse=AppResourceSqlWarehouse("abc", AppResourceSqlWarehouseSqlWarehousePermission.CAN_USE),
        ),
        AppResource("nightly", job=AppResourceJob("17", AppResourceJobJobPermission.CAN_VIEW)),
        AppResource(
            "configs",
            uc_securable=AppResourceUcSecurable(
                "main.agents.configs",
                AppResourceUcSecurableUcSecurableType.VOLUME,
                AppResourceUcSecurableUcSecurablePermission.READ_VOLUME,
            ),
        ),
    ]
    client.apps.create_and_wait(App("identity", resources=resources))
    manifest = """
        command: [python, app.py, --port, $DATABRICKS_APP_PORT, "${DATABRICKS_APP_PORT}", $HOME, "a b; exit"]
        env:
          - {name: PLAIN, value: 5}
          - {name: SECRET, valueFrom: the-secret}
          - {name: ENDPOINT, valueFrom: llm}
          - {name: WAREHOUSE, valueFrom: warehouse}
          - {name: JOB, valueFrom: nightly}
          - {name: CONFIGS, valueFrom: configs}
          - {name: DATABRICKS_HOST, value: elsewhere}
    """
    app = deploy(client, "identity", app_yaml=textwrap.dedent(manifest))
    seen = httpx.get(app.url).json()
    env = seen["env"]
    assert env["PLAIN"] == "5"
    assert env["SECRET"] == "höchst geheim"
    assert (env["ENDPOINT"], env["WAREHOUSE"], env["JOB"]) == ("chat", "abc", "17")
    assert env["CONFIGS"] == "/Volumes/main/agents/configs"
    assert seen["argv"] == ["app.py", "--port", *[env["DATABRICKS_APP_PORT"]] * 2, "$HOME", "a b; exit"]
    assert (env["DATABRICKS_HOST"], env["DATABRICKS_APP_NAME"]) == (workspace.host, "identity")
    assert env["DATABRICKS_CLIENT_ID"] == app.service_principal_client_id
    assert "SOTA_LOCAL_MODEL" not in env
    assert workspace.token not in env.values()
    principal = WorkspaceClient(
        host=env["DATABRICKS_HOST"],
        client_id=env["DATABRICKS_CLIENT_ID"],
        client_secret=env["DATABRICKS_CLIENT_SECRET"],
    )
    assert principal.current_user.me().user_name == app.service_principal_client_id

    source = AppDeployment(
        source_code_path=f"{HOME}/identity",
        command=["python3", "app.py", "own"],
        env_vars=[EnvVar("PLAIN", value="6"), EnvVar("SECRET", value_from="llm")],
    )
    client.apps.deploy_and_wait("identity", source)
    seen = httpx.get(app.url).json()
    assert (seen["argv"], seen["env"]["PLAIN"], seen["env"]["SECRET"]) == (["app.py", "own"], "6", "chat")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app_py": "import sys; print('no luck', file=sys.stderr); sys.exit(4)"}, "exit code 4.*no luck"),
        ({"app_yaml": "command: [no-such-program]"}, "exit code 127.*no-such-program"),
        ({"app_yaml": "command: python app.py"}, "command must be a list"),
        ({"app_yaml": "command: [unclosed"}, "not YAML"),
        ({"app_yaml": "- a"}, "must be a mapping"),
        ({"app_yaml": "comand: [python]"}, "not known: comand"),
        ({"app_yaml": "env: [{name: X}]"}, "env X must have exactly one"),
        ({"app_yaml": "env: [{value: X}]"}, "without a proper `name`"),
        ({"app_yaml": "env: [{name: X, valueFrom: nothing}]"}, "no resource 'nothing'"),
    ],
)
def test_a_deployment_that_cannot_run_fails_with_the_reason(workspace, files, message):
    client = workspace.client
    if "broken" not in [app.name for app in client.apps.list()]:
        client.apps.create_and_wait(App("broken"))
    folder = f"{HOME}/broken"
    client.workspace.mkdirs(folder)
    client.workspace.delete(folder, recursive=True)
    upload(client, "broken", **({"app_py": SERVER} | files))
    with pytest.raises(OperationFailed, match=f"(?s){message}"):
        client.apps.deploy_and_wait("broken", AppDeployment(source_code_path=folder))
    app = client.apps.get("broken")
    assert app.app_status.state == ApplicationState.CRASHED
    assert app.active_deployment is None
    assert app.pending_deployment is None


def test_an_app_that_never_listens_fails_and_the_one_before_goes_on(workspace):
    client = workspace.client
    app = deploy(client, "stubborn")
    pid = httpx.get(app.url).json()["pid"]
    upload(client, "stubborn", app_py=SERVER.replace("send_response(200)", "send_response(500)"))
    check = AppHealthCheck(path="/health")
    body = AppDeployment(source_code_path=f"{HOME}/stubborn", health_check=check).as_dict()
    body["health_check"]["timeout"] = "1s"
    deployment = workspace.http.post("/api/2.0/apps/stubborn/deployments", json=body).json()["deployment_id"]
    with pytest.raises(OperationFailed, match="answer /health without an error within 1 s"):
        client.apps.wait_get_deployment_app_succeeded("stubborn", deployment)
    assert client.apps.get("stubborn").app_status.state == ApplicationState.RUNNING
    assert httpx.get(app.url).json()["pid"] == pid
    states = [d.status.state for d in client.apps.list_deployments("stubborn", page_size=1)]
    assert states == [AppDeploymentState.FAILED, AppDeploymentState.SUCCEEDED]


def test_no_request_fails_while_a_new_version_is_deployed(workspace):
    client = workspace.client
    app = deploy(client, "rolling")
    old = httpx.get(app.url).json()["pid"]
    seen, stop = [], threading.Event()

    def ask() -> None:
        with httpx.Client() as http:
            while not stop.is_set():
                answer = http.get(app.url)
                seen.append(answer.json().get("version") or answer.text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: seen)
    deploy(client, "rolling", app_py=SERVER.replace("VERSION = 1", "VERSION = 2"))
    eventually(lambda: not psutil.pid_exists(old))
    stop.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {1, 2}
    assert httpx.get(app.url).json()["version"] == 2


def test_an_app_that_crashes_is_started_again(workspace):
    app = deploy(workspace.client, "crashing")
    pid = httpx.get(app.url).json()["pid"]
    answer = httpx.get(f"{app.url}/crash")
    assert (answer.status_code, answer.json()["error_code"]) == (502, "BAD_GATEWAY")
    eventually(lambda: "exit code 3" in workspace.client.apps.get("crashing").app_status.message)
    assert workspace.client.apps.get("crashing").app_status.state == ApplicationState.CRASHED
    eventually(lambda: httpx.get(app.url).status_code == 200)
    again = httpx.get(app.url).json()["pid"]
    assert again != pid
    assert workspace.client.apps.get("crashing").app_status.state == ApplicationState.RUNNING
    assert workspace.client.apps.start_and_wait("crashing").app_status.running_instances == 1
    assert httpx.get(app.url).json()["pid"] == again
    with pytest.raises(httpx.HTTPStatusError):
        httpx.get(f"{app.url}/crash").raise_for_status()
    eventually(lambda: workspace.client.apps.get("crashing").app_status.state == ApplicationState.CRASHED)
    workspace.client.apps.start_and_wait("crashing")
    assert httpx.get(app.url).status_code == 200


def test_several_instances_take_turns(workspace):
    client = workspace.client
    client.apps.create_and_wait(App("pool", compute_min_instances=2, compute_max_instances=3))
    app = deploy(client, "pool")
    assert (app.compute_min_instances, app.compute_max_instances) == (2, 3)
    assert app.app_status.running_instances == 2
    assert len({httpx.get(app.url).json()["pid"] for _ in range(4)}) == 2


def test_a_killed_workspace_leaves_no_process_and_brings_its_apps_back(tmp_path):
    spawn = "import subprocess; worker = subprocess.Popen(['sleep', '600'])\n"
    server = spawn + SERVER.replace('"version": VERSION', '"version": VERSION, "worker": worker.pid')
    with start_workspace(tmp_path) as first:
        app = deploy(first.client, "phoenix", app_py=server)
        before = httpx.get(app.url).json()
        first.process.kill()
        first.process.wait()
    eventually(lambda: not psutil.pid_exists(before["pid"]) and not psutil.pid_exists(before["worker"]), 5)

    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    with sqlite3.connect(tmp_path / "state.db") as state:
        values = [innocent.pid, "DATABRICKS_CLIENT_ID", app.service_principal_client_id, 0]
        state.execute("INSERT INTO process_sessions VALUES (?, ?, ?, ?)", values)
    state.close()
    try:
        with start_workspace(tmp_path) as second:
            eventually(lambda: httpx.get(app.url).status_code == 200)
            after = httpx.get(app.url).json()
            assert after["pid"] != before["pid"]
            assert innocent.poll() is None
            status = second.client.apps.get("phoenix")
            assert (status.url, status.app_status.state) == (app.url, ApplicationState.RUNNING)
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(30) == 0
        assert not psutil.pid_exists(after["pid"])
        eventually(lambda: not psutil.pid_exists(after["worker"]))
    finally:
        innocent.communicate(b"\n")


def test_a_stopped_app_stays_stopped_after_a_restart(tmp_path):
    with start_workspace(tmp_path) as first:
        app = deploy(first.client, "resting")
        first.client.apps.stop_and_wait("resting")
    with start_workspace(tmp_path) as second:
        assert second.client.apps.get("resting").compute_status.state == ComputeState.STOPPED
        assert httpx.get(app.url).status_code == 503
        second.client.apps.start_and_wait("resting")
        assert httpx.get(app.url).status_code == 200


def test_what_an_app_cannot_be(workspace):
    client = workspace.client
    for name in ("Upper", "-x", "x_y", "x" * 31, "ä", "", "../x"):
        with pytest.raises(InvalidParameterValue, match="name"):
            client.apps.create(App(name))
    client.apps.create_and_wait(App("taken"))
    with pytest.raises(ResourceAlreadyExists):
        client.apps.create(App("taken"))
    for settings in ({"telemetry_export_destinations": [{}]}, {"user_api_scopes": ["sql"]}, {"space": "x"}):
        answer = workspace.http.post("/api/2.0/apps", json={"name": "refused"} | settings)
        assert answer.status_code == 501
        assert next(iter(settings)) in answer.json()["message"]
    for settings in (
        {"compute_size": "TINY"},
        {"compute_min_instances": 2},
        {"compute_min_instances": 3, "compute_max_instances": 2},
        {"compute_min_instances": "2", "compute_max_instances": 2},
        {"resources": {}},
        {"resources": [{"name": "x"}]},
        {"resources": [{"name": "x", "secret": {"scope": "y"}}]},
        {"resources": [{"name": "x", "job": {"id": "1"}}, {"name": "x", "job": {"id": "2"}}]},
    ):
        answer = workspace.http.post("/api/2.0/apps", json={"name": "refused"} | settings)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), settings
    assert "refused" not in [app.name for app in client.apps.list(page_size=2)]


def test_what_cannot_be_deployed(workspace):
    client = workspace.client
    client.apps.create_and_wait(App("idle"))
    with pytest.raises(ResourceDoesNotExist, match="nowhere"):
        client.apps.deploy("idle", AppDeployment(source_code_path="/Shared/nowhere"))
    with pytest.raises(InvalidParameterValue, match="source_code_path"):
        client.apps.deploy("idle", AppDeployment())
    with pytest.raises(NotImplemented, match="SNAPSHOT"):
        client.apps.deploy("idle", AppDeployment(source_code_path="/Shared", mode=AppDeploymentMode.AUTO_SYNC))
    with pytest.raises(NotFound):
        client.apps.deploy("no-such-app", AppDeployment(source_code_path="/Shared"))
    with pytest.raises(NotFound):
        client.apps.get_deployment("idle", "none")


def test_an_app_on_its_way_out_still_finds_its_workspace(tmp_path):
    farewell = textwrap.dedent("""
        import io, signal
        from databricks.sdk import WorkspaceClient

        def leave(*_):
            WorkspaceClient().files.upload("/Volumes/main/default/last/words", io.BytesIO(b"bye"))
            sys.exit(0)

        signal.signal(signal.SIGTERM, leave)
        print("serving version",""")
    with start_workspace(tmp_path) as first:
        client = first.client
        client.volumes.create("main", "default", "last", VolumeType.MANAGED)
        deploy(client, "leaving", app_py=SERVER.replace('print("serving version",', farewell))
    with start_workspace(tmp_path) as second:
        assert second.client.files.download("/Volumes/main/default/last/words").contents.read() == b"bye"


def test_an_update_replaces_what_the_user_set(workspace):
    client = workspace.client
    app = client.apps.create_and_wait(App("changing", description="one"))
    app.description = "two"
    assert client.apps.update("changing", app).description == "two"
    with pytest.raises(InvalidParameterValue, match="renamed"):
        client.apps.update("changing", App("other"))


def test_the_state_is_the_owners_alone(workspace):
    for name in ("state.db", "state.db-wal", "identity.json"):
        assert (workspace.root / name).stat().st_mode & 0o077 == 0

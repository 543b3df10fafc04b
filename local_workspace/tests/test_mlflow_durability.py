"""What MLflow was told survives kill -9 of its engine and of the workspace; half a model is never a model."""

import os
import socket
import time

import httpx
import psutil

from local_workspace.tests.conftest import Running, start_workspace

API = "/api/2.0/mlflow"
UC = f"{API}/unity-catalog"
FILE = "/api/2.0/fs/files/Models/main/default/half/1/MLmodel"


def engine(running: Running) -> psutil.Process:
    """The process of the tracking server."""
    return running.engine("local_workspace.mlflow.engine")


def half_an_upload(running: Running) -> socket.socket:
    """A connection on which a file was begun, and not ended."""
    address = httpx.URL(running.host)
    connection = socket.create_connection((address.host, address.port))
    head = f"PUT {FILE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {running.token}\r\ncontent-length: 9000000\r\n\r\n"
    connection.sendall(head.encode() + b"x" * 4_000_000)
    return connection


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    with start_workspace(tmp_path) as running:
        http = running.http
        experiment = http.post(f"{API}/experiments/create", json={"name": "/Shared/kept"}).json()["experiment_id"]
        run = http.post(f"{API}/runs/create", json={"experiment_id": experiment}).json()["run"]["info"]["run_id"]
        artifact = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{experiment}/Runs/{run}/artifacts/a.txt"
        http.put(artifact, content=b"kept").raise_for_status()
        http.post(f"{API}/runs/log-parameter", json={"run_id": run, "key": "p", "value": "1"}).raise_for_status()

        killed = engine(running)
        killed.kill()
        psutil.wait_procs([killed], 10)
        deadline = time.monotonic() + 30
        metric = {"run_id": run, "key": "m", "value": 0.5, "timestamp": 1, "step": 0}
        while (answer := http.post(f"{API}/runs/log-metric", json=metric)).status_code == 503:
            assert answer.headers["retry-after"] == "1" and time.monotonic() < deadline
        assert answer.status_code == 200
        port = next(c.laddr.port for c in engine(running).net_connections() if c.status == psutil.CONN_LISTEN)
        assert httpx.get(f"http://127.0.0.1:{port}{API}/experiments/search").status_code == 403

        prompt = f"{UC}/prompts/main.default.kept"
        http.post(f"{UC}/prompts", json={"name": "main.default.kept"}).raise_for_status()
        http.post(f"{prompt}/versions", json={"prompt_version": {"template": '"kept"'}}).raise_for_status()
        http.post(f"{prompt}/aliases/production", json={"version": "1"}).raise_for_status()
        http.post(f"{UC}/registered-models/create", json={"name": "main.default.half"}).raise_for_status()
        http.post(f"{UC}/model-versions/create", json={"name": "main.default.half"}).raise_for_status()
        with half_an_upload(running):
            os.kill(running.process.pid, 9)
            running.process.wait(10)
    with start_workspace(tmp_path) as running:
        http = running.http
        found = http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
        assert [(p["key"], p["value"]) for p in found["params"]] == [("p", "1")]
        assert [(m["key"], m["value"]) for m in found["metrics"]] == [("m", 0.5)]
        assert http.get(artifact).content == b"kept"
        kept = http.get(f"{prompt}/versions/by-alias/production").json()
        assert (kept["version"], kept["template"]) == ("1", '"kept"')
        half = {"name": "main.default.half", "version": "1"}
        version = http.get(f"{UC}/model-versions/get", params=half).json()["model_version"]
        assert version["status"] == "PENDING_REGISTRATION"
        assert http.get(FILE).status_code == 404
        assert http.post(f"{UC}/model-versions/finalize", json=half).status_code == 400
        assert not list((tmp_path / "model_uploads").iterdir())

"""The `serve` command: one process per root, and clear errors instead of tracebacks."""

import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from local_workspace import errors
from local_workspace.tests.conftest import Running, start_workspace


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `serve` until it gives up by itself."""
    command = [sys.executable, "-m", "local_workspace", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_ready_line_names_where_to_connect(workspace: Running) -> None:
    assert set(workspace.address) == {"host", "token", "spark_remote", "zerobus"}


def test_one_root_is_served_once(workspace: Running) -> None:
    second = serve("--root", str(workspace.root))
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"is served already, by process {workspace.process.pid}" in second.stderr
    assert workspace.client.current_user.me().user_name


def test_root_is_free_again_after_a_kill(tmp_path: Path) -> None:
    with start_workspace(tmp_path) as first:
        token = first.token
        first.process.kill()
        with start_workspace(tmp_path) as second:
            assert second.token == token
            assert second.client.current_user.me().user_name


def test_a_root_that_was_copied_or_moved_has_its_own_tables(tmp_path: Path) -> None:
    def sql(running: Running, statement: str) -> list[list[str]]:
        warehouse = running.http.get("/api/2.0/sql/warehouses").json()["warehouses"][0]["id"]
        body = {"statement": statement, "warehouse_id": warehouse, "wait_timeout": "50s"}
        done = running.http.post("/api/2.0/sql/statements", json=body).json()
        assert done["status"] == {"state": "SUCCEEDED"}
        return (done.get("result") or {}).get("data_array") or []

    first, copy, moved = tmp_path / "first", tmp_path / "copy", tmp_path / "moved"
    with start_workspace(first) as running:
        sql(running, "CREATE TABLE main.default.kept AS SELECT 1 AS a")
    shutil.copytree(first, copy)
    with start_workspace(copy) as running:
        assert sql(running, "SELECT a FROM main.default.kept") == [["1"]]
        sql(running, "INSERT INTO main.default.kept VALUES (2)")
        running.client.tables.delete("main.default.kept")
    first.rename(moved)
    with start_workspace(moved) as running:
        assert sql(running, "SELECT a FROM main.default.kept") == [["1"]]


def test_root_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        refused = serve("--root", str(root))
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"--root {root} cannot be used: ")


@pytest.mark.parametrize("port", ["99999", "-1", "none"])
def test_port_out_of_range(port: str, tmp_path: Path) -> None:
    refused = serve("--root", str(tmp_path), "--port", port)
    assert refused.returncode == 2
    assert "--port" in refused.stderr


def test_port_in_use(workspace: Running, tmp_path: Path) -> None:
    port = workspace.host.rsplit(":", 1)[1]
    refused = serve("--root", str(tmp_path), "--port", port)
    assert refused.returncode == 1
    assert refused.stderr == f"port {port} of 127.0.0.1 is in use: choose another --port\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), "INSERT"], ids=["file", "state"])
def test_a_full_disk_is_named(error: OSError | str) -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    def write() -> None:
        if isinstance(error, OSError):
            raise error
        with closing(sqlite3.connect(":memory:")) as state:
            state.execute("CREATE TABLE t (a)")
            state.execute("PRAGMA max_page_count = 2")
            state.execute("INSERT INTO t VALUES (zeroblob(100000))")

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.json()["error_code"]) == (507, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/api/2.0/secrets/scopes/create", "application/json"),
        ("/oidc/v1/token", "application/x-www-form-urlencoded"),
        ("/ui/sign-in", "application/x-www-form-urlencoded"),
    ],
)
def test_a_long_body_is_not_kept(workspace: Running, path: str, content_type: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(256):
            yield b"x" * (1 << 20)

    process = psutil.Process(workspace.process.pid)
    before = process.memory_info().rss
    answer = workspace.http.post(path, content=body(), headers={"content-type": content_type})
    assert answer.status_code in (400, 413)
    assert process.memory_info().rss < before + (128 << 20)

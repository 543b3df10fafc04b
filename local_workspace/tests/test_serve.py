"""The `serve` command: one process per root, and clear errors instead of tracebacks."""

import subprocess
import sys
from pathlib import Path

import pytest

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

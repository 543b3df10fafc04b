"""The command line: one workspace per folder, one line per error, exit codes that mean something."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from databricks.sdk import WorkspaceClient

from nbs_tests.house import ROOT
from nbs_tests.processes import WEIGHTS

COMMAND = [sys.executable, "-m", "lib.cli"]
CLEAN = {
    name: value for name, value in os.environ.items() if not name.startswith(("DATABRICKS_", "SPARK_", "ZEROBUS_"))
}


def sota(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`sota-deploy` with these arguments, in an environment that knows no workspace."""
    given = CLEAN | {"SOTA_WEIGHTS": str(WEIGHTS), "SOTA_LOCAL_MODEL": "smollm2", "COLUMNS": "200"} | environment
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, env=given, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a running workspace."""
    root = tmp_path_factory.mktemp("local")
    started = sota("local", "start", "--root", str(root))
    assert started.returncode == 0, started.stderr
    yield root
    sota("local", "stop", "--root", str(root))


def record(root: Path) -> dict[str, str]:
    return json.loads((root / "server.json").read_text())


def test_a_started_workspace_says_where_it_is_and_keeps_its_token_to_its_owner(root: Path):
    told = sota("local", "status", "--root", str(root))
    assert told.returncode == 0
    assert record(root)["host"] in told.stdout
    assert "sota-deploy local env" in told.stdout
    assert record(root)["token"] not in told.stdout
    assert stat.S_IMODE((root / "server.json").stat().st_mode) == 0o600


def test_starting_it_twice_names_the_one_that_runs(root: Path):
    again = sota("local", "start", "--root", str(root))
    assert again.returncode == 1
    assert f"runs already at {record(root)['host']} (pid {record(root)['pid']}" in again.stderr
    assert httpx.get(record(root)["host"] + "/.well-known/databricks-config").is_success


def test_its_environment_points_the_genuine_client_at_it(root: Path):
    lines = sota("local", "env", "--root", str(root)).stdout
    shell = ["bash", "-c", f"{lines}\nenv"]
    shown = subprocess.run(shell, capture_output=True, text=True, check=True, env=CLEAN).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    client = WorkspaceClient(host=found["DATABRICKS_HOST"], token=found["DATABRICKS_TOKEN"], auth_type="pat")
    assert client.current_user.me().user_name
    assert found["SPARK_REMOTE"].startswith("sc://127.0.0.1:")


def test_stop_ends_the_process_and_may_be_repeated(tmp_path: Path):
    assert sota("local", "start", "--root", str(tmp_path)).returncode == 0
    running = record(tmp_path)
    assert sota("local", "stop", "--root", str(tmp_path)).stdout.strip() == "stopped"
    assert not psutil.pid_exists(running["pid"]) or psutil.Process(running["pid"]).status() == psutil.STATUS_ZOMBIE
    again = sota("local", "stop", "--root", str(tmp_path))
    assert (again.returncode, again.stdout.strip()) == (0, "no local workspace is running")
    told = sota("local", "status", "--root", str(tmp_path))
    assert told.returncode == 1
    assert "sota-deploy local start" in told.stderr


def test_a_record_of_another_process_is_not_believed(tmp_path: Path):
    """After a crash the process id may be somebody else's: it must survive `stop`."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left_over = {"host": "http://127.0.0.1:9", "token": "t", "spark_remote": "", "zerobus": "", "pid": other.pid}
    (tmp_path / "server.json").write_text(json.dumps(left_over))
    assert sota("local", "stop", "--root", str(tmp_path)).returncode == 0
    assert other.poll() is None
    other.communicate(b"\n")


def test_a_workspace_that_cannot_start_says_why(tmp_path: Path):
    failed = sota("local", "start", "--root", str(tmp_path), SOTA_LOCAL_MODEL="gpt-9")
    assert failed.returncode == 1
    assert "SOTA_LOCAL_MODEL=gpt-9: unknown model" in failed.stderr
    assert not (tmp_path / "server.json").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (["serve"], {"SOTA_TARGET": "mars"}, 1, "SOTA_TARGET=mars"),
        (["serve"], {}, 1, "sota-deploy local start"),
        (["plan"], {"DATABRICKS_HOST": "http://127.0.0.1:9", "DATABRICKS_TOKEN": "t"}, 1, "127.0.0.1:9"),
        (["demo"], {"SOTA_EXAMPLE": "nowhere.demo:run"}, 1, "example = nowhere.demo:run"),
        (["demo", "--transactions", "/no/such/file.csv"], {}, 2, "/no/such/file.csv"),
        (["launch"], {}, 2, "No such command 'launch'"),
    ],
)
def test_an_error_is_told_without_a_traceback(arguments: list[str], environment: dict, code: int, told: str):
    failed = sota(*arguments, **environment)
    assert failed.returncode == code, failed.stderr
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr


def test_help_names_every_command():
    shown = sota("--help").stdout
    assert all(name in shown for name in ("demo", "serve", "local", "setup", "plan", "apply", "verify"))
    assert all(name in shown for name in ("prompts", "optimize"))


def test_the_command_starts_without_what_only_its_work_needs():
    """`--help` in well under a second: the SDK alone takes longer to import."""
    heavy = ("databricks", "pandas", "scipy", "mlflow", "dspy", "textgrad")
    program = f"import lib.cli, sys; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_release_is_staged_for_the_bundle_and_nothing_else_is_overwritten(tmp_path: Path):
    folder = tmp_path / "app"
    for _ in range(2):  # the second time in place of the first
        told = sota("stage", str(folder), SOTA_TARGET="dev")
        assert told.returncode == 0, told.stderr
    assert {"app.yaml", "requirements.txt", "settings.ini", "app/main.py", "lib/context.py"} <= {
        str(path.relative_to(folder)) for path in folder.rglob("*")
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused = sota("stage", str(tmp_path / "mine"))
    assert refused.returncode == 1
    assert "holds something that is not a release" in refused.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_missing_extra_is_named(tmp_path: Path, environment: dict[str, str]):
    (tmp_path / "scipy.py").write_text("raise ModuleNotFoundError(\"No module named 'scipy'\", name='scipy')")
    done = sota("optimize", "dspy", PYTHONPATH=str(tmp_path), **environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "scipy is not installed here: pip install '.[optimize,notebooks]'" in done.stderr

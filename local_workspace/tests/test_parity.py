"""The parity report says what the routes and the tests say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from databricks.sdk.version import __version__ as SDK_VERSION

from local_workspace.parity import operations, report
from local_workspace.parity.clients import CLIENTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> list[report.Row]:
    return report.current()


def test_what_is_not_refused_names_a_test_that_calls_it(rows):
    without = [f"{r.operation.name} ({r.operation.method} {r.operation.path})" for r in rows if r.claims and not r.test]
    assert not without, "call them in a test, then `make parity`"


def test_the_named_tests_exist(rows):
    for node in {row.test for row in rows if row.test} | {report.TESTS + c.test for c in CLIENTS if "::" in c.test}:
        file, *_, name = node.split("::")
        assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{node}: run `make parity`"


def test_what_no_route_has_is_refused_with_its_name(workspace):
    answer = workspace.http.post("/api/2.0/genie/spaces", json={})
    assert answer.status_code == 501
    assert answer.json()["error_code"] == "NOT_IMPLEMENTED"
    assert "genie.create_space" in answer.json()["message"]


def test_the_committed_report_is_the_one_that_is_made_now(rows):
    assert report.REPORT.read_text() == report.markdown(rows), "run `make parity`"


def test_the_operations_are_those_of_the_sdk_that_is_installed():
    assert json.loads(operations.DATA.read_text())["databricks-sdk"] == SDK_VERSION, "run `make parity`"


def test_the_command_prints_one_service_and_writes_the_report(tmp_path):
    page = tmp_path / "parity.md"
    command = [sys.executable, "-m", "local_workspace", "parity", "--service", "secrets", "--write", str(page)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "200"})
    assert "secrets.put_secret" in shown.stdout
    assert "genie" not in shown.stdout
    assert page.read_text() == report.REPORT.read_text()


def test_a_service_that_is_not_there_is_an_error():
    command = [sys.executable, "-m", "local_workspace", "parity", "--service", "nothing"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "nothing" in answer.stderr

"""Databricks Connect, which cannot share an environment with pyspark: it is installed into one made for the test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

CLIENT = Path(__file__).with_name("databricks_connect_client.py")
PACKAGES = ("databricks-connect==16.1.7", "pyarrow<23", "protobuf>=6.33.5,<7")


def uv(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([find_uv_bin(), *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment with Databricks Connect."""
    folder = tmp_path_factory.mktemp("databricks_connect")
    assert uv("venv", "--python", sys.executable, str(folder)).returncode == 0
    interpreter = folder / "bin" / "python"
    installed = uv("pip", "install", "--python", str(interpreter), *PACKAGES)
    if installed.returncode:
        anything = uv("pip", "install", "--dry-run", "--no-cache", "--python", str(interpreter), "packaging")
        if anything.returncode:
            pytest.skip(f"no package index can be reached to install {PACKAGES[0]} from")
        pytest.fail(installed.stderr)
    return interpreter


def test_the_genuine_client_works_by_spark_remote(workspace, python):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(python.parent),
        "SPARK_REMOTE": workspace.address["spark_remote"],
    }
    ran = subprocess.run([python, CLIENT], env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["rows"] == [[1, "Ada"], [2, "Alan"], [3, None]]
    assert found["operations"][-1] == "CREATE TABLE"
    assert found["view"] == 3
    assert found["user"] == workspace.client.current_user.me().user_name
    assert found["udf"] == [0, 2, 4]
    assert found["pandas"] == ["id", "name"]
    assert found["here"] == ["main", "dbconnect"]
    assert "UNRESOLVED_COLUMN" in found["error"]
    assert "Warning" not in ran.stderr

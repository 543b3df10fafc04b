"""`dbutils` outside of a cluster: through a client, by `databricks.sdk.runtime`, and with a cluster behind it."""

import json
import subprocess
import sys

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, NotFound
from databricks.sdk.service.catalog import VolumeType

VOLUME = "/Volumes/main/default/dbutils_vol"


@pytest.fixture(scope="module")
def volume(workspace) -> str:
    workspace.client.volumes.create("main", "default", "dbutils_vol", VolumeType.MANAGED)
    yield VOLUME
    workspace.client.volumes.delete("main.default.dbutils_vol")


@pytest.mark.parametrize("place", ["/tmp/dbutils", VOLUME])  # noqa: S108 - a path of DBFS
def test_files(workspace, volume, place, tmp_path):
    fs = workspace.client.dbutils.fs
    fs.mkdirs(f"{place}/d")
    fs.put(f"{place}/d/a", "größe" * 20_000, True)
    assert fs.head(f"{place}/d/a", 7) == "größe"
    assert [(f.path, f.name, f.size) for f in fs.ls(f"{place}/d")] == [(f"{place}/d/a", "a", 140_000)]
    with pytest.raises(DatabricksError):
        fs.put(f"{place}/d/a", "again")
    fs.cp(f"{place}/d", f"{place}/e", recurse=True)
    fs.mv(f"{place}/e", f"file:{tmp_path}/e", recurse=True)
    assert len((tmp_path / "e" / "a").read_text()) == 100_000
    with pytest.raises(NotFound):
        fs.ls(f"{place}/e")
    with pytest.raises(OSError, match="recursive"):
        fs.rm(f"{place}/d")
    fs.rm(f"{place}/d", recurse=True)
    with pytest.raises(NotFound):
        fs.ls(f"{place}/d")


def test_secrets_widgets_and_task_values(workspace):
    dbutils = workspace.client.dbutils
    workspace.client.secrets.create_scope("dbu")
    workspace.client.secrets.put_secret("dbu", "k", string_value="größe")
    assert dbutils.secrets.get("dbu", "k") == "größe"
    assert [key.key for key in dbutils.secrets.list("dbu")] == ["k"]
    assert "dbu" in [scope.getName() for scope in dbutils.secrets.listScopes()]
    dbutils.jobs.taskValues.set("k", 1)
    assert dbutils.jobs.taskValues.get("task", "k", debugValue=7) == 7
    with pytest.raises(TypeError, match="debugValue"):
        dbutils.jobs.taskValues.get("task", "k")


def test_the_runtime_module_in_a_process_with_the_environment(workspace, volume):
    code = f"""
import json
from databricks.sdk.runtime import dbutils
dbutils.fs.put("{volume}/from_child", "x", True)
dbutils.widgets.text("w", "default")
print(json.dumps([dbutils.fs.head("{volume}/from_child"), dbutils.widgets.get("w"), len(dbutils.fs.ls("/")) > 1]))
"""
    environment = {"DATABRICKS_HOST": workspace.host, "DATABRICKS_TOKEN": workspace.token, "PATH": "/usr/bin:/bin"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == ["x", "default", True]


def test_what_needs_a_cluster_is_run_on_it(workspace):
    clusters = workspace.client.clusters
    cluster = clusters.create(spark_version="16.4.x-scala2.12", num_workers=0, cluster_name="dbutils").cluster_id
    clusters.delete_and_wait(cluster)
    client = WorkspaceClient(host=workspace.host, token=workspace.token, cluster_id=cluster)
    mounts = client.dbutils.fs.mounts()
    assert [mount.mountPoint for mount in mounts] == ["/", "/Volumes"]
    assert client.dbutils.fs.refreshMounts() is True
    assert clusters.get(cluster).state.value == "RUNNING"
    with pytest.raises(DatabricksError, match=r"does not have dbutils\.fs\.mount"):
        client.dbutils.fs.mount("s3a://bucket", "/mnt/bucket")
    with pytest.raises(ValueError, match="cluster_id"):
        workspace.client.dbutils.fs.mounts()
    clusters.permanent_delete(cluster)

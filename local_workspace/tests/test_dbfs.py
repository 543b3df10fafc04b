"""DBFS with the genuine SDK."""

import base64
import io
import os

import pytest
from databricks.sdk.errors import (
    BadRequest,
    DatabricksError,
    InvalidParameterValue,
    NotFound,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)

from local_workspace.tests.conftest import start_workspace

API = "/api/2.0/dbfs"


@pytest.fixture
def folder(workspace, request) -> str:
    """A directory of the test's own."""
    path = f"/tmp/{request.node.name}"  # noqa: S108 - a path of DBFS
    workspace.client.dbfs.mkdirs(path)
    return path


def test_a_file_goes_up_in_blocks_and_comes_down(workspace, folder):
    dbfs, body = workspace.client.dbfs, os.urandom(2_500_000)
    dbfs.upload(f"{folder}/a/b/größe #1", io.BytesIO(body))
    assert dbfs.download(f"{folder}/a/b/größe #1").read() == body
    status = dbfs.get_status(f"dbfs:{folder}/a/b/größe #1")
    assert (status.path, status.is_dir, status.file_size) == (f"{folder}/a/b/größe #1", False, len(body))
    assert status.modification_time > 1_600_000_000_000
    assert dbfs.get_status(folder).is_dir is True


def test_put_read_and_list(workspace, folder):
    dbfs = workspace.client.dbfs
    dbfs.put(f"{folder}/f", contents=base64.b64encode(b"0123456789").decode())
    part = dbfs.read(f"{folder}/f", offset=8, length=5)
    assert (part.bytes_read, base64.b64decode(part.data)) == (2, b"89")
    assert dbfs.read(f"{folder}/f", offset=99).bytes_read == 0
    with pytest.raises(ResourceAlreadyExists, match="A file or directory already exists"):
        dbfs.put(f"{folder}/f", contents="")
    dbfs.put(f"{folder}/f", contents="", overwrite=True)
    assert dbfs.get_status(f"{folder}/f").file_size == 0
    form = {"path": f"{folder}/form", "overwrite": "true"}
    big = bytes(3 << 20)
    assert workspace.http.post(f"{API}/put", data=form, files={"contents": big}).json() == {}
    assert dbfs.get_status(f"{folder}/form").file_size == len(big)
    dbfs.mkdirs(f"{folder}/d")
    assert [f.path for f in dbfs.list(folder)] == [f"{folder}/d", f"{folder}/f", f"{folder}/form"]
    listed = workspace.http.get(f"{API}/list", params={"path": f"{folder}/f"}).json()["files"]
    assert [f["path"] for f in listed] == [f"{folder}/f"]
    assert {"/FileStore", "/user"} <= {f.path for f in dbfs.list("/")}


def test_a_file_in_the_making_is_not_seen(workspace, folder):
    dbfs = workspace.client.dbfs
    dbfs.put(f"{folder}/f", contents=base64.b64encode(b"old").decode())
    handle = dbfs.create(f"{folder}/f", overwrite=True).handle
    dbfs.add_block(handle, base64.b64encode(b"new").decode())
    assert dbfs.download(f"{folder}/f").read() == b"old"
    dbfs.close(handle)
    assert dbfs.download(f"{folder}/f").read() == b"new"
    for call in (lambda: dbfs.close(handle), lambda: dbfs.add_block(handle, ""), lambda: dbfs.close(7)):
        with pytest.raises(ResourceDoesNotExist, match="no open stream"):
            call()
    late = dbfs.create(f"{folder}/late").handle
    dbfs.put(f"{folder}/late", contents="")
    with pytest.raises(ResourceAlreadyExists):
        dbfs.close(late)


def test_moving_and_deleting(workspace, folder):
    dbfs = workspace.client.dbfs
    for name in ("d/a", "d/e/b", "f"):
        dbfs.upload(f"{folder}/{name}", io.BytesIO(name.encode()))
    dbfs.move(f"{folder}/d", f"{folder}/x/y")
    assert [f.path for f in dbfs.list(f"{folder}/x", recursive=True)] == [f"{folder}/x/y/a", f"{folder}/x/y/e/b"]
    with pytest.raises(ResourceAlreadyExists):
        dbfs.move(f"{folder}/f", f"{folder}/x/y/a")
    with pytest.raises(ResourceDoesNotExist):
        dbfs.move(f"{folder}/nothing", f"{folder}/g")
    with pytest.raises(InvalidParameterValue, match="itself"):
        dbfs.move(f"{folder}/x", f"{folder}/x/y/z")
    with pytest.raises(BadRequest, match="non-empty directory") as refused:
        workspace.client.api_client.do("POST", f"{API}/delete", body={"path": f"{folder}/x"})
    assert refused.value.error_code == "IO_ERROR"
    dbfs.delete(f"{folder}/x", recursive=True)
    dbfs.delete(f"{folder}/f")
    dbfs.delete(f"{folder}/f")
    assert list(dbfs.list(folder)) == []
    with pytest.raises(NotFound, match="No file or directory exists"):
        dbfs.get_status(f"{folder}/f")
    with pytest.raises(InvalidParameterValue, match="root"):
        dbfs.delete("/", recursive=True)


def test_copying_between_dbfs_volumes_and_this_machine(workspace, folder, tmp_path):
    w, fs = workspace.client, workspace.client.dbutils.fs
    made = workspace.http.post(
        "/api/2.1/unity-catalog/volumes",
        json={"catalog_name": "main", "schema_name": "default", "name": "dbfs_mix", "volume_type": "MANAGED"},
    )
    assert made.status_code == 200
    volume = "/Volumes/main/default/dbfs_mix"
    (tmp_path / "up").mkdir()
    for name in ("1", "2"):
        (tmp_path / "up" / name).write_text(name)
    fs.cp(f"file:{tmp_path}/up", f"{folder}/down", recurse=True)
    fs.cp(f"{folder}/down", f"{volume}/d", recurse=True)
    assert [f.name for f in fs.ls(f"{volume}/d")] == ["1", "2"]
    fs.mv(f"{volume}/d", f"file:{tmp_path}/back", recurse=True)
    assert (tmp_path / "back" / "2").read_text() == "2"
    w.dbfs.move_(f"{folder}/down", f"file:{tmp_path}/again", recursive=True)
    assert (tmp_path / "again" / "1").read_text() == "1"
    assert not w.dbfs.exists(f"{folder}/down")
    w.volumes.delete("main.default.dbfs_mix")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "relative",
        "/../etc/passwd",
        "/a/../../x",
        "/.",
        "/a\0b",
        "/" + "x" * 256,
        "/" + "a/" * 2000,
        "/Volumes/m/d/v",
    ],
)
def test_a_path_that_is_none_is_refused(workspace, path):
    for method, name in (("GET", "get-status"), ("GET", "list"), ("GET", "read")):
        assert workspace.http.request(method, f"{API}/{name}", params={"path": path}).status_code == 400
    for name in ("mkdirs", "put", "create", "delete"):
        assert workspace.http.post(f"{API}/{name}", json={"path": path}).status_code == 400
    assert workspace.http.post(f"{API}/move", json={"source_path": path, "destination_path": "/b"}).status_code == 400


def test_nothing_is_reached_through_a_link(workspace, folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    link = workspace.root / "dbfs" / folder.lstrip("/") / "link"
    link.symlink_to(tmp_path)
    dbfs = workspace.client.dbfs
    assert list(dbfs.list(folder)) == []
    for call in (
        lambda: dbfs.read(f"{folder}/link/secret"),
        lambda: dbfs.put(f"{folder}/link/new", contents=""),
        lambda: list(dbfs.list(f"{folder}/link")),
        lambda: dbfs.move(f"{folder}/link/secret", f"{folder}/mine"),
        lambda: workspace.client.api_client.do("POST", f"{API}/delete", body={"path": f"{folder}/link/secret"}),
    ):
        with pytest.raises(InvalidParameterValue, match="symbolic link"):
            call()
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_limits_and_wrong_types(workspace, folder):
    dbfs = workspace.client.dbfs
    over = base64.b64encode(bytes((1 << 20) + 1)).decode()
    for call in (
        lambda: dbfs.put(f"{folder}/f", contents=over),
        lambda: dbfs.add_block(dbfs.create(f"{folder}/g").handle, over),
    ):
        with pytest.raises(DatabricksError) as refused:
            call()
        assert refused.value.error_code == "MAX_BLOCK_SIZE_EXCEEDED"
    with pytest.raises(DatabricksError) as refused:
        dbfs.read(folder, length=(1 << 20) + 1)
    assert refused.value.error_code == "MAX_READ_SIZE_EXCEEDED"
    for query in ({"path": folder}, {"path": folder, "offset": -1}, {"path": folder, "length": "x"}, {}):
        assert workspace.http.get(f"{API}/read", params=query).status_code == 400
    for name in ("put", "create", "add-block", "close", "mkdirs", "move", "delete"):
        for body in (b"", b"[]", b"{", b'{"path": 5, "handle": [], "overwrite": 3}'):
            assert workspace.http.post(f"{API}/{name}", content=body).status_code in (400, 404), (name, body)
    assert workspace.http.post(f"{API}/put", json={"path": f"{folder}/f", "contents": "%"}).status_code == 400
    assert workspace.http.post(f"{API}/put", data={"path": "/x"}, files={"other": b""}).status_code == 400
    dbfs.put(f"{folder}/file", contents="")
    for call in (lambda: dbfs.mkdirs(f"{folder}/file/d"), lambda: dbfs.put(f"{folder}/file/d", contents="")):
        with pytest.raises(ResourceAlreadyExists):
            call()


def test_kill_9_loses_nothing_and_leaves_nothing_half_written(tmp_path):
    with start_workspace(tmp_path) as first:
        first.client.dbfs.put("/kept", contents=base64.b64encode(b"1").decode())
        handle = first.client.dbfs.create("/half").handle
        first.client.dbfs.add_block(handle, base64.b64encode(b"2").decode())
        first.process.kill()
    with start_workspace(tmp_path) as second:
        assert second.client.dbfs.download("/kept").read() == b"1"
        assert not second.client.dbfs.exists("/half")
        assert list((tmp_path / "dbfs-uploads").iterdir()) == []

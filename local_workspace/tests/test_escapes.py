"""No path, however it is written, reads or writes outside of its root: Files API, DBFS and workspace tree."""

import http.client
import json
from pathlib import Path

import pytest
from databricks.sdk.service.catalog import VolumeType

SECRET = "identity.json"  # lies in the root of the workspace
UP = [
    "..",
    "%2e%2e",
    "%2E.",
    "%252e%252e",
    "..%2f..",
    "..%252f..",
    "%c0%ae%c0%ae",
    "..;",
    "..%00",
    "..\\..",
    "%ef%bc%8e%ef%bc%8e",
]
ODD = ["a%00b", "a%0ab%00", "x" * 256, "y/" * 2000, "%ff%fe", "~", "$HOME", "%"]


@pytest.fixture(scope="module")
def volume(workspace) -> Path:
    workspace.client.volumes.create("main", "default", "escapes", VolumeType.MANAGED)
    yield workspace.root / "volumes" / "main" / "default" / "escapes"
    workspace.client.volumes.delete("main.default.escapes")


@pytest.fixture
def outside(workspace, volume):
    """What lies outside of the roots that may be written, before and after."""
    roots = tuple(workspace.root / name for name in ("volumes/main/default/escapes", "dbfs", "workspace"))
    volatile = ("logs", "state.db", "statements", "mlflow", "lock", "contexts", "jobs", "calls")

    def seen() -> set[Path]:
        found = set(workspace.root.rglob("*")) | set(workspace.root.parent.glob(f"{SECRET}*"))
        inside = {p for p in found if any(p.is_relative_to(root) for root in roots)}
        return {p for p in found - inside if not any(part.startswith(volatile) for part in p.parts)}

    before = seen()
    yield
    assert seen() - before == set()


def send(workspace, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """A request whose path goes over the wire as it is written here."""
    host = workspace.host.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest(method, path.encode().decode("latin-1"), skip_host=False)
    connection.putheader("Authorization", f"Bearer {workspace.token}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("up", UP)
def test_upwards_in_the_files_api(workspace, volume, outside, up):
    token = workspace.token.encode()
    for depth in range(1, 8):
        for path in (f"{'/'.join([up] * depth)}/{SECRET}", f"a/{'/'.join([up] * depth)}/{SECRET}"):
            status, content = send(workspace, "GET", f"/api/2.0/fs/files/Volumes/main/default/escapes/{path}")
            assert 400 <= status < 500, (status, path)
            assert token not in content
            written, _ = send(workspace, "PUT", f"/api/2.0/fs/files/Volumes/main/default/escapes/{path}x", b"1")
            assert written in (204, 400, 404, 409), (written, path)
            for kind in ("directories", "files"):
                status, _ = send(workspace, "DELETE", f"/api/2.0/fs/{kind}/Volumes/main/default/escapes/{path}")
                assert 400 <= status < 500, (status, path)
    assert (workspace.root / SECRET).exists()


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_get_a_clear_answer_and_stay_inside(workspace, volume, outside, odd):
    status, content = send(workspace, "PUT", f"/api/2.0/fs/files/Volumes/main/default/escapes/{odd}", b"1")
    assert status in (204, 400), (status, content)
    if status == 400:
        assert json.loads(content)["message"]
    for api in ("dbfs/get-status?path=/", "workspace/get-status?path=/Shared/", "workspace/export?path=/Shared/"):
        status, content = send(workspace, "GET", f"/api/2.0/{api}{odd}")
        assert status in (400, 404), (status, api)
        assert json.loads(content)["message"]


@pytest.mark.parametrize("up", UP)
def test_upwards_in_dbfs_and_the_workspace_tree(workspace, outside, up):
    token = workspace.token.encode()
    for depth in range(1, 5):
        path = f"/{'/'.join([up] * depth)}/{SECRET}"
        for api in ("dbfs/read", "dbfs/list", "workspace/export", "workspace/list"):
            status, content = send(workspace, "GET", f"/api/2.0/{api}?path={path}")
            assert 400 <= status < 500, (status, api, path)
            assert token not in content
        content = {"path": f"{path}x", "contents": "MQ==", "content": "MQ==", "format": "RAW", "overwrite": True}
        for api in ("dbfs/put", "workspace/import", "dbfs/mkdirs", "workspace/mkdirs"):
            status, _ = send(workspace, "POST", f"/api/2.0/{api}", json.dumps(content).encode())
            assert status in (200, 400, 404), (status, api, path)
    assert (workspace.root / SECRET).exists()


def test_links_lead_nowhere(workspace, volume, outside, tmp_path):
    (tmp_path / "secret").write_text("SECRET")
    (volume / "link").symlink_to(tmp_path)
    (volume / "file").symlink_to(tmp_path / "secret")
    (volume / "loop").symlink_to(volume / "loop")
    base = "/api/2.0/fs/files/Volumes/main/default/escapes"
    for path in ("link/secret", "file", "loop", "link/../file"):
        for method, body in (("GET", None), ("HEAD", None), ("PUT", b"x"), ("DELETE", None)):
            status, content = send(workspace, method, f"{base}/{path}", body)
            assert 400 <= status < 500, (status, method, path)
            assert b"SECRET" not in content
    listed = send(workspace, "GET", base.replace("/files/", "/directories/"))
    names = {entry["name"] for entry in json.loads(listed[1])["contents"]}
    assert not names & {"link", "file", "loop"}
    assert [p.read_text() for p in tmp_path.iterdir()] == ["SECRET"]
    for name in ("link", "file", "loop"):
        (volume / name).unlink()


def test_names_differ_by_case_in_files_but_not_in_unity_catalog(workspace, volume):
    base = "/api/2.0/fs/files/Volumes"
    assert send(workspace, "PUT", f"{base}/main/default/escapes/Case", b"1")[0] == 204
    assert send(workspace, "GET", f"{base}/main/default/escapes/case")[0] == 404
    assert send(workspace, "GET", f"{base}/MAIN/Default/ESCAPES/Case") == (200, b"1")

"""The Files API with the genuine SDK."""

import io
import os
import threading

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import AlreadyExists, BadRequest, InvalidParameterValue, NotFound
from databricks.sdk.service.catalog import VolumeType


@pytest.fixture(scope="module")
def volume(workspace) -> str:
    """The path of a volume."""
    client = workspace.client
    client.catalogs.create("files_catalog")
    client.schemas.create("raw", "files_catalog")
    client.volumes.create("files_catalog", "raw", "landing", VolumeType.MANAGED)
    return "/Volumes/files_catalog/raw/landing"


def _read(client: WorkspaceClient, path: str) -> bytes:
    return client.files.download(path).contents.read()


def test_a_file_goes_up_and_comes_down_and_parents_are_made(workspace, volume):
    body = os.urandom(3 << 20)
    workspace.client.files.upload(f"{volume}/a/b/größe #1?.bin", io.BytesIO(body))
    assert _read(workspace.client, f"{volume}/a/b/größe #1?.bin") == body
    facts = workspace.client.files.get_metadata(f"{volume}/a/b/größe #1?.bin")
    assert facts.content_length == len(body)
    assert facts.last_modified.endswith("GMT")


def test_an_empty_file(workspace, volume):
    workspace.client.files.upload(f"{volume}/empty", io.BytesIO())
    assert _read(workspace.client, f"{volume}/empty") == b""


def test_overwrite_is_the_default_and_can_be_refused(workspace, volume):
    files = workspace.client.files
    files.upload(f"{volume}/twice", io.BytesIO(b"1"))
    files.upload(f"{volume}/twice", io.BytesIO(b"2"))
    with pytest.raises(AlreadyExists):
        files.upload(f"{volume}/twice", io.BytesIO(b"3"), overwrite=False)
    assert _read(workspace.client, f"{volume}/twice") == b"2"


def test_only_one_of_many_exclusive_uploads_wins(workspace, volume):
    answers = []

    def put(n: int) -> None:
        url = f"/api/2.0/fs/files{volume}/exclusive?overwrite=false"
        answers.append((workspace.http.put(url, content=str(n) * 2_000_000).status_code, n))

    threads = [threading.Thread(target=put, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [n for status, n in answers if status == 204]
    assert len(winners) == 1
    assert {status for status, _ in answers} == {204, 409}
    assert _read(workspace.client, f"{volume}/exclusive") == str(winners[0]).encode() * 2_000_000


def test_a_large_file_goes_up_in_parts(workspace, volume, tmp_path):
    body = os.urandom(1 << 20) * 53
    workspace.client.files.upload(f"{volume}/large", io.BytesIO(body))
    assert _read(workspace.client, f"{volume}/large") == body
    (tmp_path / "source").write_bytes(body)
    workspace.client.files.upload_from(f"{volume}/large2", str(tmp_path / "source"))
    workspace.client.files.download_to(f"{volume}/large2", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == body
    assert not list((workspace.root / "uploads").iterdir())


def test_parts_that_did_not_come_are_noticed(workspace, volume):
    url = f"/api/2.0/fs/files{volume}/missing-part"
    token = workspace.http.post(url, params={"action": "initiate-upload"}).json()["multipart_upload"]["session_token"]
    done = {"action": "complete-upload", "session_token": token}
    for parts in ([], [{"part_number": 1, "etag": "x"}], [{"part_number": "y"}], None, "parts"):
        assert workspace.http.post(url, params=done, json={"parts": parts}).status_code == 400
    other = f"/api/2.0/fs/files{volume}/elsewhere"
    assert workspace.http.post(other, params=done, json={"parts": []}).status_code == 400
    body = {"session_token": token, "path": f"{volume}/missing-part"}
    abort = workspace.http.post("/api/2.0/fs/create-abort-upload-url", json=body).json()["abort_upload_url"]["url"]
    assert workspace.http.delete(abort).status_code == 200
    assert workspace.http.post(url, params=done, json={"parts": []}).status_code == 404


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, None),
        ("bytes=3-1", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(workspace, volume, header, status, expected):
    url = f"/api/2.0/fs/files{volume}/digits"
    workspace.http.put(url, content=b"0123456789")
    answer = workspace.http.get(url, headers={"Range": header})
    assert answer.status_code == status
    if expected is not None:
        assert answer.content == expected


def test_a_download_can_ask_for_the_file_it_knows(workspace, volume):
    url = f"/api/2.0/fs/files{volume}/known"
    workspace.http.put(url, content=b"1")
    modified = workspace.http.head(url).headers["last-modified"]
    assert workspace.http.get(url, headers={"If-Unmodified-Since": modified}).status_code == 200
    old = "Mon, 01 Jan 2024 00:00:00 GMT"
    assert workspace.http.get(url, headers={"If-Unmodified-Since": old}).status_code == 412


def test_missing_files_directories_and_volumes(workspace, volume):
    files = workspace.client.files
    for call in (files.download, files.get_metadata, files.delete, files.get_directory_metadata):
        with pytest.raises(NotFound):
            call(f"{volume}/nowhere")
    with pytest.raises(NotFound):
        list(files.list_directory_contents(f"{volume}/nowhere"))
    with pytest.raises(NotFound, match="volume"):
        files.upload("/Volumes/files_catalog/raw/no_volume/x", io.BytesIO(b"1"))


def test_directories_are_listed_page_by_page_and_deleted_when_empty(workspace, volume):
    files = workspace.client.files
    files.create_directory(f"{volume}/listed/sub")
    files.create_directory(f"{volume}/listed/sub")
    for n in range(7):
        files.upload(f"{volume}/listed/f{n}", io.BytesIO(b"x" * n))
    entries = list(files.list_directory_contents(f"{volume}/listed", page_size=3))
    assert [e.name for e in entries] == [f"f{n}" for n in range(7)] + ["sub"]
    assert [e.file_size for e in entries][:7] == list(range(7))
    assert entries[-1].is_directory
    assert entries[0].path == f"{volume}/listed/f0"
    with pytest.raises(BadRequest, match="not empty"):
        files.delete_directory(f"{volume}/listed")
    files.delete_directory(f"{volume}/listed/sub")
    files.delete(f"{volume}/listed/f0")
    with pytest.raises(NotFound):
        files.download(f"{volume}/listed/f0")
    with pytest.raises(InvalidParameterValue):
        list(files.list_directory_contents(f"{volume}/listed", page_token="%%%"))
    assert {e.name for e in files.list_directory_contents(volume)} >= {"listed"}


def test_a_file_is_no_directory(workspace, volume):
    files = workspace.client.files
    files.upload(f"{volume}/plain", io.BytesIO(b"1"))
    files.create_directory(f"{volume}/folder")
    with pytest.raises(BadRequest):
        files.upload(f"{volume}/plain/below", io.BytesIO(b"1"))
    for overwrite in (True, False):
        with pytest.raises(AlreadyExists):
            files.upload(f"{volume}/folder", io.BytesIO(b"1"), overwrite=overwrite)
    with pytest.raises(AlreadyExists):
        files.create_directory(f"{volume}/plain")
    with pytest.raises(NotFound):
        files.delete(f"{volume}/folder")


@pytest.mark.parametrize("escape", ["%2e%2e/x", "..%2Fx", "a/%2e%2e/%2e%2e/x", "%2E/x", "x%00y", "n" * 256])
def test_no_path_leads_out_of_the_volume(workspace, volume, escape):
    for method in ("PUT", "GET", "DELETE"):
        assert workspace.http.request(method, f"/api/2.0/fs/files{volume}/{escape}").status_code == 400
    assert workspace.http.get(f"/api/2.0/fs/directories{volume}/{escape}").status_code == 400


def test_no_symbolic_link_leads_out_of_the_volume(workspace, volume, tmp_path):
    (tmp_path / "outside").write_text("outside")
    folder = workspace.root / "volumes" / "files_catalog" / "raw" / "landing"
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "links").symlink_to(tmp_path)
    for path in ("link", "links/outside"):
        with pytest.raises(InvalidParameterValue, match="symbolic link"):
            workspace.client.files.download(f"{volume}/{path}")
        with pytest.raises(InvalidParameterValue, match="symbolic link"):
            workspace.client.files.upload(f"{volume}/{path}", io.BytesIO(b"1"))
    assert "link" not in [e.name for e in workspace.client.files.list_directory_contents(volume)]
    assert (tmp_path / "outside").read_text() == "outside"


def test_an_upload_that_breaks_off_leaves_nothing(workspace, volume):
    def half():
        yield b"x" * (3 << 20)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        workspace.http.put(f"/api/2.0/fs/files{volume}/half", content=half())
    with pytest.raises(NotFound):
        workspace.client.files.get_metadata(f"{volume}/half")

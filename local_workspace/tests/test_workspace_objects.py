"""The workspace tree with the genuine SDK."""

import base64
import io
import json
import re
from urllib.parse import unquote

import pytest
from databricks.sdk.errors import (
    DatabricksError,
    InvalidParameterValue,
    NotImplemented,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

HOME = "/Users/developer@local.workspace"
NOTEBOOK = b"# Databricks notebook source\nprint(1)\n"


@pytest.fixture
def folder(workspace, request) -> str:
    """A directory of the test's own."""
    path = f"{HOME}/{request.node.name}"
    workspace.client.workspace.mkdirs(path)
    return path


def test_files_go_up_and_come_down_unchanged(workspace, folder):
    tree = workspace.client.workspace
    for name, body in {"data.bin": bytes(range(256)) * 9000, "empty": b"", "grüße #1.txt": b"x"}.items():
        tree.upload(f"{folder}/{name}", io.BytesIO(body), format=ImportFormat.RAW)
        assert tree.download(f"{folder}/{name}").read() == body
        assert base64.b64decode(tree.export(f"{folder}/{name}", format=ExportFormat.AUTO).content) == body
        status = tree.get_status(f"{folder}/{name}")
        assert (status.object_type, status.size) == (ObjectType.FILE, len(body))


def test_auto_tells_notebooks_from_files(workspace, folder):
    tree = workspace.client.workspace
    jupyter = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
    items = {
        "plain.py": b"print(1)",
        "source.py": NOTEBOOK,
        "query.sql": b"-- Databricks notebook source",
        "nb.ipynb": jupyter,
    }
    for name, body in items.items():
        tree.upload(f"{folder}/{name}", body, format=ImportFormat.AUTO)
    found = {o.path.rpartition("/")[2]: (o.object_type, o.language) for o in tree.list(folder)}
    assert found == {
        "plain.py": (ObjectType.FILE, None),
        "source": (ObjectType.NOTEBOOK, Language.PYTHON),
        "query": (ObjectType.NOTEBOOK, Language.SQL),
        "nb": (ObjectType.NOTEBOOK, Language.PYTHON),
    }
    assert tree.download(f"{folder}/source").read() == NOTEBOOK
    assert tree.download(f"{folder}/nb", format=ExportFormat.JUPYTER).read() == jupyter
    with pytest.raises(DatabricksError, match="Jupyter"):
        tree.upload(f"{folder}/bad.ipynb", b"[]", format=ImportFormat.AUTO)


def test_source_makes_a_notebook_and_needs_a_language(workspace, folder):
    tree = workspace.client.workspace
    tree.import_(
        f"{folder}/sql",
        content=base64.b64encode(b"SELECT 1").decode(),
        format=ImportFormat.SOURCE,
        language=Language.SQL,
    )
    assert tree.get_status(f"{folder}/sql").language == Language.SQL
    tree.upload(f"{folder}/by_name.py", b"1")
    assert tree.get_status(f"{folder}/by_name.py").object_type == ObjectType.NOTEBOOK
    with pytest.raises(DatabricksError, match="language is required"):
        tree.upload(f"{folder}/unknown", b"1")
    for item_format in (ImportFormat.DBC, ImportFormat.HTML, ImportFormat.R_MARKDOWN):
        with pytest.raises(NotImplemented, match=item_format.value):
            tree.upload(f"{folder}/other", b"1", format=item_format)


def test_a_notebook_is_exported_in_other_formats(workspace, folder):
    tree = workspace.client.workspace
    tree.upload(f"{folder}/nb.py", b"x = 1\n\n# COMMAND ----------\n\n# MAGIC %md\n# MAGIC # T\xc3\xaftle <b>")
    source = tree.download(f"{folder}/nb.py").read()
    assert source.startswith(b"# Databricks notebook source\nx = 1\n")
    jupyter = base64.b64decode(tree.export(f"{folder}/nb.py", format=ExportFormat.JUPYTER).content)
    assert [(c["cell_type"], c["source"]) for c in json.loads(jupyter)["cells"]] == [
        ("code", "x = 1"),
        ("markdown", "# Tïtle <b>"),
    ]
    tree.upload(f"{folder}/back", jupyter, format=ImportFormat.JUPYTER)
    assert tree.download(f"{folder}/back").read() == source
    page = tree.download(f"{folder}/back", format=ExportFormat.HTML).read().decode()
    assert "Tïtle &lt;b&gt;" in page
    [model] = re.findall(r"var __DATABRICKS_NOTEBOOK_MODEL = '(.*)';", page)
    commands = json.loads(unquote(base64.b64decode(model).decode()))["commands"]
    assert [c["command"] for c in commands] == ["x = 1", "%md\n# Tïtle <b>"]
    for wanted in ("DBC", "R_MARKDOWN"):
        with pytest.raises(NotImplemented, match=wanted):
            tree.export(f"{folder}/nb.py", format=ExportFormat(wanted))
    tree.upload(f"{folder}/file", b"x", format=ImportFormat.RAW)
    with pytest.raises(InvalidParameterValue, match="not as HTML"):
        tree.export(f"{folder}/file", format=ExportFormat.HTML)
    answer = workspace.http.get("/api/2.0/workspace/export", params={"path": f"{folder}/file", "format": "ZIP"})
    assert answer.status_code == 400
    tree.upload(f"{folder}/broken", b"\xff\xfe", format=ImportFormat.SOURCE, language=Language.SQL)
    with pytest.raises(InvalidParameterValue, match="converted"):
        tree.export(f"{folder}/broken", format=ExportFormat.JUPYTER)


def test_overwriting_must_be_asked_for(workspace, folder):
    tree = workspace.client.workspace
    tree.upload(f"{folder}/f", b"1", format=ImportFormat.RAW)
    with pytest.raises(ResourceAlreadyExists, match="already exists"):
        tree.upload(f"{folder}/f", b"2", format=ImportFormat.RAW)
    before = tree.get_status(f"{folder}/f")
    tree.upload(f"{folder}/f", b"22", format=ImportFormat.RAW, overwrite=True)
    after = tree.get_status(f"{folder}/f")
    assert (before.object_id, before.size, after.size) == (after.object_id, 1, 2)
    with pytest.raises(DatabricksError, match="type mismatch"):
        tree.upload(f"{folder}/f", b"1", format=ImportFormat.SOURCE, language=Language.SQL, overwrite=True)
    tree.mkdirs(f"{folder}/d")
    with pytest.raises(DatabricksError, match="type mismatch"):
        tree.upload(f"{folder}/d", b"1", format=ImportFormat.RAW, overwrite=True)
    with pytest.raises(ResourceAlreadyExists):
        tree.mkdirs(f"{folder}/f/below")
    with pytest.raises(ResourceDoesNotExist, match="parent folder"):
        tree.upload(f"{folder}/no/such/f", b"1", format=ImportFormat.RAW)


def test_the_workspace_prefix_is_the_same_place(workspace, folder):
    tree = workspace.client.workspace
    tree.mkdirs(f"/Workspace{folder}/a/b")
    tree.upload(f"/Workspace{folder}/a/b/f", b"1", format=ImportFormat.RAW)
    assert tree.download(f"{folder}/a/b/f").read() == b"1"
    assert [o.path for o in tree.list(folder, recursive=True)] == [f"{folder}/a/b/f"]
    assert [o.path for o in tree.list(f"/Workspace{folder}", recursive=True)] == [f"/Workspace{folder}/a/b/f"]
    assert [o.path for o in tree.list(f"{folder}/a/b/f")] == [f"{folder}/a/b/f"]
    assert "/Shared" in [o.path for o in tree.list("/")]


def test_deleting(workspace, folder):
    tree = workspace.client.workspace
    for name in ("d", "d_e", "dxe"):
        tree.mkdirs(f"{folder}/{name}")
        tree.upload(f"{folder}/{name}/f", b"1", format=ImportFormat.RAW)
    with pytest.raises(DatabricksError, match="not empty") as raised:
        tree.delete(f"{folder}/d_e")
    assert raised.value.error_code == "DIRECTORY_NOT_EMPTY"
    tree.delete(f"{folder}/d_e", recursive=True)
    assert [o.path for o in tree.list(folder, recursive=True)] == [f"{folder}/d/f", f"{folder}/dxe/f"]
    tree.delete(f"{folder}/d/f")
    tree.delete(f"{folder}/d")
    for call in (tree.get_status, tree.download, tree.delete, lambda path: list(tree.list(path))):
        with pytest.raises(ResourceDoesNotExist, match="doesn't exist"):
            call(f"{folder}/d")
    for protected in ("/", "/Shared", HOME):
        with pytest.raises(DatabricksError, match="protected"):
            tree.delete(protected, recursive=True)


@pytest.mark.parametrize(
    "path", ["/Shared/../x", "/Shared/./x", "relative", "", "/Shared/x\0y", "/Shared/" + "n" * 256, 5]
)
def test_no_path_leads_out_of_the_tree(workspace, path):
    body = {"path": path, "content": "", "format": "RAW"}
    for operation in ("import", "mkdirs", "delete"):
        answer = workspace.http.post(f"/api/2.0/workspace/{operation}", json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert workspace.http.get("/api/2.0/workspace/export", params={"path": path}).status_code == 400


def test_no_symbolic_link_leads_out_of_the_tree(workspace, folder, tmp_path):
    workspace.client.workspace.mkdirs(f"{folder}/d")
    place = workspace.root / "workspace" / folder.lstrip("/") / "d"
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(DatabricksError, match="symbolic link"):
        workspace.client.workspace.upload(f"{folder}/d/f", b"1", format=ImportFormat.RAW)
    assert list(tmp_path.iterdir()) == []


def test_hostile_imports(workspace, folder):
    url = "/api/2.0/workspace/import"
    good = {"path": f"{folder}/x", "format": "RAW"}
    for body in (good | {"content": "%"}, good | {"content": 5}, good | {"format": "ZIP"}, [], "x", None):
        assert workspace.http.post(url, json=body).status_code == 400
    assert workspace.http.post(url, content=b"{").status_code == 400
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert workspace.http.post(url, content=b"nonsense", headers=form).status_code == 400
    with pytest.raises(DatabricksError, match="limit") as raised:
        workspace.client.workspace.upload(f"{folder}/x", b"1" * ((10 << 20) + 1), format=ImportFormat.RAW)
    assert raised.value.error_code == "MAX_NOTEBOOK_SIZE_EXCEEDED"
    with pytest.raises(ResourceDoesNotExist):
        workspace.client.workspace.get_status(f"{folder}/x")


def test_the_cli_way_to_put_a_file(workspace, folder):
    url = f"/api/2.0/workspace-files/import-file/{folder.lstrip('/')}/cli.txt"
    assert workspace.http.post(url, content=b"1").status_code == 200
    assert workspace.http.post(url, content=b"2").status_code == 400
    assert workspace.http.post(f"{url}?overwrite=true", content=b"2").status_code == 200
    with pytest.raises(InvalidParameterValue):
        workspace.client.workspace.get_status("cli.txt")


def test_there_are_no_git_folders(workspace):
    assert list(workspace.client.repos.list()) == []

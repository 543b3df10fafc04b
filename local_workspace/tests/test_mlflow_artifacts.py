"""Artifacts with MLflow's own client: by the Files API as Databricks takes them, and by credentials when that fails."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run_id(tracked) -> str:
    """A run with some artifacts."""
    experiment = tracked.create_experiment("/Shared/artifacts")
    with tracked.start_run(experiment_id=experiment) as run:
        tracked.log_text("hello", "notes/größe.txt")
        tracked.log_dict({"a": [1, 2]}, "data.json")
    return run.info.run_id


def test_artifacts_lie_where_databricks_has_them(workspace, tracked, run_id):
    info = tracked.get_run(run_id).info
    assert info.artifact_uri == f"dbfs:/databricks/mlflow-tracking/{info.experiment_id}/{run_id}/artifacts"
    path = f"/WorkspaceInternal/Mlflow/Artifacts/{info.experiment_id}/Runs/{run_id}/artifacts/notes/größe.txt"
    assert workspace.client.files.download(path).contents.read() == b"hello"


def test_artifacts_are_listed_and_loaded(workspace, tracked, run_id):
    client = tracked.MlflowClient()
    assert [(f.path, f.is_dir, f.file_size) for f in client.list_artifacts(run_id)] == [
        ("data.json", False, 29),
        ("notes", True, None),
    ]
    assert [f.path for f in client.list_artifacts(run_id, "notes")] == ["notes/größe.txt"]
    assert client.list_artifacts(run_id, "data.json") == client.list_artifacts(run_id, "none") == []
    assert tracked.artifacts.load_dict(f"runs:/{run_id}/data.json") == {"a": [1, 2]}
    listed = list(workspace.client.experiments.list_artifacts(run_id=run_id, path="notes"))
    assert [(f.path, f.is_dir, f.file_size) for f in listed] == [("notes/größe.txt", False, 5)]
    (itself,) = workspace.client.experiments.list_artifacts(run_id=run_id, path="data.json")
    assert itself.path == "data.json"


def test_folders_go_up_and_come_down(tracked, run_id, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "big.bin").write_bytes(big := os.urandom(3 << 20))
    (tmp_path / "in" / "empty").write_bytes(b"")
    tracked.MlflowClient().log_artifacts(run_id, str(tmp_path / "in"), "folder")
    back = Path(tracked.artifacts.download_artifacts(f"runs:/{run_id}/folder", dst_path=str(tmp_path / "out")))
    assert (back / "deep" / "big.bin").read_bytes() == big
    assert (back / "empty").read_bytes() == b""


def test_without_the_files_api_they_go_by_credentials(tracked, run_id, tmp_path):
    uri = tracked.get_run(run_id).info.artifact_uri
    repository = tracked.store.artifact.databricks_artifact_repo.DatabricksArtifactRepository(uri)
    (tmp_path / "a #1?.txt").write_text("by credentials")
    repository.log_artifact(str(tmp_path / "a #1?.txt"), "signed")
    assert [f.path for f in repository.list_artifacts("signed")] == ["signed/a #1?.txt"]
    assert Path(repository.download_artifacts("signed/a #1?.txt")).read_text() == "by credentials"


def test_logged_models_go_by_credentials_too(workspace, tracked, tmp_path):
    experiment = tracked.create_experiment("/Shared/logged-artifacts")
    model = tracked.MlflowClient().create_logged_model(experiment, name="net")
    assert model.artifact_location.endswith(f"/{experiment}/logged_models/{model.model_id}/artifacts")
    repository = tracked.store.artifact.databricks_artifact_repo.DatabricksArtifactRepository(model.artifact_location)
    (tmp_path / "w.bin").write_bytes(b"weights")
    repository.log_artifact(str(tmp_path / "w.bin"))
    assert [f.path for f in repository.list_artifacts()] == ["w.bin"]
    assert Path(repository.download_artifacts("w.bin")).read_bytes() == b"weights"
    assert [f.path for f in tracked.MlflowClient().list_logged_model_artifacts(model.model_id)] == ["w.bin"]


def test_an_experiment_may_keep_its_artifacts_in_a_volume(workspace, tracked):
    workspace.client.schemas.create("mlruns", "main")
    workspace.http.post(
        "/api/2.1/unity-catalog/volumes",
        json={"catalog_name": "main", "schema_name": "mlruns", "name": "kept", "volume_type": "MANAGED"},
    ).raise_for_status()
    experiment = tracked.create_experiment("/Shared/in-volume", artifact_location="dbfs:/Volumes/main/mlruns/kept/x")
    with tracked.start_run(experiment_id=experiment) as run:
        tracked.log_text("in a volume", "a.txt")
    path = f"/Volumes/main/mlruns/kept/x/{run.info.run_id}/artifacts/a.txt"
    assert workspace.client.files.download(path).contents.read() == b"in a volume"
    listed = workspace.client.experiments.list_artifacts(run_id=run.info.run_id)
    assert [f.path for f in listed] == ["a.txt"]


@pytest.mark.parametrize(
    "path", ["../../x", "..%2f..%2fidentity.json", "a/../../../../../mlflow.db", "x" * 300, "a\0b", "../../Traces"]
)
def test_no_path_leads_out_of_the_run(workspace, tracked, run_id, path):
    experiment = tracked.get_run(run_id).info.experiment_id
    base = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{experiment}/Runs/{run_id}/artifacts"
    for url in (f"{base}/{path}".replace("\0", "%00"), f"{base}/{path}".replace("..", "%2e%2e").replace("\0", "%00")):
        assert workspace.http.put(url, content=b"x").status_code in (400, 404)
        assert workspace.http.get(url).status_code in (400, 404)
    wanted = {"run_id": run_id, "path": [path.replace("%2f", "/")]}
    assert workspace.http.post("/api/2.0/mlflow/artifacts/credentials-for-write", json=wanted).status_code == 400
    listed = workspace.http.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run_id, "path": wanted["path"][0]})
    assert listed.status_code == 400


@pytest.mark.parametrize("place", ["1/Runs/" + "0" * 32, "1/Elsewhere/x", "../../volumes/x", "x/Runs/y", "1/Runs"])
def test_what_mlflow_did_not_make_has_no_artifacts(workspace, place):
    url = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{place}/artifacts/a"
    assert workspace.http.put(url, content=b"x").status_code in (400, 404)


def test_a_symbolic_link_is_not_followed(workspace, tracked, run_id):
    experiment = tracked.get_run(run_id).info.experiment_id
    folder = workspace.root / "mlflow" / "artifacts" / experiment / "Runs" / run_id / "artifacts"
    (folder / "out").symlink_to("/etc")
    url = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{experiment}/Runs/{run_id}/artifacts/out/passwd"
    assert workspace.http.get(url).status_code == 400
    (folder / "out").unlink()


@pytest.mark.parametrize("body", [{}, {"run_id": "../x", "path": ["a"]}, {"run_id": 3, "path": "a"}, {"path": ["a"]}])
def test_credentials_need_a_run_and_paths(workspace, body):
    answer = workspace.http.post("/api/2.0/mlflow/artifacts/credentials-for-read", json=body)
    assert answer.status_code in (400, 404)

"""Registered models of Unity Catalog with MLflow's own client, registry `databricks-uc`, and with the SDK."""

import os
import subprocess
import sys

import pytest
import yaml
from databricks.sdk.errors import BadRequest, NotFound, ResourceConflict
from databricks.sdk.service.catalog import ModelVersionInfoStatus

FRESH = """
import mlflow
mlflow.set_registry_uri("databricks-uc")
print(mlflow.artifacts.load_text("runs:/{run_id}/notes.txt"))
print(mlflow.pyfunc.load_model("models:/main.models.upper@champion").predict(["größe"]))
"""
CODE = """
import mlflow

class Upper(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return [text.upper() for text in model_input]

mlflow.models.set_model(Upper())
"""


@pytest.fixture(scope="module")
def schema(workspace) -> str:
    """A schema of its own."""
    return workspace.client.schemas.create("models", "main").full_name


@pytest.fixture(scope="module")
def logged(tracked, schema, tmp_path_factory):
    """A logged model with a signature."""
    code = tmp_path_factory.mktemp("code") / "upper.py"
    code.write_text(CODE)
    tracked.set_experiment("/Shared/models")
    with tracked.start_run():
        info = tracked.pyfunc.log_model(
            name="upper", python_model=str(code), input_example=["a"], pip_requirements=["mlflow"], params={"size": 3}
        )
        tracked.log_text("größe", "notes.txt")
        tracked.log_metric("accuracy", 0.75, model_id=info.model_id)
    return info


@pytest.fixture(scope="module")
def champion(tracked, logged):
    """A registered version with the alias `champion`."""
    version = tracked.register_model(logged.model_uri, "main.models.upper", tags={"from": "test"})
    tracked.MlflowClient().set_registered_model_alias("main.models.upper", "champion", version.version)
    return version


def test_a_model_is_registered_and_ready(workspace, tracked, logged, champion):
    found = tracked.MlflowClient().get_model_version("main.models.upper", champion.version)
    assert (found.name, found.version, found.status) == ("main.models.upper", "1", "READY")
    assert found.run_id == logged.run_id and found.model_id == logged.model_id
    assert found.user_id == workspace.client.current_user.me().user_name
    assert found.tags == {"from": "test"} and found.aliases == ["champion"]
    assert [(p.key, p.value) for p in found.params] == [("size", "3")]
    assert [(m.key, m.value) for m in found.metrics] == [("accuracy", 0.75)]
    listed = workspace.client.files.list_directory_contents("/Models/main/models/upper/1")
    assert "MLmodel" in [entry.name for entry in listed]


def test_a_fresh_process_loads_it_by_its_alias(workspace, champion, tmp_path):
    # A file: pyspark's client takes a program given with -c for its own doctests.
    script = tmp_path / "fresh.py"
    script.write_text(FRESH.format(run_id=champion.run_id))
    environment = {
        "DATABRICKS_HOST": workspace.host,
        "DATABRICKS_TOKEN": workspace.token,
        "MLFLOW_TRACKING_URI": "databricks",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run([sys.executable, str(script)], env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["größe", "['GRÖSSE']"], done.stderr


def test_files_of_a_ready_version_never_change(workspace, champion):
    path = "/api/2.0/fs/files/Models/main/models/upper/1/MLmodel"
    assert workspace.http.put(path, content=b"other").status_code == 409
    assert workspace.http.delete(path).status_code == 409
    directory = "/Models/main/models/upper/1/new"
    with pytest.raises(ResourceConflict):
        workspace.client.files.create_directory(directory)


def test_models_are_described_tagged_and_searched(tracked, schema):
    client = tracked.MlflowClient()
    made = client.create_registered_model("main.models.described", tags={"a": "1"}, description="first")
    assert (made.name, made.description, made.tags) == ("main.models.described", "first", {"a": "1"})
    client.update_registered_model("main.models.described", "second")
    client.set_registered_model_tag("main.models.described", "b", "2")
    client.delete_registered_model_tag("main.models.described", "a")
    found = client.get_registered_model("main.models.described")
    assert (found.description, found.tags) == ("second", {"b": "2"})
    names, token = [], None
    while True:
        page = client.search_registered_models(max_results=1, page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            break
    assert "main.models.described" in names and names == sorted(names)
    client.rename_registered_model("main.models.described", "main.models.renamed")
    renamed = client.get_registered_model("main.models.renamed")
    assert (renamed.name, renamed.tags) == ("main.models.renamed", {"b": "2"})
    client.delete_registered_model("main.models.renamed")
    with pytest.raises(tracked.exceptions.RestException) as error:
        client.get_registered_model("main.models.renamed")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_names_are_checked_and_given_once(tracked, schema):
    client = tracked.MlflowClient()
    client.create_registered_model("main.models.once")
    for name, code in (
        ("main.models.once", "RESOURCE_ALREADY_EXISTS"),
        ("main.nowhere.m", "RESOURCE_DOES_NOT_EXIST"),
        ("main.models.a b", "INVALID_PARAMETER_VALUE"),
    ):
        with pytest.raises(tracked.exceptions.RestException) as error:
            client.create_registered_model(name)
        assert error.value.error_code == code, name
    with pytest.raises(tracked.exceptions.MlflowException, match="legacy Workspace Model Registry"):
        client.create_registered_model("two.levels")


def test_versions_have_numbers_aliases_and_tags_of_their_own(tracked, logged, schema):
    client = tracked.MlflowClient()
    for _ in range(3):
        tracked.register_model(logged.model_uri, "main.models.many")
    client.delete_model_version("main.models.many", 3)
    assert tracked.register_model(logged.model_uri, "main.models.many").version == "4"
    client.update_model_version("main.models.many", 2, "the second")
    client.set_model_version_tag("main.models.many", 2, "k", "v")
    client.set_model_version_tag("main.models.many", 2, "gone", "v")
    client.delete_model_version_tag("main.models.many", "2", "gone")
    client.set_registered_model_alias("main.models.many", "Best", 2)
    client.set_registered_model_alias("main.models.many", "Best", 1)
    client.set_registered_model_alias("main.models.many", "other", 2)
    client.delete_registered_model_alias("main.models.many", "other")
    second = client.get_model_version("main.models.many", 2)
    assert (second.description, second.tags, second.aliases) == ("the second", {"k": "v"}, [])
    assert client.get_model_version_by_alias("main.models.many", "Best").version == "1"
    assert client.get_registered_model("main.models.many").aliases == {"Best": "1"}
    assert client.get_model_version_download_uri("main.models.many", 2) == "dbfs:/Models/main/models/many/2"
    first = client.search_model_versions("name='main.models.many'", max_results=2)
    rest = client.search_model_versions("name='main.models.many'", max_results=2, page_token=first.token)
    assert [version.version for version in [*first, *rest]] == ["4", "2", "1"]
    assert client.search_model_versions("name = 'main.models.none'") == []
    for alias in ("v1", "latest", "7", "a b"):
        with pytest.raises(tracked.exceptions.MlflowException):
            client.set_registered_model_alias("main.models.many", alias, 1)
    with pytest.raises(tracked.exceptions.RestException) as error:
        client.search_model_versions("run_id = 'x'")
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"


def test_without_a_signature_no_version_is_ready(workspace, tracked, logged, schema):
    client = workspace.http
    client.post("/api/2.0/mlflow/unity-catalog/registered-models/create", json={"name": "main.models.bare"})
    numbered = {"name": "main.models.bare", "version": "1"}
    created = client.post("/api/2.0/mlflow/unity-catalog/model-versions/create", json={"name": "main.models.bare"})
    assert created.json()["model_version"]["status"] == "PENDING_REGISTRATION"

    def finalize(described: object = None) -> str:
        if described is not None:
            client.put(
                "/api/2.0/fs/files/Models/main/models/bare/1/MLmodel", content=yaml.safe_dump(described)
            ).raise_for_status()
        answer = client.post("/api/2.0/mlflow/unity-catalog/model-versions/finalize", json=numbered)
        assert answer.status_code == 400
        return answer.json()["message"]

    assert "no file MLmodel" in finalize()
    assert "no flavors" in finalize([])
    flavor = {"python_function": {"python_model": "model.pkl", "env": {"conda": "../../etc"}}}
    assert "model.pkl" in finalize({"flavors": flavor})
    client.put("/api/2.0/fs/files/Models/main/models/bare/1/model.pkl", content=b"x").raise_for_status()
    assert "../../etc" in finalize({"flavors": flavor})
    flavor["python_function"].pop("env")
    assert "signature" in finalize({"flavors": flavor})
    assert "signature" in finalize({"flavors": flavor, "signature": {"inputs": "[]"}})
    found = client.get("/api/2.0/mlflow/unity-catalog/model-versions/get", params=numbered).json()
    assert found["model_version"]["status"] == "PENDING_REGISTRATION"


def test_the_sdk_speaks_with_models(workspace, tracked, champion):
    models, versions = workspace.client.registered_models, workspace.client.model_versions
    made = models.create(name="sdk", catalog_name="main", schema_name="models", comment="c")
    assert made.full_name == "main.models.sdk" and made.owner == workspace.client.current_user.me().user_name
    assert models.update("main.models.sdk", comment="d").comment == "d"
    assert models.update("main.models.sdk", new_name="sdk2").full_name == "main.models.sdk2"
    listed = [model.full_name for model in models.list(catalog_name="main", schema_name="models", max_results=1)]
    assert {"main.models.sdk2", "main.models.upper"} <= set(listed)
    models.delete("main.models.sdk2")
    with pytest.raises(NotFound):
        models.get("main.models.sdk2")
    with pytest.raises(BadRequest):
        models.create(name="upper", catalog_name="main", schema_name="models")
    alias = models.set_alias("main.models.upper", "temporary", 1)
    assert (alias.alias_name, alias.version_num) == ("temporary", 1)
    names = [alias.alias_name for alias in models.get("main.models.upper", include_aliases=True).aliases]
    assert names == ["champion", "temporary"]
    models.delete_alias("main.models.upper", "temporary")
    version = versions.get_by_alias("main.models.upper", "champion", include_aliases=True)
    assert version.version == 1 and version.status is ModelVersionInfoStatus.READY
    assert [alias.alias_name for alias in version.aliases] == ["champion"]
    assert versions.update("main.models.upper", 1, comment="good").comment == "good"
    assert versions.get("main.models.upper", 1).storage_location == "dbfs:/Models/main/models/upper/1"
    assert [version.version for version in versions.list("main.models.upper")] == [1]
    with pytest.raises(NotFound):
        versions.delete("main.models.upper", 99)


def test_mlflow_speaks_natively_too(tracked, logged, schema, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_UC_NATIVE_MODEL_REGISTRY", "true")
    store = tracked.store._unity_catalog.registry.utils.get_uc_model_registry_store_class()(
        "databricks-uc", "databricks"
    )
    tag = tracked.entities.model_registry.ModelVersionTag("k", "v")
    store.create_registered_model("main.models.native", tags=[tag], description="n")
    made = store.create_model_version("main.models.native", logged.model_uri, model_id=logged.model_id, tags=[tag])
    assert (made.version, made.status, made.tags) == ("1", "READY", {"k": "v"})
    store.set_model_version_tag("main.models.native", "1", tracked.entities.model_registry.ModelVersionTag("l", "w"))
    store.delete_model_version_tag("main.models.native", "1", "k")
    store.delete_registered_model_tag("main.models.native", "k")
    store.set_registered_model_alias("main.models.native", "best", "1")
    found = store.get_model_version_by_alias("main.models.native", "best")
    assert (found.tags, found.aliases, found.model_id) == ({"l": "w"}, ["best"], logged.model_id)
    store.update_model_version("main.models.native", 1, "described")
    assert [v.description for v in store.search_model_versions("name='main.models.native'")] == ["described"]
    assert store.get_registered_model("main.models.native").tags == {}
    store.delete_model_version("main.models.native", 1)
    store.delete_registered_model("main.models.native")


def test_a_schema_takes_its_models_along(workspace, tracked, logged):
    workspace.client.schemas.create("passing", "main")
    tracked.register_model(logged.model_uri, "main.passing.m")
    with pytest.raises(BadRequest, match="not empty"):
        workspace.client.schemas.delete("main.passing")
    workspace.client.schemas.delete("main.passing", force=True)
    workspace.client.schemas.create("passing", "main")
    tracked.MlflowClient().create_registered_model("main.passing.m")
    assert tracked.MlflowClient().search_model_versions("name='main.passing.m'") == []
    with pytest.raises(NotFound):
        workspace.client.files.download("/Models/main/passing/m/1/MLmodel")


@pytest.mark.parametrize(
    "path", ["main/models/upper/0/x", "main/models/upper/%2e%2e/upper/1/MLmodel", "main/models", "a/b/c/1"]
)
def test_paths_of_models_are_checked(workspace, champion, path):
    assert workspace.http.get(f"/api/2.0/fs/files/Models/{path}").status_code in (400, 404)
    assert workspace.http.put(f"/api/2.0/fs/files/Models/{path}", content=b"x").status_code in (400, 404)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": 3}', b'{"name": "main.models.x", "tags": "no"}'])
def test_hostile_bodies_are_refused(workspace, body):
    answer = workspace.http.post("/api/2.0/mlflow/unity-catalog/registered-models/create", content=body)
    assert answer.status_code == 400 and answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_what_there_is_not_is_refused_by_name(workspace, champion):
    base = "/api/2.0/mlflow/unity-catalog"
    answer = workspace.http.post(f"{base}/model-versions/generate-temporary-credentials", json={})
    assert answer.status_code == 501
    job = {"name": "main.models.job", "deployment_job_id": "1"}
    answer = workspace.http.post(f"{base}/registered-models/create", json=job)
    assert answer.status_code == 501 and "deployment_job_id" in answer.json()["message"]
    lineage = {"name": "main.models.upper", "version": "1", "model_version_lineage_info": {"entities": [{"job": {}}]}}
    assert workspace.http.post(f"{base}/model-versions/emit-lineage", json=lineage).status_code == 501

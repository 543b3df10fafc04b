"""Experiments and runs with MLflow's own client, tracking URI `databricks`, and with the SDK."""

import json
import time

import pytest
from databricks.sdk.errors import NotFound, NotImplemented, ResourceDoesNotExist
from databricks.sdk.service.ml import (
    Dataset,
    DatasetInput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    ModelOutput,
    RunTag,
    ViewType,
)


@pytest.fixture(scope="module")
def experiment(tracked) -> str:
    """The id of an experiment."""
    return tracked.create_experiment("/Users/me/runs", tags={"team": "a"})


def test_an_experiment_is_named_like_a_path_and_knows_its_owner(workspace, tracked):
    made = tracked.set_experiment("/Shared/first")
    assert made.experiment_id != tracked.set_experiment("/Users/me/größe ü").experiment_id
    found = tracked.get_experiment_by_name("/Shared/first")
    assert found.experiment_id == made.experiment_id
    assert found.artifact_location == f"dbfs:/databricks/mlflow-tracking/{made.experiment_id}"
    assert (
        found.tags["mlflow.ownerEmail"] == found.tags["mlflow.ownerId"] == workspace.client.current_user.me().user_name
    )
    assert found.tags["mlflow.experimentType"] == "MLFLOW_EXPERIMENT"
    assert tracked.get_experiment_by_name("/Shared/none") is None


@pytest.mark.parametrize("name", ["plain", "", "/ends/", None, 7])
def test_a_name_that_is_no_path_is_refused(workspace, name):
    answer = workspace.http.post("/api/2.0/mlflow/experiments/create", json={"name": name})
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("location", ["file:///etc", "s3://bucket/x", "dbfs:/elsewhere", "/etc"])
def test_artifacts_are_kept_nowhere_else(workspace, location):
    answer = workspace.http.post(
        "/api/2.0/mlflow/experiments/create", json={"name": "/Shared/away", "artifact_location": location}
    )
    assert answer.status_code == 501
    assert location in answer.json()["message"]


def test_an_experiment_is_changed_deleted_and_restored(tracked):
    client = tracked.MlflowClient()
    experiment_id = client.create_experiment("/Shared/changing")
    client.set_experiment_tag(experiment_id, "stage", "one")
    assert client.get_experiment(experiment_id).tags["stage"] == "one"
    client.delete_experiment_tag(experiment_id, "stage")
    assert "stage" not in client.get_experiment(experiment_id).tags
    client.rename_experiment(experiment_id, "/Shared/changed")
    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    client.restore_experiment(experiment_id)
    found = client.search_experiments(filter_string="name LIKE '/Shared/chang%'")
    assert [e.name for e in found] == ["/Shared/changed"]
    with pytest.raises(tracked.exceptions.RestException) as error:
        client.create_experiment("/Shared/changed")
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_run_keeps_parameters_metrics_and_tags(workspace, tracked, experiment):
    with tracked.start_run(experiment_id=experiment, run_name="parent") as parent:
        tracked.log_param("alpha", 0.5)
        tracked.log_params({"a": 1, "b": "x"})
        for step in range(3):
            tracked.log_metric("loss", 1 / (step + 1), step=step)
        tracked.log_metrics({"f1": 0.9, "em": 0.8})
        tracked.set_tags({"kind": "demo", "gone": "soon"})
        tracked.delete_tag("gone")
        with tracked.start_run(experiment_id=experiment, nested=True) as child:
            pass
    run = tracked.get_run(parent.info.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "parent"
    assert run.info.user_id == run.data.tags["mlflow.user"] == workspace.client.current_user.me().user_name
    assert run.data.params == {"alpha": "0.5", "a": "1", "b": "x"}
    assert run.data.metrics == {"loss": pytest.approx(1 / 3), "f1": 0.9, "em": 0.8}
    assert run.data.tags["kind"] == "demo" and "gone" not in run.data.tags
    history = tracked.MlflowClient().get_metric_history(parent.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert tracked.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id


def test_runs_are_searched_ordered_and_paged(tracked, experiment):
    client = tracked.MlflowClient()
    for number in range(5):
        run = client.create_run(experiment, tags={"group": "search"})
        client.log_metric(run.info.run_id, "score", number)
        client.set_terminated(run.info.run_id)
    wanted = {"filter_string": "tags.group = 'search' and metrics.score > 0", "order_by": ["metrics.score DESC"]}
    first = client.search_runs([experiment], max_results=3, **wanted)
    second = client.search_runs([experiment], max_results=3, page_token=first.token, **wanted)
    assert [run.data.metrics["score"] for run in [*first, *second]] == [4, 3, 2, 1]
    assert second.token is None
    with pytest.raises(tracked.exceptions.RestException) as error:
        client.search_runs([experiment], filter_string="nonsense !!")
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_run_is_renamed_deleted_and_restored(tracked, experiment):
    client = tracked.MlflowClient()
    run_id = client.create_run(experiment).info.run_id
    client.update_run(run_id, name="other")
    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    client.restore_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert client.get_run(run_id).info.run_name == "other"
    with pytest.raises(tracked.exceptions.RestException) as error:
        client.get_run("0" * 32)
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_data_sets_are_inputs_of_runs(tracked, experiment):
    with tracked.start_run(experiment_id=experiment) as run:
        tracked.log_input(tracked.data.from_numpy(__import__("numpy").arange(3.0), name="three"), context="eval")
    (given,) = tracked.get_run(run.info.run_id).inputs.dataset_inputs
    assert given.dataset.name == "three" and given.tags[0].value == "eval"


def test_the_sdk_speaks_with_experiments_and_runs(workspace):
    ml = workspace.client.experiments
    experiment_id = ml.create_experiment("/Shared/sdk").experiment_id
    assert ml.get_by_name("/Shared/sdk").experiment.experiment_id == experiment_id
    ml.set_experiment_tag(experiment_id, "k", "v")
    ml.update_experiment(experiment_id, new_name="/Shared/sdk2")
    ml.delete_experiment(experiment_id)
    ml.restore_experiment(experiment_id)
    assert experiment_id in [e.experiment_id for e in ml.list_experiments(view_type=ViewType.ACTIVE_ONLY)]
    assert [e.name for e in ml.search_experiments(filter="name = '/Shared/sdk2'")] == ["/Shared/sdk2"]
    now = int(time.time() * 1000)
    run_id = ml.create_run(experiment_id=experiment_id, start_time=now, run_name="r").run.info.run_id
    ml.log_param("p", "1", run_id=run_id)
    ml.log_metric("m", 0.5, now, run_id=run_id)
    ml.log_batch(run_id=run_id, metrics=[Metric(key="n", value=2.0, step=1, timestamp=now)], tags=[RunTag("t", "x")])
    ml.set_tag("u", "y", run_id=run_id)
    ml.delete_tag(run_id, "u")
    run = ml.get_run(run_id).run
    assert {m.key: m.value for m in run.data.metrics} == {"m": 0.5, "n": 2.0}
    assert {tag.key: tag.value for tag in run.data.tags}["t"] == "x"
    assert [m.value for m in ml.get_history("m", run_id=run_id)] == [0.5]
    assert list(ml.list_artifacts(run_id=run_id)) == []
    assert ml.delete_runs(experiment_id, now, max_runs=10).runs_deleted == 1
    assert list(ml.search_runs(experiment_ids=[experiment_id])) == []
    assert ml.restore_runs(experiment_id, now).runs_restored == 1
    ml.delete_run(run_id)
    ml.restore_run(run_id)
    assert [r.info.run_id for r in ml.search_runs(experiment_ids=[experiment_id])] == [run_id]
    with pytest.raises(ResourceDoesNotExist):
        ml.get_experiment("123456789")


def test_the_sdk_speaks_with_logged_models(workspace, experiment):
    ml = workspace.client.experiments
    made = ml.create_logged_model(experiment, name="net", params=[LoggedModelParameter("depth", "3")]).model
    model_id = made.info.model_id
    ml.log_logged_model_params(model_id, params=[LoggedModelParameter("width", "8")])
    ml.set_logged_model_tags(model_id, tags=[LoggedModelTag("a", "1"), LoggedModelTag("b", "2")])
    ml.delete_logged_model_tag(model_id, "a")
    ml.finalize_logged_model(model_id, LoggedModelStatus.LOGGED_MODEL_READY)
    found = ml.get_logged_model(model_id).model
    assert found.info.status is LoggedModelStatus.LOGGED_MODEL_READY
    assert {p.key: p.value for p in found.data.params} == {"depth": "3", "width": "8"}
    assert [(tag.key, tag.value) for tag in found.info.tags] == [("b", "2")]
    searched = ml.search_logged_models(experiment_ids=[experiment], filter="name = 'net'").models
    assert [model.info.model_id for model in searched] == [model_id]
    ml.delete_logged_model(model_id)
    with pytest.raises(NotFound):
        ml.get_logged_model(model_id)


def test_the_registry_of_the_workspace_is_refused_by_name(workspace):
    with pytest.raises(NotImplemented, match=r"model_registry\.create_model"):
        workspace.client.model_registry.create_model("legacy")


def test_what_is_not_passed_on_is_named(workspace):
    for path in ("/api/3.0/mlflow/gateway/secrets/list", "/ajax-api/3.0/mlflow/assistant/config", "/graphql"):
        answer = workspace.http.get(path)
        assert answer.status_code == 501 and path in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["logged-models/..%2f..%2fruns", "logged-models/a%20b", "traces/get/credentials-for-data-upload"]
)
def test_ids_do_not_lead_elsewhere(workspace, path):
    assert workspace.http.get(f"/api/2.0/mlflow/{path}").status_code in (404, 501)


def test_hostile_bodies_are_answered_by_name(workspace):
    create = "/api/2.0/mlflow/runs/create"
    for content in (b"", b"[]", b"{", b'{"tags": 3}', "ü".encode("latin-1")):
        answer = workspace.http.post(create, content=content)
        assert answer.status_code == 400, content
        assert answer.json()["error_code"] in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
    too_long = workspace.http.post("/api/2.0/mlflow/runs/log-batch", content=b"x" * (17 << 20))
    assert too_long.status_code == 400
    unknown = workspace.http.post("/api/2.0/mlflow/runs/log-metric", json={"run_id": "no", "key": "a"})
    assert unknown.status_code in (400, 404)


def test_experiments_are_searched_with_get_too(workspace, experiment):
    answer = workspace.http.get("/api/2.0/mlflow/experiments/search", params={"filter": "name = '/Users/me/runs'"})
    assert [found["experiment_id"] for found in answer.json()["experiments"]] == [experiment]
    assert workspace.http.get("/api/2.0/mlflow/experiments/list", params={"max_results": 0}).status_code == 400


def test_models_and_inputs_of_runs_are_logged_by_the_sdk(workspace, experiment):
    ml = workspace.client.experiments
    run_id = ml.create_run(experiment_id=experiment).run.info.run_id
    described = {"run_id": run_id, "artifact_path": "m", "flavors": {"python_function": {}}, "utc_time_created": "now"}
    ml.log_model(model_json=json.dumps(described), run_id=run_id)
    dataset = Dataset(name="d", digest="1", source_type="local", source="{}")
    ml.log_inputs(run_id, datasets=[DatasetInput(dataset)])
    model_id = ml.create_logged_model(experiment).model.info.model_id
    ml.log_outputs(run_id, models=[ModelOutput(model_id, 0)])
    run = ml.get_run(run_id).run
    (history,) = json.loads(next(tag.value for tag in run.data.tags if tag.key == "mlflow.log-model.history"))
    assert history.items() >= described.items()
    assert [given.dataset.name for given in run.inputs.dataset_inputs] == ["d"]

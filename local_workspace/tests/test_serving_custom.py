"""Registered MLflow models behind endpoints: what they answer, and what becomes of their processes."""

import json
import math
import os
import re
import signal
import threading
import time
import warnings

import openai
import psutil
import pytest
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.serving import (
    DataframeSplitInput,
    EndpointCoreConfigInput,
    Route,
    ServedEntityInput,
    ServedModelStateDeployment,
    TrafficConfig,
)

from local_workspace.tests import served_models
from local_workspace.tests.conftest import start_workspace

SCORES, AGENT = "main.default.scores", "main.default.agent"
BROKEN, SLOW = "main.default.broken", "main.default.slow"
ROW = {"amount": 2.0, "what": "x"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace whose idle models are stopped soon."""
    with start_workspace(tmp_path_factory.mktemp("serving"), SOTA_SCALE_TO_ZERO_SECONDS="2") as running:
        yield running


@pytest.fixture(scope="module")
def models(workspace, tracked, tmp_path_factory):
    """Two versions of a model that computes, an agent, and a model that cannot be loaded."""
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow warns of its own type hints
        save(tracked, folder)
    return workspace


def save(mlflow, folder) -> None:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("double", "amount"), ColSpec("string", "what", required=False)])
    signature = ModelSignature(inputs=inputs, outputs=Schema([ColSpec("double", "score")]))
    codes = {
        (SCORES, "1"): served_models.SCORES.replace("FACTOR", "2"),
        (SCORES, "2"): served_models.SCORES.replace("FACTOR", "3"),
        (AGENT, "1"): served_models.AGENT,
        (BROKEN, "1"): served_models.BROKEN,
        (SLOW, "1"): served_models.SLOW,
    }
    for number, ((name, version), code) in enumerate(codes.items()):
        source = folder / f"model_{number}.py"
        source.write_text(code)
        saved = folder / f"saved_{number}"
        options = {} if name == AGENT else {"signature": signature}
        mlflow.pyfunc.save_model(saved, python_model=str(source), pip_requirements=["mlflow", "nothing==9"], **options)
        assert mlflow.register_model(str(saved), name).version == version


def entity(version: str = "1", **options) -> ServedEntityInput:
    options = {"name": "scores", "entity_name": SCORES, "scale_to_zero_enabled": False} | options
    return ServedEntityInput(entity_version=version, **options)


def create(workspace, name: str, *entities: ServedEntityInput, **options):
    config = EndpointCoreConfigInput(name=name, served_entities=list(entities), **options)
    workspace.client.serving_endpoints.create(name, config=config)
    eventually(lambda: workspace.client.serving_endpoints.get(name).state.config_update.value != "IN_PROGRESS")
    return workspace.client.serving_endpoints.get(name)


@pytest.fixture(scope="module")
def scores(models):
    """An endpoint of the first version, which reads a secret."""
    models.client.secrets.create_scope("scores")
    models.client.secrets.put_secret("scores", "greeting", string_value="hello")
    create(models, "scores", entity(environment_vars={"GREETING": "{{secrets/scores/greeting}}"}))
    return models


def ask(workspace, body: dict, endpoint: str = "scores"):
    return workspace.http.post(f"/serving-endpoints/{endpoint}/invocations", json=body)


def score(workspace, endpoint: str = "scores") -> dict:
    answer = ask(workspace, {"dataframe_records": [ROW]}, endpoint)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]


def eventually(true) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_answers_in_every_form(scores):
    query = scores.client.serving_endpoints.query
    split = DataframeSplitInput(columns=["amount", "what"], data=[[2.0, "x"], [-1.0, "y"]])
    by_form = [
        query("scores", dataframe_records=[ROW, ROW | {"amount": -1.0}]),
        query("scores", dataframe_split=split),
        query("scores", instances=[ROW, ROW | {"amount": -1}]),
        query("scores", inputs={"amount": [2.0, -1.0], "what": ["x", "y"]}),
    ]
    for answer in by_form:
        assert [row["score"] for row in answer.predictions] == [4.0, None]  # NaN is no JSON
        assert (answer.predictions[0]["greeting"], answer.served_model_name) == ("hello", "scores")
    assert "task" not in scores.http.get("/api/2.0/serving-endpoints/scores").json()
    shown = scores.client.serving_endpoints.get("scores").config.served_entities[0]
    assert shown.environment_vars == {"GREETING": "{{secrets/scores/greeting}}"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"dataframe_records": [{"what": "x"}]}, "missing inputs.*amount"),
        ({"dataframe_records": [{"amount": "much"}]}, "column amount"),
        ({"dataframe_split": {"columns": ["amount"], "data": [["much"]]}}, "column amount"),
        ({"dataframe_records": "x"}, "list of records"),
        ({"dataframe_split": {"rows": []}}, "'data' field"),
        ({"inputs": 5}, "amount"),
        ({"inputs": [1], "instances": [1]}, "send one of"),
        ({"rows": [1]}, "send one of.*rows"),
        ({}, "send one of"),
        ({"dataframe_records": [ROW], "params": 3}, "params"),
        ({"dataframe_records": [ROW | {"what": "fail"}]}, "KeyError.*no such feature"),
        ({"dataframe_records": [ROW], "client_request_id": 5}, "client_request_id"),
    ],
)
def test_a_wrong_request_is_400_and_names_the_column(scores, body, named):
    answer = ask(scores, body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert re.search(named, answer.json()["message"])


def test_its_logs_are_its_own(scores):
    logs = scores.client.serving_endpoints.logs("scores", "scores").logs
    assert "loaded hello" in logs
    built = scores.client.serving_endpoints.build_logs("scores", "scores").logs
    assert "nothing==9: NOT INSTALLED" in built
    assert "the model was loaded in" in built
    with pytest.raises(NotFound, match="no served entity 'other'; it has scores"):
        scores.client.serving_endpoints.logs("scores", "other")


def test_its_signature_is_its_open_api(scores):
    document = json.loads(scores.client.serving_endpoints.get_open_api("scores").contents.read())
    forms = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    record = forms[0]["properties"]["dataframe_records"]["items"]
    assert record["properties"] == {"amount": {"type": "number", "format": "double"}, "what": {"type": "string"}}
    assert record["required"] == ["amount"]


def test_one_that_dies_comes_back_and_leaves_others_alone(scores):
    create(scores, "twin", entity(scale_to_zero_enabled=True))
    before, twin = score(scores)["pid"], score(scores, "twin")
    assert (twin["greeting"], twin["pid"] == before) == (None, False)
    dead = ask(scores, {"dataframe_records": [ROW | {"what": "exit"}]})
    assert (dead.status_code, dead.headers["retry-after"]) == (503, "1")
    eventually(
        lambda: ask(scores, {"dataframe_records": [ROW]}).status_code == 200
    )  # the client asks again, as it was told
    assert score(scores)["pid"] != before


def test_an_idle_one_is_stopped_and_started_by_the_next_request(scores):
    before, awake = score(scores, "twin")["pid"], score(scores)["pid"]
    eventually(lambda: not psutil.pid_exists(before))
    state = scores.client.serving_endpoints.get("twin").config.served_entities[0].state
    assert (state.deployment.value, state.deployment_state_message) == ("DEPLOYMENT_READY", "Scaled to zero")
    after = score(scores, "twin")["pid"]
    assert (after == before, score(scores)["pid"]) == (False, awake)
    scores.client.serving_endpoints.delete("twin")
    eventually(lambda: not psutil.pid_exists(after))


def test_one_that_cannot_be_loaded_says_why(models):
    halves = {"broken": BROKEN, "slow": SLOW}
    routes = [Route(50, served_entity_name=name, served_model_name=name) for name in halves]
    entities = [ServedEntityInput(name=name, entity_name=full, entity_version="1") for name, full in halves.items()]
    found = create(models, "broken", *entities, traffic_config=TrafficConfig(routes=routes))
    states = {entity.name: entity.state for entity in found.pending_config.served_entities}
    assert (found.state.ready.value, found.state.config_update.value) == ("NOT_READY", "UPDATE_FAILED")
    assert states["broken"].deployment is ServedModelStateDeployment.DEPLOYMENT_FAILED
    assert "the feature store cannot be reached" in states["broken"].deployment_state_message
    assert states["slow"].deployment is ServedModelStateDeployment.DEPLOYMENT_ABORTED
    assert "feature store" in models.client.serving_endpoints.build_logs("broken", "broken").logs
    eventually(lambda: not models.engines("serving-broken"))


@pytest.mark.parametrize(
    ("name", "version", "named"),
    [(SCORES, "9", "no version 9"), ("main.default.nobody", "1", "nobody.*Register it.*system.ai")],
)
def test_one_that_is_not_registered_is_named(models, name, version, named):
    with pytest.raises(NotFound, match=named):
        create(models, "unknown", ServedEntityInput(entity_name=name, entity_version=version))
    with pytest.raises(BadRequest, match="entity_version"):
        create(models, "unknown", ServedEntityInput(entity_name=SCORES))


def test_no_request_fails_while_another_version_comes_in(scores):
    found, failures, stop = [], [], threading.Event()

    def load() -> None:
        while not stop.is_set():
            answer = ask(scores, {"dataframe_records": [ROW]})
            if answer.status_code == 200:
                found.append(answer.json()["predictions"][0])
            else:
                failures.append(answer.text)

    workers = [threading.Thread(target=load) for _ in range(3)]
    for worker in workers:
        worker.start()
    updated = scores.client.serving_endpoints.update_config_and_wait("scores", served_entities=[entity("2")])
    eventually(lambda: found[-1]["score"] == 6.0)
    stop.set()
    for worker in workers:
        worker.join()
    assert (failures, updated.config.config_version) == ([], 2)
    assert {row["score"] for row in found} == {4.0, 6.0}
    assert math.isclose(found[0]["score"], 4.0)
    eventually(lambda: not psutil.pid_exists(found[0]["pid"]))


def test_an_agent_answers_the_responses_api(models):
    made = create(models, "agent", ServedEntityInput(entity_name=AGENT, entity_version="1"))
    assert made.task == "agent/v1/responses"
    with openai.OpenAI(base_url=f"{models.host}/serving-endpoints", api_key=models.token) as client:
        asked = {"model": "agent", "input": [{"role": "user", "content": "say it again"}]}
        assert client.responses.create(**asked).output_text == "say it again"
        events = list(client.responses.create(**asked, stream=True))
        words = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert (words, events[-1].type) == (["say", "it", "again"], "response.output_item.done")
        with pytest.raises(openai.BadRequestError, match="to be list"):
            client.responses.create(model="agent", input="no list")
    models.client.serving_endpoints.delete("agent")


def test_nothing_of_it_outlives_a_killed_workspace(scores):
    model = psutil.Process(score(scores)["pid"])
    family = [model, *model.children(recursive=True)]
    assert "sleep" in [process.name() for process in family]
    os.kill(scores.process.pid, signal.SIGKILL)
    assert psutil.wait_procs(family, timeout=10)[1] == []

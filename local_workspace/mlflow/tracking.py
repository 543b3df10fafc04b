"""MLflow tracking: the engine's answers, with what Databricks adds to them."""

import os
import re
from typing import Any

import httpx

from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.errors import BadRequest, NotFound, NotImplementedHere
from local_workspace.mlflow.artifacts import LOCATION, Artifacts

API = "/api/2.0/mlflow"
TRACES = "/api/3.0/mlflow/traces"
MLFLOW_USER = "mlflow.user"
ARTIFACT_LOCATION = "mlflow.artifactLocation"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONWARNINGS": "ignore",
    "DATABRICKS_CONFIG_FILE": os.devnull,  # MLflow's server must never look for a workspace of the user's
}
ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class Tracking:
    """Experiments, runs, logged models and traces, kept by MLflow's own server; their artifacts are kept here."""

    def __init__(self, config: Config):
        folder = config.folder("mlflow")
        self.engine = Engine(
            "mlflow",
            "local_workspace.mlflow.engine",
            config.folder("logs") / "mlflow.log",
            lambda: [str(folder)],
            lambda: ENVIRONMENT,
        )
        self.artifacts = Artifacts(config.folder("mlflow", "artifacts"), config.folder("mlflow", "uploads"))

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One call of the tracking server. Raises ApiError as it answers."""
        response: httpx.Response = await self.engine.call(method, path, **options)
        return response.json()

    async def create_experiment(self, wanted: dict[str, Any], owner: str) -> dict[str, Any]:
        """A new experiment, named like a path of the workspace. Raises BadRequest, NotImplementedHere."""
        name = wanted.get("name")
        if not isinstance(name, str) or not name.startswith("/") or name.endswith("/"):
            raise BadRequest(
                f"Got an invalid experiment name {str(name)[:200]!r}. An experiment name must be an absolute path"
                " within the Databricks workspace, e.g. '/Users/<some-username>/my-experiment'."
            )
        location = wanted.get("artifact_location") or ""
        if location and not str(location).startswith((f"{LOCATION}/", "dbfs:/Volumes/")):
            raise NotImplementedHere(
                f"artifact_location {str(location)[:200]!r}: local_workspace keeps artifacts in its own place or in a"
                " volume, dbfs:/Volumes/..."
            )
        tags = {
            "mlflow.ownerId": owner,
            "mlflow.ownerEmail": owner,
            "mlflow.experiment.sourceName": name,
            "mlflow.experimentType": "MLFLOW_EXPERIMENT",
        }
        given = wanted.get("tags") or []
        if not isinstance(given, list) or not all(isinstance(tag, dict) for tag in given):
            raise BadRequest("tags must be a list of key and value")
        own = {tag.get("key") for tag in given}
        added = [{"key": key, "value": value} for key, value in tags.items() if key not in own]
        return await self.call("POST", f"{API}/experiments/create", json={**wanted, "tags": [*given, *added]})

    async def create_run(self, wanted: dict[str, Any], user: str) -> dict[str, Any]:
        """A new run of the user who asks for it, with a place for its artifacts. Raises ApiError."""
        tags = wanted.get("tags") or []
        if not isinstance(tags, list):
            raise BadRequest("tags must be a list of key and value")
        kept = [tag for tag in tags if not (isinstance(tag, dict) and tag.get("key") == MLFLOW_USER)]
        mine = {"user_id": user, "tags": [*kept, {"key": MLFLOW_USER, "value": user}]}
        answer = await self.call("POST", f"{API}/runs/create", json=wanted | mine)
        self.artifacts.make_place(answer["run"]["info"]["artifact_uri"])
        return answer

    async def create_logged_model(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A new logged model, with a place for its artifacts. Raises ApiError."""
        answer = await self.call("POST", f"{API}/logged-models", json=wanted)
        self.artifacts.make_place(answer["model"]["info"]["artifact_uri"])
        return answer

    async def start_trace(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A new trace, with a place for its spans. Raises ApiError."""
        answer = await self.call("POST", TRACES, json=wanted)
        self.artifacts.make_place(answer["trace"]["trace_info"]["tags"][ARTIFACT_LOCATION])
        return answer

    async def run_location(self, run_id: Any) -> str:
        """The artifact location of a run. Raises NotFound, BadRequest."""
        found = await self.call("GET", f"{API}/runs/get", params={"run_id": checked_id("run_id", run_id)})
        return found["run"]["info"]["artifact_uri"]

    async def model_location(self, model_id: Any) -> str:
        """The artifact location of a logged model. Raises NotFound, BadRequest."""
        found = await self.call("GET", f"{API}/logged-models/{checked_id('model_id', model_id)}")
        return found["model"]["info"]["artifact_uri"]

    async def trace_location(self, trace_id: Any) -> str:
        """The artifact location of a trace. Raises NotFound, BadRequest."""
        found = await self.call("GET", f"{TRACES}/{checked_id('trace_id', trace_id)}")
        return found["trace"]["trace_info"]["tags"][ARTIFACT_LOCATION]


def checked_id(field: str, value: Any) -> str:
    """An id that can stand in a path. Raises NotFound for what none looks like, BadRequest when there is none."""
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{field} is missing")
    if not ID.fullmatch(value) or (field == "trace_id" and not value.startswith("tr-")):
        raise NotFound(f"{field} {value[:100]!r} does not exist")
    return value

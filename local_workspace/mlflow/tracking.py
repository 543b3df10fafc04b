"""MLflow tracking: the engine's answers, with what Databricks adds to them."""

import re
from typing import Any

import httpx

from local_workspace.config import Config
from local_workspace.engine import Engine
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.mlflow.artifacts import LOCATION, Artifacts

API = "/api/2.0/mlflow"
TRACES = "/api/3.0/mlflow/traces"
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
            lambda: {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONWARNINGS": "ignore"},
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
        return found["trace"]["trace_info"]["tags"]["mlflow.artifactLocation"]


def checked_id(field: str, value: Any) -> str:
    """An id that can stand in a path. Raises BadRequest."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise BadRequest(f"{field} must be the id of one; got {str(value)[:100]!r}")
    return value

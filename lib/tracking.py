"""MLflow's tracking server behind our errors: a client, an experiment by its name, a run's figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lib.core import PermissionDenied, Unavailable
from lib.workspace import translate

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["experiment_id", "log", "recording", "tracking_client"]

_REFUSALS = {"PERMISSION_DENIED": PermissionDenied, "UNAUTHENTICATED": PermissionDenied}


def tracking_client() -> MlflowClient:
    """MLflow's client of the workspace that DATABRICKS_HOST names, where MLflow looks for it."""
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # else two lines for each run go through every progress bar
    return MlflowClient(tracking_uri="databricks", registry_uri="databricks-uc")


@contextmanager
def recording(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours for what runs inside."""
    from mlflow.exceptions import MlflowException

    try:
        with translate(what):  # artifacts go by the Files API
            yield
    except MlflowException as error:
        raise _REFUSALS.get(error.error_code, Unavailable)(f"{what}: {error}") from error


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment at a workspace path; it is created where it is missing."""
    from mlflow.exceptions import MlflowException

    if known := client.get_experiment_by_name(name):
        return known.experiment_id
    try:
        return client.create_experiment(name)
    except MlflowException:  # somebody else was faster, or it cannot be made
        if known := client.get_experiment_by_name(name):
            return known.experiment_id
        raise


def log(client: MlflowClient, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """A run's parameters and figures, in one request."""
    from mlflow.entities import Metric, Param

    now = time.time_ns() // 1_000_000
    client.log_batch(
        run_id,
        [Metric(name, float(value), now, 0) for name, value in metrics.items()],
        [Param(name, str(value)) for name, value in params.items()],
    )

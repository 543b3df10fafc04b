"""The MLflow engine: MLflow's own tracking server over SQLite, for the parent alone.

Run as `python -m local_workspace.mlflow.engine FOLDER`. Artifacts do not pass through it: it hands out their addresses
in the layout of Databricks, and the parent keeps the files.
"""

import os
import sys
from pathlib import Path
from typing import Any

import sqlalchemy
from mlflow.server import app, handlers
from mlflow.store.db import utils
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from uvicorn.middleware.wsgi import WSGIMiddleware

from local_workspace import child
from local_workspace.mlflow import strict
from local_workspace.mlflow.artifacts import LOCATION


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _settings(connection: Any, _record: Any) -> None:
    # With the write-ahead log a commit survives kill -9 without a sync of its own.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def create_database(path: Path) -> None:
    """MLflow's tables at `path`, or nothing: they are made beside it first, by its hundred or so migrations."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{unfinished}")
    utils._initialize_tables(engine)
    engine.dispose()
    unfinished.replace(path)


def main() -> None:
    """Serve until the parent is gone."""
    folder = Path(sys.argv[1])
    database = folder / "mlflow.db"
    if not database.exists():
        create_database(database)
    elif utils._get_schema_version(engine := sqlalchemy.create_engine(f"sqlite:///{database}")) != (
        utils._get_latest_schema_revision()
    ):
        utils._upgrade_db(engine)
    # Where Databricks keeps the artifacts of logged models and traces below those of their experiment.
    SqlAlchemyStore.MODELS_FOLDER_NAME = "logged_models"
    SqlAlchemyStore.TRACE_FOLDER_NAME = ""
    strict.install()
    handlers.initialize_backend_stores(f"sqlite:///{database}", None, LOCATION)
    child.serve(WSGIMiddleware(app, workers=8))


if __name__ == "__main__":
    os.umask(0o077)
    main()

"""The artifacts of MLflow's runs, logged models and traces: files below the root, by the paths the Files API knows."""

import re
from pathlib import Path

from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.store import FileTree

LOCATION = "dbfs:/databricks/mlflow-tracking"
"""The artifact root that the tracking server hands out, as on Databricks."""
RUNS, LOGGED_MODELS, TRACES = "Runs", "LoggedModels", "Traces"
_OWNER = re.compile(
    rf"{LOCATION}/(?P<experiment>\d+)/(?:(?P<model>logged_models)/)?(?P<owner>[\w-]+)(?P<inner>/.*)?", re.ASCII
)
_NAMES = re.compile(rf"\d{{1,19}} (?:{RUNS}|{LOGGED_MODELS}|{TRACES}) [\w-]{{1,64}}", re.ASCII)


class Artifacts(FileTree):
    """The artifacts of all experiments, by `<experiment>/<Runs, LoggedModels or Traces>/<id>`."""

    top = "/WorkspaceInternal/Mlflow/Artifacts"
    names = ("experiment", "kind", "id")

    def __init__(self, folder: Path, staging: Path):
        super().__init__(self._folder, staging)
        self._root = folder

    def _folder(self, *names: str) -> Path:
        folder = self._root.joinpath(*names)
        if not _NAMES.fullmatch(" ".join(names)) or not folder.is_dir():
            raise NotFound(f"There is no run, logged model or trace with artifacts at {'/'.join(names)[:200]}.")
        return folder

    def make_place(self, location: str) -> None:
        """The folder for what lies at an artifact location below this root; others are left alone."""
        if match := _OWNER.fullmatch(location):
            self._root.joinpath(*_names(match)).mkdir(parents=True, exist_ok=True)


def files_path(location: str, path: str = "") -> str:
    """Where the Files API has `path` below an artifact location. Raises BadRequest for locations it does not have."""
    match = _OWNER.fullmatch(location)
    if match:
        base = "/".join((Artifacts.top, *_names(match))) + (match["inner"] or "")
    elif location.startswith("dbfs:/Volumes/"):
        base = location.removeprefix("dbfs:")
    else:
        raise BadRequest(f"artifacts at {location[:200]!r} are not reachable here")
    return f"{base.rstrip('/')}/{path.strip('/')}".rstrip("/")


def _names(match: re.Match[str]) -> tuple[str, str, str]:
    kind = LOGGED_MODELS if match["model"] else TRACES if match["owner"].startswith("tr-") else RUNS
    return match["experiment"], kind, match["owner"]

"""Registered models of Unity Catalog: what is known of them in SQLite, their files below the root."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from local_workspace.config import Config
from local_workspace.errors import BadRequest, Conflict
from local_workspace.files.store import FileTree
from local_workspace.models.versions import Version, Versions
from local_workspace.state import State
from local_workspace.unity_catalog.store import CatalogStore

KIND = "model"
PENDING, READY = "PENDING_REGISTRATION", "READY"
MLMODEL = "MLmodel"


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model. Only one that is READY has all its files, and they never change again."""

    name: str
    version: int
    status: str
    folder: Path
    """The local folder with the file MLmodel."""
    record: Version


class ModelFiles(FileTree):
    """The files of all model versions, by `<catalog>/<schema>/<model>/<version>`."""

    top = "/Models"
    names = ("catalog", "schema", "model", "version")

    def __init__(self, models: "RegisteredModels", staging: Path):
        super().__init__(lambda *names: models.version(".".join(names[:3]), names[3]).folder, staging)
        self._models = models

    def check_open(self, *names: str) -> None:
        """Raises Conflict for a version that is READY."""
        if len(names) == 4 and self._models.version(".".join(names[:3]), names[3]).status == READY:
            raise Conflict(f"Version {names[3]} of model {'.'.join(names[:3])} is READY: its files cannot change.")


class RegisteredModels:
    """Registered models and their versions, aliases and tags."""

    def __init__(self, state: State, config: Config, catalog: CatalogStore):
        self._config = config
        self._catalog = catalog
        self.versions = Versions(state, catalog, KIND)

    @cached_property
    def files(self) -> ModelFiles:
        """The files of all versions."""
        return ModelFiles(self, self._config.folder("model_uploads"))

    def version(self, full_name: str, version_or_alias: str | int) -> ModelVersion:
        """A version by its number or alias. Raises NotFound."""
        wanted = str(version_or_alias)
        found = self.versions.get if wanted.isdecimal() else self.versions.by_alias
        return self.located(found(full_name, wanted))

    def create(self, full_name: str, by: str, tags: dict[str, str], comment: str | None) -> dict[str, Any]:
        """A new registered model without versions. Raises SecurableExists, NotFound for its schema, BadRequest."""
        return self.versions.create_securable(full_name, by, tags, comment)

    def update(self, full_name: str, by: str, new_name: str | None = None, **changes: Any) -> dict[str, Any]:
        """The model with what is not None changed, and under another name in its schema if one is given.

        Raises NotFound, SecurableExists, BadRequest.
        """
        record = self.versions.securable(full_name)
        catalog, schema, _ = record["full_name"].split(".")
        *elsewhere, name = (new_name or record["name"]).split(".")
        if elsewhere and [part.lower() for part in elsewhere] != [catalog, schema]:
            raise BadRequest("new_name: a model can only be renamed within its schema")
        if name.lower() != record["name"]:
            record = self._catalog.rename(KIND, full_name, name, by)
        return self._catalog.update(KIND, record["full_name"], by, **changes)

    def delete(self, full_name: str) -> None:
        """Forget a model with its versions and delete their files. Raises NotFound."""
        self.versions.securable(full_name)
        self._catalog.delete(KIND, full_name)

    def create_version(self, full_name: str, by: str, tags: dict[str, str], **facts: Any) -> ModelVersion:
        """A new version that waits for its files. Raises NotFound for the model."""
        made = self.located(self.versions.add(full_name, by, tags, status=PENDING, **facts))
        made.folder.mkdir(parents=True, exist_ok=True)
        return made

    def finalize(self, full_name: str, version: Any, by: str) -> ModelVersion:
        """The version as READY. Raises BadRequest when files are missing or the model has no signature."""
        found = self.located(self.versions.get(full_name, version))
        if found.status != READY:
            check_complete(found.folder)
            found = self.located(self.versions.update(full_name, version, by, status=READY))
        return found

    def delete_version(self, full_name: str, version: Any) -> None:
        """Forget a version and delete its files. Raises NotFound."""
        folder = self.located(self.versions.get(full_name, version)).folder
        self.versions.delete(full_name, version)
        shutil.rmtree(folder, ignore_errors=True)

    def located(self, found: Version) -> ModelVersion:
        """A stored version with its folder."""
        folder = self._config.root / "models" / found.securable / str(found.version)
        return ModelVersion(found.full_name, found.version, found.facts["status"], folder, found)


def check_complete(folder: Path) -> None:
    """Raises BadRequest unless the folder is a whole MLflow model with a signature, as Unity Catalog demands."""
    try:
        described = yaml.safe_load((folder / MLMODEL).read_text())
    except FileNotFoundError:
        raise BadRequest(f"the version has no file {MLMODEL}: upload all files of the model first") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadRequest(f"the version's file {MLMODEL} cannot be read: {error}") from error
    flavors = described.get("flavors") if isinstance(described, dict) else None
    if not isinstance(flavors, dict) or not flavors:
        raise BadRequest(f"the version's file {MLMODEL} names no flavors")
    missing = sorted({path for path in _named_files(flavors) if not _within(folder, path)})
    if missing:
        raise BadRequest(f"the version misses files that its {MLMODEL} names: {', '.join(missing)[:500]}")
    signature = described.get("signature")
    if not isinstance(signature, dict) or not signature.get("outputs"):
        raise BadRequest(
            "All models in the Unity Catalog must be logged with a model signature containing both input and output"
            " type specifications."
        )


def _named_files(flavors: dict[str, Any]) -> Iterator[str]:
    """The paths that a model's flavors name: its data, code, environments and artifacts."""
    for flavor in flavors.values():
        for key, value in flavor.items() if isinstance(flavor, dict) else ():
            if key in ("data", "code", "model_path", "python_model", "pickled_model") and isinstance(value, str):
                yield value
            elif key == "env" and isinstance(value, dict):
                yield from (str(path) for path in value.values())
            elif key == "artifacts" and isinstance(value, dict):
                yield from (str(item["path"]) for item in value.values() if isinstance(item, dict) and "path" in item)


def _within(folder: Path, path: str) -> bool:
    place = (folder / path).resolve()
    return place.is_relative_to(folder.resolve()) and place.exists()

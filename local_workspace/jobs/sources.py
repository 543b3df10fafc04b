"""What a task runs, found in the workspace tree, in volumes or in DBFS, and what its process is told about it."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_workspace.errors import BadRequest, NotFound
from local_workspace.files.paths import below, segments
from local_workspace.workspace.store import normal, parent_of

if TYPE_CHECKING:
    from local_workspace.context import LocalWorkspace


class Sources:
    """Users' paths as places on disk. Raises NotFound, BadRequest."""

    def __init__(self, ws: "LocalWorkspace", environments: Path):
        self._ws = ws
        self._environments = environments

    def notebook(self, path: str, folder: Path) -> dict[str, Any]:
        """The fields of a notebook to run; its source is copied into `folder`, so that it does not change meanwhile."""
        path = normal(path)
        row = self._ws.objects.status(path)
        if row["object_type"] != "NOTEBOOK":
            raise BadRequest(f"{path} is a {row['object_type'].lower()}, not a notebook")
        if row["language"] not in ("PYTHON", "SQL"):
            raise BadRequest(f"{path} is a notebook in {row['language']}; local_workspace runs PYTHON and SQL")
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "source"
        source.write_bytes(self._ws.objects.read(row))
        return {
            "kind": "notebook",
            "source": str(source),
            "path": path,
            "language": row["language"],
            "jupyter": bool(row["jupyter"]),
        }

    def directory(self, path: str) -> Path:
        """The folder on disk of a workspace object's directory: what stands beside a notebook can be imported."""
        return below(self._ws.config.folder("workspace"), segments(parent_of(normal(path))))

    def file(self, path: str) -> Path:
        """A file of /Volumes, dbfs: or the workspace tree."""
        if path.startswith("/Volumes/"):
            place = self._ws.files.locate(path.removeprefix("/Volumes/"))
        elif path.startswith("dbfs:/Volumes/"):
            place = self._ws.files.locate(path.removeprefix("dbfs:/Volumes/"))
        elif path.startswith("dbfs:"):
            place = self._ws.dbfs.locate(path)
        else:
            self._ws.objects.status(normal(path))
            place = below(self._ws.config.folder("workspace"), segments(normal(path)))
        if not place.is_file():
            raise NotFound(f"{path} does not exist")
        return place

    def libraries(self, libraries: list[dict[str, Any]]) -> list[str]:
        """Arguments for the installer."""
        found: list[str] = []
        for library in libraries:
            if whl := library.get("whl"):
                found.append(str(self.file(str(whl))))
            elif requirements := library.get("requirements"):
                found += ["-r", str(self.file(str(requirements)))]
            elif pypi := library.get("pypi"):
                found.append(str(pypi["package"]))
                if pypi.get("repo"):
                    found += ["--index-url", str(pypi["repo"])]
        return found

    def environment(self, spec: dict[str, Any]) -> tuple[list[str], str]:
        """Arguments for the installer of an environment, and the folder that everyone with the same ones shares."""
        found: list[str] = []
        for line in spec.get("dependencies") or []:
            option, _, path = line.rpartition(" ")
            if path.startswith(("/Volumes/", "/Workspace/", "dbfs:")):
                found += [*option.split(), str(self.file(path))]
            else:
                found.append(line)
        if not found:
            return [], ""
        digest = hashlib.sha256()
        for argument in found:
            digest.update(argument.encode() + b"\0")
            if argument.startswith("/"):
                digest.update(Path(argument).read_bytes())
        return found, str(self._environments / digest.hexdigest()[:24])

    def folders(self) -> dict[str, str]:
        """Where the paths lie that are mounted on a cluster."""
        folders = {"/Volumes": "volumes", "/Workspace": "workspace", "/dbfs": "dbfs"}
        return {prefix: str(self._ws.config.folder(name)) for prefix, name in folders.items()}

    def variables(self, cluster: dict[str, Any]) -> dict[str, str]:
        """The environment variables of a cluster's specification, secrets filled in."""
        found = {}
        for name, value in (cluster.get("spark_env_vars") or {}).items():
            if value.startswith("{{secrets/") and value.endswith("}}"):
                scope, _, key = value[len("{{secrets/") : -2].partition("/")
                value = self._ws.secrets.value(scope, key).decode()
            found[name] = value
        return found

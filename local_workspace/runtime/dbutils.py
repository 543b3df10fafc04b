"""`dbutils`: files, secrets, widgets, task values, notebooks, libraries."""

import base64
import json
from collections import namedtuple
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from local_workspace.runtime.context import Context
from local_workspace.runtime.mounts import Mounts
from local_workspace.runtime.notebook import Notebook
from local_workspace.runtime.outputs import Redactor
from local_workspace.runtime.rest import Rest
from local_workspace.runtime.widgets import Widgets

if TYPE_CHECKING:
    from local_workspace.runtime.shell import Shell

MAX_VALUE_BYTES = 48 * 1024
VALUES_FILE = "values.json"

SecretScope = namedtuple("SecretScope", ["name"])
SecretMetadata = namedtuple("SecretMetadata", ["key"])
Scopes: TypeAlias = list[SecretScope]
Keys: TypeAlias = list[SecretMetadata]


class Secrets:
    """`dbutils.secrets`: what it hands out is never shown in the notebook's output."""

    def __init__(self, rest: Rest, redact: Redactor):
        self._rest = rest
        self._redact = redact

    def get(self, scope: str, key: str) -> str:
        """A secret as text. Raises RestError."""
        return self.getBytes(scope, key).decode()

    def getBytes(self, scope: str, key: str) -> bytes:
        """A secret as bytes. Raises RestError."""
        value = base64.b64decode(json.loads(self._rest.get("/api/2.0/secrets/get", scope=scope, key=key))["value"])
        self._redact.add(value.decode(errors="replace"))
        return value

    def list(self, scope: str) -> Keys:
        """The keys of a scope. Raises RestError."""
        answer = json.loads(self._rest.get("/api/2.0/secrets/list", scope=scope))
        return [SecretMetadata(secret["key"]) for secret in answer.get("secrets", [])]

    def listScopes(self) -> Scopes:
        """The scopes."""
        answer = json.loads(self._rest.get("/api/2.0/secrets/scopes/list"))
        return [SecretScope(scope["name"]) for scope in answer.get("scopes", [])]


class TaskValues:
    """`dbutils.jobs.taskValues`: small values passed from task to task."""

    def __init__(self, context: Context, folder: Path):
        self._context = context
        self._file = folder / VALUES_FILE

    def set(self, key: str, value: Any) -> None:
        """Leave a JSON value for the tasks after this one. Raises ValueError when it is none or too long."""
        try:
            text = json.dumps(value)
        except TypeError as error:
            raise ValueError(f"the task value {key!r} must be JSON: {error}") from None
        if len(text.encode()) > MAX_VALUE_BYTES:
            raise ValueError(f"the task value {key!r} is longer than {MAX_VALUE_BYTES} bytes as JSON")
        if self._context.task_run_id is None:
            return  # outside a job it does nothing, as on Databricks
        values = json.loads(self._file.read_text()) if self._file.exists() else {}
        staged = self._file.with_suffix(".new")
        staged.write_text(json.dumps(values | {key: value}))
        staged.replace(self._file)

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        """A value that a task before this one left. Raises ValueError when there is neither it nor a default.

        Outside a job it gives `debugValue`, and raises TypeError without one.
        """
        if self._context.task_run_id is None:
            if debugValue is None:
                raise TypeError("Must pass debugValue when calling get outside of a job context.")
            return debugValue
        values = self._context.task_values.get(taskKey, {})
        if key in values:
            return values[key]
        if default is None:
            raise ValueError(f"Task value not found: task {taskKey!r} has set no {key!r}, and there is no default")
        return default


class Jobs:
    """`dbutils.jobs`."""

    def __init__(self, context: Context, folder: Path):
        self.taskValues = TaskValues(context, folder)


class Library:
    """`dbutils.library`."""

    def restartPython(self) -> None:
        """Replace this process by a new one, which goes on with the next cell."""
        from local_workspace.runtime.shell import RestartPython

        raise RestartPython


class DbUtils:
    """The `dbutils` of a notebook. `fs` is databricks-sdk's own, over the REST API."""

    def __init__(self, shell: "Shell", folder: Path, parameters: Mapping[str, str]):
        self.widgets = Widgets(parameters)
        self.secrets = Secrets(shell.rest, shell.outputs.redact)
        self.jobs = Jobs(shell.context, folder)
        self.notebook = Notebook(shell.context, shell.rest)
        self.library = Library()
        self._context = shell.context

    @cached_property
    def fs(self) -> Any:
        """Files in volumes and in DBFS."""
        from databricks.sdk.core import Config
        from databricks.sdk.dbutils import RemoteDbUtils

        fs = RemoteDbUtils(Config(host=self._context.host, token=self._context.token)).fs
        fs._proxy_factory = _mounts  # it would look for a cluster: this is one
        return fs

    @property
    def entry_point(self) -> Any:
        """The way of older code to the notebook's context."""
        return self.notebook.entry_point

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"local_workspace does not have dbutils.{name}")

    def __dir__(self) -> list[str]:
        return ["fs", "jobs", "library", "notebook", "secrets", "widgets"]


def _mounts(_name: str) -> Any:
    return Mounts()

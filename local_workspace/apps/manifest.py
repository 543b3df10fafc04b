"""`app.yaml`: the command and the environment of an app.

`requirements.txt` is not installed: an app runs in the workspace's own Python environment, and `python` in its command
is that interpreter.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from local_workspace.errors import BadRequest

PORT_VARIABLE = "DATABRICKS_APP_PORT"


@dataclass(frozen=True)
class Variable:
    """One entry of `env`: a value, or the name of the app's resource that gives it."""

    name: str
    value: str | None = None
    value_from: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What `app.yaml` says."""

    command: list[str] = field(default_factory=list)
    env: list[Variable] = field(default_factory=list)

    def argv(self, port: int) -> list[str]:
        """The command with its port and this environment's `python`; nothing else is substituted."""
        argv = [
            part.replace(f"${{{PORT_VARIABLE}}}", str(port)).replace(f"${PORT_VARIABLE}", str(port))
            for part in self.command
        ]
        return [sys.executable, *argv[1:]] if argv[0] in ("python", "python3") else argv


def read_manifest(folder: Path, command: Any = None, env: Any = None) -> Manifest:
    """The manifest at the root of an app's source, with the deployment's own `command` and `env` over it.

    Without any command, `app.py` or else the first Python file is run. Raises BadRequest naming what is wrong.
    """
    found = [path for path in (folder / "app.yaml", folder / "app.yml") if path.is_file()]
    content: Any = {}
    if found:
        try:
            content = yaml.safe_load(found[0].read_bytes()) or {}
        except (yaml.YAMLError, UnicodeError) as error:
            raise BadRequest(f"app.yaml is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise BadRequest("app.yaml must be a mapping with `command` and `env`")
    unknown = sorted(map(str, content.keys() - {"command", "env"}))
    if unknown:
        raise BadRequest(f"app.yaml has settings that are not known: {', '.join(unknown)}")
    command = command or content.get("command")
    return Manifest(
        checked_command(command) if command else _default_command(folder),
        variables(content.get("env")) + variables(env),
    )


def checked_command(command: Any) -> list[str]:
    """A command as a list of strings. Raises BadRequest."""
    if not isinstance(command, list) or not all(isinstance(part, str | int | float) for part in command):
        raise BadRequest("command must be a list of strings, such as [python, app.py]; there is no shell")
    return [str(part) for part in command]


def variables(entries: Any) -> list[Variable]:
    """The entries of `env`. Raises BadRequest."""
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadRequest("env must be a list of name and value or valueFrom")
    return [_variable(entry) for entry in entries]


def _variable(entry: Any) -> Variable:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise BadRequest(f"env has an entry without a proper `name`: {entry!r}")
    value, source = entry.get("value"), entry.get("valueFrom", entry.get("value_from"))
    if (value is None) == (source is None):
        raise BadRequest(f"env {name} must have exactly one of value and valueFrom")
    if isinstance(value, dict | list) or (source is not None and not isinstance(source, str)):
        raise BadRequest(f"env {name} must have a plain value")
    return Variable(name, str(value) if value is not None else None, source)


def _default_command(folder: Path) -> list[str]:
    scripts = sorted(path.name for path in folder.glob("*.py"))
    if not scripts:
        raise BadRequest("there is neither a command in app.yaml nor a Python file at the root of the app's source")
    return ["python", "app.py" if "app.py" in scripts else scripts[0]]

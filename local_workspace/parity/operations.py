"""The operations of a real workspace, as the official SDK knows them: name, method and path."""

import ast
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

DATA = Path(__file__).with_name("operations.json")


@dataclass(frozen=True, order=True)
class Operation:
    """One call of the REST API."""

    name: str
    """As in the SDK, such as `jobs.create`."""
    method: str
    path: str
    """With its parameters in braces; one that is not after a slash stands for several segments."""

    @property
    def key(self) -> str:
        """Its request, such as `POST /api/2.2/jobs/create`."""
        return f"{self.method} {self.path}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What paths of this operation look like."""
        several = re.sub(r"(?<!/)\\{\w+\\}", "/.+", re.escape(self.path))
        rest = re.sub(r"\\{\w+:path\\}", ".+", several)
        return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", rest))

    @property
    def example(self) -> str:
        """A path of this operation."""
        return re.sub(r"\{\w+\}", "x", re.sub(r"(?<!/)\{\w+\}", "/Volumes/a/b/c/d", self.path))


@cache
def known() -> list[Operation]:
    """The workspace-level operations of the SDK this file was made from."""
    return [Operation(*entry) for entry in json.loads(DATA.read_text())["operations"]]


def named(method: str, path: str) -> str:
    """The SDK's name of the operation that a request is, or else the request itself."""
    names = (
        operation.name for operation in known() if operation.method == method and operation.pattern.fullmatch(path)
    )
    return next((f"{name} ({method} {path})" for name in names), f"{method} {path}")


def write() -> None:
    """Make the data file anew from the installed databricks-sdk."""
    import databricks.sdk.service
    from databricks.sdk.version import __version__

    found: set[tuple[str, str, str]] = set()
    for module in Path(databricks.sdk.service.__file__).parent.glob("*.py"):
        for api in ast.parse(module.read_text()).body:
            if isinstance(api, ast.ClassDef) and api.name.endswith("API"):
                found |= set(_operations(api))
    lines = ",\n".join(json.dumps(entry) for entry in sorted(found))
    DATA.write_text(f'{{"databricks-sdk": "{__version__}", "operations": [\n{lines}\n]}}\n')


def _operations(api: ast.ClassDef) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    service = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", api.name.removesuffix("API")).lower()
    for method in api.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        for call in ast.walk(method):
            match call:
                case ast.Call(func=ast.Attribute(attr="do"), args=[ast.Constant(value=str(verb)), path, *_]):
                    template = _template(path)
                    if template and "/accounts/" not in template:
                        found.append((f"{service}.{method.name}", verb, template))
    return found


def _template(path: ast.expr) -> str:
    match path:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
        case ast.FormattedValue(value=value):
            names = [node for node in ast.walk(value) if isinstance(node, ast.Name)]
            return "{" + names[-1].id.strip("_") + "}"
    return ""

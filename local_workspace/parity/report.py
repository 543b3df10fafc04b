"""The parity report: every operation of a real workspace as real, partial or refused, made from routes and tests."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from local_workspace.config import Config
from local_workspace.parity.clients import CLIENTS, REFUSED_ROADS
from local_workspace.parity.operations import Operation, known
from local_workspace.sql.support import STATEMENTS

COVERAGE = Path(__file__).with_name("coverage.json")
"""Which test calls an operation with success; written by `make parity`."""
SDK_TESTS = Path(__file__).with_name("sdk_tests.json")
REPORT = Path(__file__).parents[1] / "PARITY.md"
TESTS = "local_workspace/tests/"
REAL, PARTIAL, REFUSED = "real", "partial", "refused"
OTHER = "other clients"
"""The service under which operations stand that the SDK does not have: OpenAI's, MLflow's, OTLP."""


@dataclass(frozen=True)
class Route:
    """A route of the server."""

    method: str
    path: str
    pattern: re.Pattern[str]
    differs: str
    refuses: str

    def serves(self, method: str, path: str) -> bool:
        """Whether a request would come here, no other route being before it."""
        return method == self.method and bool(self.pattern.fullmatch(path))


@dataclass(frozen=True)
class Row:
    """One operation and how the local workspace answers it."""

    operation: Operation
    state: str
    note: str
    """How it differs, or why it is refused."""
    test: str
    """A test that calls it with success."""

    @property
    def claims(self) -> bool:
        """Whether it says that the local workspace has the operation."""
        return self.state != REFUSED

    @property
    def service(self) -> str:
        """The SDK's name of its service."""
        return self.operation.name.partition(".")[0]


def routes(app: FastAPI) -> list[Route]:
    """Every route of the REST API, in the order in which they are tried."""
    found = []
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", True):
            continue  # a page for people, no operation
        path, handler = route.path or "", route.endpoint
        marks = (getattr(handler, "differs", ""), getattr(handler, "refuses", ""))
        found += [Route(method, path, compile_path(path)[0], *marks) for method in sorted(route.methods or ())]
    return found


def rows(app: FastAPI) -> list[Row]:
    """Every operation, those of the SDK first and then what else is served."""
    served = routes(app)
    tests: dict[str, str] = json.loads(COVERAGE.read_text()) if COVERAGE.exists() else {}
    reached: set[Route] = set()
    found = []
    for operation in known():
        route = next((r for r in served if r.serves(operation.method, operation.example)), None)
        if route:
            reached.add(route)
        found.append(_row(operation, route, tests))
    for route in served:
        if route not in reached:
            found.append(_row(Operation(f"{OTHER}.{route.path}", route.method, route.path), route, tests))
    return found


def _row(operation: Operation, route: Route | None, tests: dict[str, str]) -> Row:
    if route is None:
        return Row(operation, REFUSED, "", "")
    if route.refuses:
        return Row(operation, REFUSED, route.refuses, "")
    test = tests.get(operation.key, "")
    return Row(operation, PARTIAL if route.differs else REAL, route.differs, test)


def served_app(root: Path) -> FastAPI:
    """The server's app over an empty workspace below `root`, not started."""
    from local_workspace.context import LocalWorkspace
    from local_workspace.server import create_app

    return create_app(LocalWorkspace(Config(root), 0))


def current() -> list[Row]:
    """The rows of the server as it is."""
    with TemporaryDirectory() as folder:
        return rows(served_app(Path(folder)))


def markdown(found: list[Row]) -> str:
    """The report as a page."""
    count = {state: sum(row.state == state for row in found) for state in (REAL, PARTIAL, REFUSED)}
    lines = [
        "# Parity with a real workspace",
        "",
        "Made by `make parity` from the routes, the differences declared at them, and the tests that call them. An",
        "operation without a test that calls it with success fails the build. What is not listed is refused: HTTP 501.",
        "",
        f"{count[REAL]} operations are real, {count[PARTIAL]} partial, {count[REFUSED]} refused.",
    ]
    services = [(name, list(group)) for name, group in groupby(found, key=lambda row: row.service)]
    for name, group in services:
        if any(row.claims for row in group):
            lines += ["", f"## {name}", "", *_table(group)]
    lines += ["", "## Refused as a whole", ""]
    for name, group in services:
        if not any(row.claims for row in group):
            lines.append(f"- **{name}**: {', '.join(row.operation.name.partition('.')[2] for row in group)}")
    lines += ["", "## Clients and other protocols", "", *_clients(), "", "## SQL statements", "", *_statements()]
    lines += ["", "## The official SDK's own integration tests", "", *_sdk_tests()]
    return "\n".join(lines) + "\n"


def _clients() -> Iterator[str]:
    yield "| road | genuine client | difference | test |"
    yield "|---|---|---|---|"
    for client in CLIENTS:
        yield f"| {client.road} | {client.client} | {client.difference} | {client.test} |"
    for road, why in REFUSED_ROADS.items():
        yield f"| {road} | refused | {why} | |"


def _statements() -> Iterator[str]:
    yield "The examples of `sql/support.py` are run by test_sql_support.py on both roads."
    yield ""
    yield "| statement | statement API | Spark Connect | difference |"
    yield "|---|---|---|---|"
    for statement in STATEMENTS:
        difference = statement.difference.replace("|", "\\|")
        yield f"| {statement.statement} | {statement.api} | {statement.connect} | {difference} |"


def _sdk_tests() -> Iterator[str]:
    """Results of databricks-sdk-py's tests/integration, run from a checkout by hand: they are not in its package."""
    results: list[list[str]] = json.loads(SDK_TESTS.read_text())
    passed = [name for name, result, _ in results if result == "passed"]
    failed = [name for name, result, _ in results if result == "failed"]
    left_out = [(name, reason) for name, result, reason in results if result == "not run"]
    share = len(passed) / (len(passed) + len(failed))
    yield f"{len(passed)} passed, {len(failed)} failed ({share:.0%} of those run), {len(left_out)} not run."
    yield ""
    yield "| test | result | why |"
    yield "|---|---|---|"
    for name, result, reason in results:
        if result != "passed":
            yield f"| {name} | {result} | {reason} |"
    yield ""
    yield f"Passed: {', '.join(passed)}."


def _table(group: list[Row]) -> Iterator[str]:
    yield "| operation | request | state | difference | test |"
    yield "|---|---|---|---|---|"
    for row in group:
        operation = row.operation
        yield (
            f"| {operation.name.partition('.')[2]} | `{operation.key}` "
            f"| {row.state} | {row.note} | {row.test.removeprefix(TESTS)} |"
        )

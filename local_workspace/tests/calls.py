"""Which test called which operation with success: read from the log that every workspace of the tests writes."""

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from local_workspace.parity import operations, report

LOG = Path(tempfile.mkdtemp(prefix="calls-")) / "log"
ran: set[str] = set()
called: dict[tuple[str, str], set[str]] = defaultdict(set)
"""(method, path) → tests during which it was answered below 400."""
_read = 0


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Give the calls since the last test to this one."""
    global _read
    test = nodeid.partition("[")[0]
    ran.add(test)
    if not LOG.exists():
        return
    with LOG.open("rb") as log:
        log.seek(_read)
        lines = log.read()
    lines = lines[: lines.rfind(b"\n") + 1]
    _read += len(lines)
    for line in lines.decode(errors="replace").splitlines():
        method, _, rest = line.partition(" ")
        path, _, status = rest.rpartition(" ")
        if status.isdigit() and int(status) < 400:
            called[method, path].add(test)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist has seen."""
    seen = getattr(node, "workeroutput", {})
    ran.update(seen.get("ran", ()))
    for method, path, tests in seen.get("called", ()):
        called[method, path].update(tests)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold the parity report against what was called; write it anew instead when `make parity` asks for that."""
    if hasattr(session.config, "workeroutput"):
        seen = [[method, path, sorted(tests)] for (method, path), tests in called.items()]
        session.config.workeroutput |= {"ran": sorted(ran), "called": seen}
        return
    if os.environ.get("RECORD_PARITY"):
        operations.write()
        first = {key: min(tests) for key, tests in sorted(covered().items())}
        report.COVERAGE.write_text(json.dumps(first, indent=0) + "\n")
        report.REPORT.write_text(report.markdown(report.current()))
    elif idle := idle_claims():
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"PARITY.md names tests that did not call their operation: {', '.join(idle)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def covered() -> dict[str, set[str]]:
    """`METHOD path` of each operation → the tests that called it."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in report.current():
        operation = row.operation
        pattern = operation.pattern
        for (method, path), tests in called.items():
            if method == operation.method and pattern.fullmatch(path):
                found[operation.key] |= tests
    return found


def idle_claims() -> list[str]:
    """Operations whose named test has run, and which nobody has called with success."""
    named = [row for row in report.current() if row.test in ran]
    if not named:
        return []
    called_with_success = covered()
    return [row.operation.name for row in named if row.operation.key not in called_with_success]

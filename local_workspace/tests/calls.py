"""Which test called which operation with success: read from the log that every workspace of the tests writes."""

import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path

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
    ran.add(nodeid)
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
            called[method, path].add(nodeid.partition("[")[0])


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The parity tests go last: they look at what the others did."""
    items.sort(key=lambda item: "test_parity.py" in item.nodeid)


def pytest_sessionfinish() -> None:
    """Write the coverage file when `make parity` asks for it."""
    if os.environ.get("RECORD_PARITY"):
        operations.write()
        first = {key: min(tests) for key, tests in sorted(covered().items())}
        report.COVERAGE.write_text(json.dumps(first, indent=0) + "\n")
        report.REPORT.write_text(report.markdown(report.current()))

"""`python -m local_workspace parity`: what this workspace has, what differs and what it refuses."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from local_workspace.parity import report

COLOURS = {report.REAL: "green", report.PARTIAL: "yellow", report.REFUSED: "red"}


def parity(
    service: Annotated[str, typer.Option(help="only this service of the SDK, such as jobs")] = "",
    state: Annotated[str, typer.Option(help="only real, partial or refused operations")] = "",
    write: Annotated[Path | None, typer.Option(help="write the whole report as Markdown to this file")] = None,
) -> None:
    """Print every operation as real, partial (and how it differs) or refused."""
    if state and state not in COLOURS:
        raise SystemExit(f"--state {state}: choose one of {', '.join(COLOURS)}")
    found = report.current()
    if service and service not in {row.service for row in found}:
        raise SystemExit(f"--service {service}: the SDK has no such service")
    if write:
        write.write_text(report.markdown(found))
    table = Table("operation", "request", "state", "difference")
    for row in found:
        if service in ("", row.service) and state in ("", row.state):
            operation = row.operation
            colour = COLOURS[row.state]
            table.add_row(operation.name, operation.key, f"[{colour}]{row.state}[/]", row.note)
    Console().print(table)

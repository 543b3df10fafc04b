"""`python -m local_workspace faults`: make a running workspace fail on purpose."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from local_workspace.faults.middleware import ADMIN_PATH

cli = typer.Typer(help=__doc__, no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="folder of the running workspace")]
ROOT = Path(".local_workspace")


def _call(root: Path, method: str, path: str = "", body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One admin call to the workspace of a root folder; ends the program with a message when it fails."""
    try:
        token = json.loads((root / "identity.json").read_text())["admin_token"]
        url = f"http://127.0.0.1:{int((root / 'port').read_text())}{ADMIN_PATH}{path}"
        answer = httpx.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"})
    except (OSError, KeyError, ValueError, httpx.TransportError):
        raise SystemExit(f"no workspace is running on --root {root}") from None
    if answer.is_error:
        raise SystemExit(answer.json()["message"])
    return answer.json()


@cli.command()
def add(
    path: Annotated[str, typer.Argument(help="route template, or glob such as '/api/2.0/fs/*'")],
    root: Root = ROOT,
    method: Annotated[str | None, typer.Option(help="HTTP method; else all")] = None,
    rate: Annotated[float, typer.Option(help="share of the matching requests, 0 to 1")] = 1.0,
    seed: Annotated[int, typer.Option(help="which requests those are")] = 0,
    times: Annotated[int | None, typer.Option(help="at most so often")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="the fault: wait")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="latency differs by up to so much")] = None,
    status: Annotated[int | None, typer.Option(help="the fault: answer this status")] = None,
    retry_after: Annotated[int | None, typer.Option(help="seconds in the Retry-After header")] = None,
    error_code: Annotated[str | None, typer.Option(help="Databricks error code of the answer")] = None,
    drop: Annotated[
        str | None, typer.Option(help="the fault: lose the connection in the 'request' or 'response'")
    ] = None,
    after_bytes: Annotated[int | None, typer.Option(help="so much of the body passes before")] = None,
) -> None:
    """Add a rule and print it; exactly one of --latency-ms, --status and --drop."""
    options = {name: value for name, value in locals().items() if name != "root" and value is not None}
    typer.echo(json.dumps(_call(root, "POST", body=options)))


@cli.command("list")
def list_(root: Root = ROOT) -> None:
    """Print the rules with the number of requests that matched and that were hit, one JSON line each."""
    for rule in _call(root, "GET")["rules"]:
        typer.echo(json.dumps(rule))


@cli.command()
def clear(
    rule_id: Annotated[str | None, typer.Argument(help="id of one rule; else all")] = None, root: Root = ROOT
) -> None:
    """Remove one rule or all."""
    _call(root, "DELETE", f"/{rule_id}" if rule_id else "")


@cli.command()
def cut(address: Annotated[str, typer.Argument(help="spark or zerobus")], root: Root = ROOT) -> None:
    """Cut the open connections of Spark Connect or Zerobus, once, and print how many there were."""
    typer.echo(_call(root, "POST", f"/connections/{quote(address, safe='')}")["cut"])

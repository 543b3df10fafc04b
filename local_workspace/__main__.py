"""`local-workspace`, or `python -m local_workspace`: a Databricks workspace on this machine."""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, TextIO

import typer
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn

from local_workspace.child import listen
from local_workspace.config import Config
from local_workspace.context import LocalWorkspace
from local_workspace.faults.cli import cli as faults_cli
from local_workspace.parity.command import parity
from local_workspace.server import create_app
from local_workspace.weights import Weights, WeightsError, choose, read_manifest

cli = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
cli.add_typer(faults_cli, name="faults")


cli.command()(parity)


@cli.callback()
def _main() -> None:
    """A Databricks workspace on this machine."""


LOCK_SECONDS = 3
"""A predecessor that was told to stop or was killed may need a moment to be gone."""


def _hold(config: Config) -> TextIO:
    """The root's lock file, locked while this process lives: two workspaces on one state would spoil it."""
    try:
        lock = (config.folder() / "lock").open("a+")
    except OSError as error:
        raise SystemExit(f"--root {config.root} cannot be used: {error.strerror}") from None
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                pid = lock.read().strip()
                raise SystemExit(f"--root {config.root} is served already, by process {pid}") from None
            time.sleep(0.05)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _listen(config: Config) -> socket.socket:
    """The listening socket: the port asked for, else the one this root had last, else a free one."""
    kept = config.folder() / "port"
    wanted = config.port or (int(kept.read_text()) if kept.exists() else 0)
    try:
        listener = listen(wanted)
    except OSError:
        if config.port:
            raise SystemExit(f"port {config.port} of 127.0.0.1 is in use: choose another --port") from None
        listener = listen(0)
    kept.write_text(str(listener.getsockname()[1]))
    return listener


Root = Annotated[Path, typer.Option(help="folder that holds everything the workspace keeps")]
ROOT = Path(".local_workspace")


@cli.command()
def serve(
    port: Annotated[
        int, typer.Option(help="port of the REST API on 127.0.0.1; 0: a free one, kept for this root", min=0, max=65535)
    ] = 0,
    root: Root = ROOT,
) -> None:
    """Serve until SIGTERM. Prints one JSON line with host, token, spark_remote and zerobus when ready."""
    config = Config.from_environment(root, port)
    try:
        choose(config.model, read_manifest())
    except WeightsError as error:
        raise SystemExit(str(error)) from None
    lock = _hold(config)
    listener = _listen(config)
    # uvicorn raises the signal again once it has shut down: that is a clean exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ws = LocalWorkspace(config, listener.getsockname()[1])

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                sys.stdout.write(json.dumps(ws.address()) + "\n")
                sys.stdout.flush()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await ws.apps.stop()  # while the workspace still answers: apps send their last telemetry on the way out
            await ws.zerobus.stop()  # and what Zerobus has taken in goes into Delta
            await super().shutdown(sockets)

    settings = uvicorn.Config(
        create_app(ws),
        http=ws.connections.protocol,
        proxy_headers=False,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(settings)
    with lock:
        server.run(sockets=[listener])


@cli.command()
def weights(
    models: Annotated[list[str] | None, typer.Argument(help="aliases of weights.toml")] = None,
    root: Root = ROOT,
) -> None:
    """Fetch model weights: those named, else what SOTA_LOCAL_MODEL needs and the embedding model."""
    config = Config.from_environment(root, 0)
    store = Weights(config.weights or config.folder("weights"))
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        chosen = choose(config.model, store.manifest)
        needed = [chosen, "minilm"] if isinstance(chosen, str) and chosen in store.manifest else ["minilm"]
        with Progress(*columns, console=Console(stderr=True)) as bars:
            for alias in models or needed:
                bar = bars.add_task(alias, total=None)

                def show(done: int, total: int, bar: TaskID = bar) -> None:
                    bars.update(bar, completed=done, total=total)

                store.fetch(alias, show)
    except WeightsError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    cli()

"""One app as it runs: its address, its processes, and the one operation on it that is under way."""

import asyncio
import shutil
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from local_workspace.apps.manifest import PORT_VARIABLE, Manifest, read_manifest
from local_workspace.apps.process import GRACE_SECONDS, AppProcess, free_port, tail
from local_workspace.apps.proxy import AppProxy
from local_workspace.apps.release import Release
from local_workspace.apps.upstream import Upstream
from local_workspace.auth import Auth
from local_workspace.errors import Conflict, Unavailable
from local_workspace.processes.sessions import Sessions

LOG_BYTES = 1 << 20
START_SECONDS = 60.0


class AppRuntime:
    """`environment` gives what every process of the app is started with, from the variables of its manifest."""

    def __init__(
        self,
        name: str,
        folder: Path,
        client_id: str,
        environment: Callable[[Manifest], dict[str, str]],
        record: Sessions,
    ):
        self.name = name
        self.client_id = client_id
        self.compute = "STOPPED"
        """The compute's state: ACTIVE, STARTING, STOPPING or STOPPED."""
        self.failure = ""
        """Why the last start failed, until one succeeds."""
        self.pending: str | None = None
        """The deployment that is under way."""
        self._folder = folder
        self._environment = environment
        self._record = record
        self._release: Release | None = None
        self._newest: str | None = None
        self._proxy: AppProxy | None = None
        self._operation: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], Release] = {}

    async def listen(self, listener: socket.socket, auth: Auth) -> None:
        """Serve the app's address from now on, whether it runs or not."""
        self._proxy = AppProxy(listener.getsockname()[1], auth, self._pick, self.log_tail)
        await self._proxy.start(listener)

    def begin(self, operation: Coroutine[Any, Any, None]) -> None:
        """Run an operation in the background. Raises Conflict while another is under way."""
        if self.busy:
            operation.close()
            raise Conflict(f"Another operation on app {self.name} is in progress; wait until it has ended.")
        self._operation = asyncio.create_task(operation)

    @property
    def busy(self) -> bool:
        """Whether an operation is under way."""
        return self._operation is not None and not self._operation.done()

    async def cancel(self) -> None:
        """End the operation under way, if any."""
        if self._operation and not self._operation.done():
            self._operation.cancel()
            await asyncio.wait([self._operation])

    async def bring_up(self, deployment_id: str, settings: dict[str, Any], count: int) -> None:
        """Start a deployment's processes and switch to them; the ones before end when their requests have.

        Raises StartFailedError or ApiError, with everything as it was before.
        """
        folder = self.deployment_folder(deployment_id)
        manifest = read_manifest(folder, settings.get("command"), settings.get("env_vars"))
        environment = self._environment(manifest)
        check = settings.get("health_check") or {}
        timeout = float(str(check.get("timeout") or f"{START_SECONDS}s").removesuffix("s"))

        async def launch() -> AppProcess:
            port = free_port()
            process = await AppProcess.start(
                manifest.argv(port),
                port,
                folder,
                environment | {PORT_VARIABLE: str(port)},
                self._log(deployment_id),
                self._record.remove,
            )
            self._record.add(process.process.pid, self.client_id)
            try:
                await process.wait_until_up(check.get("path"), timeout)
            except BaseException:
                await process.stop()
                raise
            return process

        release = Release(deployment_id, launch, count)
        await release.start()
        before, self._release, self._newest, self.failure = self._release, release, deployment_id, ""
        if before:
            self._retire(before)

    async def take_down(self) -> None:
        """Stop all processes."""
        ending = [*self._retiring.values(), *([self._release] if self._release else [])]
        self._release = None
        await asyncio.gather(*(release.stop() for release in ending))

    async def close(self) -> None:
        """Stop the processes and give up the address."""
        await self.cancel()
        await self.take_down()
        if self._proxy:
            await self._proxy.stop()

    def status(self, deployed: bool) -> tuple[str, str]:
        """The state of the application and its message."""
        if self._release and self._release.running:
            return "RUNNING", "App is running"
        if self.pending or self.compute == "STARTING":
            return "DEPLOYING", "App is starting"
        if self._release:
            return "CRASHED", f"{self._release.last_crash}; it is being restarted"
        if self.failure:
            return "CRASHED", self.failure
        if self.compute != "ACTIVE":
            return "UNAVAILABLE", "App is stopped"
        return "UNAVAILABLE", "App is not running" if deployed else "App has not been deployed yet"

    @property
    def running_instances(self) -> int:
        """How many processes are up."""
        return self._release.running if self._release else 0

    def deployment_folder(self, deployment_id: str) -> Path:
        """Where a deployment's source lies."""
        return self._folder / deployment_id

    def forget_source(self, deployment_id: str) -> None:
        """Remove a deployment's source; its log is kept."""
        shutil.rmtree(self.deployment_folder(deployment_id), ignore_errors=True)

    def forget_other_sources(self, active: str | None) -> None:
        """Remove what deployments broken off by the end of the workspace have left."""
        for folder in self._folder.iterdir():
            if folder.is_dir() and folder.name != active:
                self.forget_source(folder.name)

    def log_tail(self) -> str:
        """The end of the log of the deployment under way or running, else of the newest."""
        current = self.pending or (self._release.deployment_id if self._release else None)
        if current is None:
            logs = sorted(self._folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
            return tail(logs[-1], LOG_BYTES) if logs else ""
        return tail(self._log(current), LOG_BYTES)

    def _log(self, deployment_id: str) -> Path:
        return self._folder / f"{deployment_id}.log"

    def _pick(self) -> Upstream:
        upstream = self._release.pick() if self._release else None
        if upstream is None:
            state, message = self.status(deployed=True)
            raise Unavailable(f"App {self.name} is not available ({state}): {message}")
        return upstream

    def _retire(self, release: Release) -> None:
        async def retire() -> None:
            await release.stop(drain=GRACE_SECONDS)
            if release.deployment_id != self._newest:  # it may have been started anew
                await asyncio.to_thread(self.forget_source, release.deployment_id)

        task = asyncio.create_task(retire())
        self._retiring[task] = release
        task.add_done_callback(self._retiring.pop)

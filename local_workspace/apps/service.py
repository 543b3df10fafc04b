"""The apps of a workspace: what the API asks for, done to the running processes and kept for the next start."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

from local_workspace.apps.manifest import Manifest
from local_workspace.apps.process import StartFailedError
from local_workspace.apps.resources import environment
from local_workspace.apps.runtime import AppRuntime
from local_workspace.apps.store import AppStore
from local_workspace.auth import Auth
from local_workspace.child import listen
from local_workspace.engine import child_environment
from local_workspace.errors import ApiError, BadRequest, Conflict
from local_workspace.processes.sessions import Sessions
from local_workspace.secrets.store import Secrets
from local_workspace.state import State
from local_workspace.workspace.store import WorkspaceObjects, normal

MARK = "DATABRICKS_CLIENT_ID"
"""The environment variable by which a process is known to be of an app."""


class Apps:
    """Apps by name. `host` and `workspace_id` are told to every app."""

    def __init__(
        self,
        state: State,
        folder: Path,
        auth: Auth,
        objects: WorkspaceObjects,
        secrets: Secrets,
        host: str,
        workspace_id: str,
    ):
        self.store = AppStore(state)
        self._record = Sessions(state, MARK)
        self._folder = folder
        self._auth = auth
        self._objects = objects
        self._secrets = secrets
        self._host = host
        self._workspace_id = workspace_id
        self._runtimes: dict[str, AppRuntime] = {}
        self._client_secrets: dict[str, str] = {}

    async def start(self) -> None:
        """End what a killed workspace left behind, listen for every app and bring back those that ran."""
        await asyncio.to_thread(self._record.reap)
        for app in self.store.apps():
            runtime = await self._open(app["name"], app["client_id"], app["port"])
            await asyncio.to_thread(runtime.forget_other_sources, app["active_deployment"])
            if app["active"]:
                runtime.compute = "STARTING" if app["active_deployment"] else "ACTIVE"
                runtime.begin(self._start(app["name"]))

    async def stop(self) -> None:
        """Stop all processes; the apps that ran will run again after the next start."""
        await asyncio.gather(*(runtime.close() for runtime in self._runtimes.values()))

    async def create(self, name: str, settings: dict[str, Any], user: str, active: bool) -> None:
        """A new app with its own service principal and address; nothing is deployed. Raises AlreadyExists."""
        client_id, secret = self._auth.create_service_principal(f"app-{name}")
        try:
            self.store.add_app(name, str(uuid.uuid4()), settings, client_id, user, active)
        except ApiError:
            self._auth.delete_principal(client_id)
            raise
        self._client_secrets[name] = secret
        runtime = await self._open(name, client_id, 0)
        runtime.compute = "ACTIVE" if active else "STOPPED"

    async def delete(self, name: str) -> None:
        """Stop an app and forget it. Raises NotFound."""
        app = self.store.app(name)
        runtime = self._runtimes.pop(name)
        self.store.delete_app(name)
        await runtime.close()
        self._auth.delete_principal(app["client_id"])
        self._client_secrets.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)

    def runtime(self, name: str) -> AppRuntime:
        """An app as it runs. Raises NotFound."""
        self.store.app(name)
        return self._runtimes[name]

    def deploy(self, name: str, settings: dict[str, Any], user: str) -> str:
        """Begin a deployment and return its id. Raises NotFound, BadRequest, Conflict."""
        runtime = self.runtime(name)
        source = normal(settings["source_code_path"])
        if self._objects.status(source)["object_type"] != "DIRECTORY":
            raise BadRequest(f"source_code_path {source} is not a directory")
        if runtime.compute != "ACTIVE":
            raise Conflict(
                f"Cannot deploy app {name}: its compute is {runtime.compute}; start the app first.",
                error_code="INVALID_STATE",
            )
        deployment_id = uuid.uuid4().hex
        runtime.begin(self._deploy(name, deployment_id, settings))
        runtime.pending = deployment_id
        self.store.add_deployment(name, deployment_id, settings, user)
        return deployment_id

    def begin_start(self, name: str) -> None:
        """Begin to start an app with its last active deployment. Raises NotFound, Conflict."""
        runtime = self.runtime(name)
        if runtime.compute == "ACTIVE" and (runtime.running_instances or runtime.busy):
            return
        runtime.begin(self._start(name))
        runtime.compute = "STARTING"
        self.store.change_app(name, active=True)

    async def begin_stop(self, name: str) -> None:
        """Begin to stop an app; a deployment under way fails. Raises NotFound."""
        runtime = self.runtime(name)
        if runtime.compute in ("STOPPED", "STOPPING"):
            return
        await runtime.cancel()
        self.store.change_app(name, active=False)
        runtime.compute = "STOPPING"
        runtime.begin(self._stop(runtime))

    async def _open(self, name: str, client_id: str, port: int) -> AppRuntime:
        """The app's runtime, listening on its own port, or on another if that has been taken."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        runtime = AppRuntime(name, folder, client_id, lambda manifest: self._environment(name, manifest), self._record)
        listener = _listener(port)
        self.store.change_app(name, port=listener.getsockname()[1])
        await runtime.listen(listener, self._auth)
        self._runtimes[name] = runtime
        return runtime

    async def _deploy(self, name: str, deployment_id: str, settings: dict[str, Any]) -> None:
        runtime = self._runtimes[name]
        state, message = "FAILED", "the deployment was broken off"
        try:
            folder = runtime.deployment_folder(deployment_id)
            await asyncio.to_thread(self._objects.copy_tree, normal(settings["source_code_path"]), folder)
            await runtime.bring_up(deployment_id, settings, self._instances(name))
            state, message = "SUCCEEDED", "App started successfully"
            self.store.change_app(name, active_deployment=deployment_id)
        except (StartFailedError, ApiError) as error:
            message = runtime.failure = error.message if isinstance(error, ApiError) else str(error)
        except OSError as error:
            message = runtime.failure = f"the source could not be copied or run: {error}"
        finally:
            runtime.pending = None
            self.store.finish_deployment(deployment_id, state, message)
            if state == "FAILED":
                runtime.forget_source(deployment_id)

    async def _start(self, name: str) -> None:
        runtime = self._runtimes[name]
        app = self.store.app(name)
        try:
            if app["active_deployment"]:
                deployment = self.store.deployment(name, app["active_deployment"])
                await runtime.bring_up(deployment["deployment_id"], deployment["settings"], self._instances(name))
        except (StartFailedError, ApiError, OSError) as error:
            runtime.failure = error.message if isinstance(error, ApiError) else str(error)
        finally:
            runtime.compute = "ACTIVE"

    async def _stop(self, runtime: AppRuntime) -> None:
        await runtime.take_down()
        runtime.failure = ""
        runtime.compute = "STOPPED"

    def _instances(self, name: str) -> int:
        return int(self.store.app(name)["settings"].get("compute_min_instances") or 1)

    def _environment(self, name: str, manifest: Manifest) -> dict[str, str]:
        """What an app's processes are started with, but for their ports. Raises BadRequest, NotFound."""
        app = self.store.app(name)
        if name not in self._client_secrets:  # only hashes are kept: after a restart, the app gets a new one
            self._client_secrets[name] = self._auth.renew_secret(app["client_id"])
        values = environment(manifest.env, app["settings"].get("resources") or [], self._secrets.value)
        platform = {
            "DATABRICKS_APP_NAME": name,
            "DATABRICKS_HOST": self._host,
            "DATABRICKS_WORKSPACE_ID": self._workspace_id,
            MARK: app["client_id"],
            "DATABRICKS_CLIENT_SECRET": self._client_secrets[name],
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return child_environment({"PATH": path} | values | platform)


def _listener(port: int) -> socket.socket:
    with contextlib.suppress(OSError):
        return listen(port)
    return listen(0)

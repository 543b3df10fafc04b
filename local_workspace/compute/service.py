"""Clusters and the execution contexts on them."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_workspace.auth import Auth, Principal
from local_workspace.compute.clusters import INACTIVITY, USER_REQUEST, Clusters, InvalidState, now
from local_workspace.compute.contexts import MARK, ExecutionContext
from local_workspace.compute.pools import InstancePools
from local_workspace.compute.specs import complete
from local_workspace.errors import BadRequest
from local_workspace.jobs.process import environment as task_environment
from local_workspace.processes.sessions import Sessions
from local_workspace.secrets.references import References
from local_workspace.state import State

SWEEP_SECONDS = 30.0
MAX_CONTEXTS = 145
"""Execution contexts of one cluster, as on Databricks."""


class Compute:
    """What runs users' code interactively. `environment` is what a context is given by its token."""

    def __init__(
        self,
        state: State,
        folder: Path,
        auth: Auth,
        references: References,
        environment: Callable[[str], dict[str, str]],
    ):
        self.clusters = Clusters(state)
        self.pools = InstancePools(state)
        self.contexts: dict[str, ExecutionContext] = {}
        self._sessions = Sessions(state, MARK)
        self._folder = folder
        self._auth = auth
        self._references = references
        self._environment = environment
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """End what a killed workspace left behind, and watch for idle clusters."""
        await asyncio.to_thread(self._sessions.reap)
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """End every context."""
        if self._sweeper:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await asyncio.gather(*(context.destroy() for context in self.contexts.values()))
        self.contexts.clear()

    def create(self, spec: dict[str, Any], creator: str) -> str:
        """A new cluster. Raises BadRequest, NotFound for its instance pool."""
        return self.clusters.create(self.valid(spec), creator)

    async def edit(self, cluster_id: str, spec: dict[str, Any], user: str) -> None:
        """Give a cluster another specification; one that runs is started again with it. Raises BadRequest."""
        cluster = self.clusters.get(cluster_id)
        self.clusters.change(cluster_id, spec=self.valid(spec))
        self.clusters.event(cluster_id, "EDITED", user=user, attributes=spec, previous_attributes=cluster["spec"])
        if cluster["state"] == "RUNNING":
            await self.restart(cluster_id, user)

    def begin(self, cluster_id: str, user: str) -> None:
        """Start a terminated cluster. Raises InvalidState."""
        self._check_state(cluster_id, "TERMINATED")
        self.clusters.run(cluster_id, "STARTING", user)

    async def restart(self, cluster_id: str, user: str) -> None:
        """End the contexts of a running cluster and start it again. Raises InvalidState."""
        self._check_state(cluster_id, "RUNNING")
        await self._end_contexts(cluster_id)
        self.clusters.run(cluster_id, "RESTARTING", user, restarted_at=now())

    async def terminate(self, cluster_id: str, user: str | None) -> None:
        """End a cluster and what runs on it; `user` is None when it was idle for too long. Raises BadRequest."""
        if self.clusters.get(cluster_id)["state"] != "RUNNING":
            return
        reason = USER_REQUEST | {"parameters": {"username": user}} if user else INACTIVITY
        self.clusters.change(cluster_id, state="TERMINATING", ended_at=now(), reason=reason)
        self.clusters.event(cluster_id, "TERMINATING", reason=reason, **({"user": user} if user else {}))
        await self._end_contexts(cluster_id)
        message = "Terminated by user" if user else "Terminated after inactivity"
        self.clusters.change(cluster_id, state="TERMINATED", message=message, ended_at=now())

    def create_context(self, cluster_id: str, language: str, principal: Principal) -> ExecutionContext:
        """A new context on a running cluster; it acts for `principal`. Raises ApiError when that cannot be."""
        cluster = self._check_state(cluster_id, "RUNNING")
        if len(self._of(cluster_id)) >= MAX_CONTEXTS:
            raise BadRequest(f"cluster {cluster_id} has {MAX_CONTEXTS} execution contexts: destroy some")
        token = self._auth.lend(principal.name)
        given = self._environment(token) | {
            "DATABRICKS_TOKEN": token,
            "LOCAL_WORKSPACE_USER": principal.name,
        }
        variables = cluster["spec"].get("spark_env_vars", {})
        environment = task_environment({n: self._references.value(v) for n, v in variables.items()} | given)
        context = ExecutionContext(cluster_id, language, self._folder, environment)
        context.on_start = lambda pid: self._sessions.add(pid, context.context_id)
        context.on_end = lambda pid: self._ended(pid, token)
        self.contexts[context.context_id] = context
        return context

    def valid(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A whole specification. Raises BadRequest, NotFound for its instance pool."""
        whole = complete(spec)
        for name in ("instance_pool_id", "driver_instance_pool_id"):
            if name in whole:
                self.pools.get(whole[name])
        return whole

    async def expire(self, moment: float) -> None:
        """Terminate the clusters that nobody has used for their `autotermination_minutes` at `moment` (s)."""
        for cluster in self.clusters.all():
            minutes = cluster["spec"]["autotermination_minutes"]
            used = [c.touched for c in self._of(cluster["cluster_id"])] + [cluster["started_at"] / 1000]
            busy = any(context.busy for context in self._of(cluster["cluster_id"]))
            if cluster["state"] == "RUNNING" and minutes and not busy and max(used) + minutes * 60 < moment:
                await self.terminate(cluster["cluster_id"], None)

    def _ended(self, pid: int | None, token: str) -> None:
        self._auth.give_back(token)
        if pid is not None:
            self._sessions.remove(pid)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.expire(time.time())

    def _of(self, cluster_id: str) -> list[ExecutionContext]:
        return [context for context in self.contexts.values() if context.cluster_id == cluster_id]

    async def _end_contexts(self, cluster_id: str) -> None:
        ended = self._of(cluster_id)
        for context in ended:
            self.contexts.pop(context.context_id, None)
        await asyncio.gather(*(context.destroy() for context in ended))

    def _check_state(self, cluster_id: str, wanted: str) -> dict[str, Any]:
        cluster = self.clusters.get(cluster_id)
        if cluster["state"] != wanted:
            state = cluster["state"].capitalize()
            raise InvalidState(f"Cluster {cluster_id} is in unexpected state {state}: it must be {wanted.lower()}.")
        return cluster

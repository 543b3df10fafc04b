"""Jobs and their runs: created, started, queued, cancelled, repaired, and brought back after a crash."""

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_workspace.errors import BadRequest
from local_workspace.jobs import graph, process
from local_workspace.jobs.attempts import Attempts, Outcome, broken
from local_workspace.jobs.execution import CANCELLED, RESTARTED, Execution
from local_workspace.jobs.store import JobStore, Run, now
from local_workspace.processes.sessions import kill_sessions

if TYPE_CHECKING:
    from local_workspace.context import LocalWorkspace

log = logging.getLogger(__name__)
KEPT_DAYS = 60
"""How long a run that has ended is kept, as in a real workspace."""
MAX_DEPTH = 3
"""Levels of jobs that start jobs by run_job_task."""
NO_PLACE = "The maximum number of concurrent runs of the job is reached."


class Jobs:
    """Every run goes through here."""

    def __init__(self, ws: "LocalWorkspace", store: JobStore, folder: Path):
        self.store = store
        self.attempts = Attempts(ws, folder)
        self._host, self._workspace_id = ws.host, ws.workspace_id
        self._running: dict[int, tuple[Execution, asyncio.Task[None]]] = {}
        self._stopping = False
        self.on_over: Callable[[], None] = lambda: None
        """Called when a run has ended."""

    async def start(self) -> None:
        """End what a killed workspace has left running, and go on with its runs."""
        for run in self.store.older(now() - KEPT_DAYS * 86_400_000):
            self.delete_run(run.run_id)
        runs = self.store.active()
        tasks = {run.run_id: [task for task in self._all_tasks(run) if not task.finished] for run in runs}
        left = [
            (task.output["pid"], str(task.run_id), task.running_since / 1000)
            for found in tasks.values()
            for task in found
            if task.output.get("pid")
        ]
        await asyncio.to_thread(kill_sessions, left, process.MARK)
        for run in runs:
            for task in tasks[run.run_id]:
                self._interrupted(run, task)
            if run.life == "TERMINATING":
                self._execution(run).close("CANCELED", CANCELLED)
            elif run.kind == "WORKFLOW_RUN":
                self._execution(run).close("CANCELED", "The notebook that started it was ended with the workspace.")
            elif run.life not in ("QUEUED", "BLOCKED"):
                self._go(run)
        for job_id in {run.job_id for run in runs}:
            self._admit(job_id)

    async def stop(self) -> None:
        """End every process; the next start goes on from there."""
        self._stopping = True
        working = list(self._running.values())
        for execution, task in working:
            execution.stopping = True
            task.cancel()
        await asyncio.gather(*(task for _, task in working), return_exceptions=True)

    # Starting

    def run_now(
        self, job_id: int, given: dict[str, Any], caller: str, trigger: str = "ONE_TIME", token: str | None = None
    ) -> Run:
        """A run of a job; queued or skipped when too many run already. Raises BadRequest."""
        job = self.store.job(job_id)
        settings = job.settings
        tasks = settings.get("tasks") or []
        if only := given.get("only"):
            if unknown := set(only) - {task["task_key"] for task in tasks}:
                raise BadRequest(f"only: the job has no task {', '.join(sorted(unknown))}")
            tasks = [task for task in tasks if task["task_key"] in only]
        if not tasks:
            raise BadRequest(f"Job {job_id} has no tasks to run.")
        queue = (given.get("queue") or settings.get("queue") or {}).get("enabled") is True
        free = self._free(job_id, settings)
        life = "PENDING" if free else ("QUEUED" if queue else "SKIPPED")
        run, new = self.store.submit(
            job_id,
            life,
            tasks,
            token and f"{job_id}:{token}",
            name=job.name,
            creator=caller,
            trigger=trigger,
            settings=settings | {"tasks": tasks},
            given=given,
            message="" if free else NO_PLACE,
        )
        if new and life == "SKIPPED":
            run.result, run.end = "MAXIMUM_CONCURRENT_RUNS_REACHED", now()
            self.store.save(run)
            for task in self.store.tasks(run.run_id):
                task.life, task.result, task.message, task.end = "SKIPPED", run.result, NO_PLACE, now()
                self.store.save(task)
        elif new and life == "PENDING":
            self._go(run)
        return run

    def submit(self, settings: dict[str, Any], caller: str, kind: str, token: str | None = None) -> Run:
        """A run without a job. Raises BadRequest."""
        tasks = settings.get("tasks") or []
        if not tasks:
            raise BadRequest("tasks: a run needs at least one task")
        name = settings.get("run_name") or "Untitled"
        run, new = self.store.submit(
            None, "PENDING", tasks, token, name=name, creator=caller, kind=kind, settings=settings
        )
        if new:
            self._go(run)
        return run

    # Ending

    async def cancel(self, run_id: int) -> None:
        """End a run, or one task of it; one that has ended stays as it is. Raises BadRequest."""
        run = self.store.run(run_id)
        job_run = self.store.run(run.job_run_id) if run.job_run_id else run
        working = self._running.get(job_run.run_id)
        if working and run.job_run_id and not run.finished:
            working[0].cancel_task(run.task_key)
        elif working and working[0].run.life == "TERMINATING":
            return
        elif working:
            working[0].run.life = "TERMINATING"
            self.store.save(working[0].run)
            working[1].cancel()
        elif not job_run.finished:  # it waits in the queue
            for waiting in (*self.store.tasks(job_run.run_id), job_run):
                waiting.life, waiting.result, waiting.end = "TERMINATED", "CANCELED", now()
                waiting.message, waiting.cancelled = CANCELLED, True
                self.store.save(waiting)

    async def cancel_all(self, job_id: int | None, queued_only: bool) -> None:
        """End the runs of a job, or of all; with `queued_only` those that wait in the queue."""
        for run in reversed(self.store.active(job_id)):  # the newest first: a freed place goes to none of them
            if not queued_only or run.life == "QUEUED":
                await self.cancel(run.run_id)

    async def ended(self, run_id: int) -> Run:
        """A run, once it has ended."""
        while not (run := self.store.run(run_id)).finished:
            working = self._running.get(run_id)
            await (asyncio.wait([working[1]]) if working else asyncio.sleep(0.2))
        return run

    def delete_run(self, run_id: int) -> None:
        """Forget a run and its files. Raises BadRequest while it runs."""
        run = self.store.run(run_id)
        if run.job_run_id:
            raise BadRequest(f"Run {run_id} is a task's run: delete the run {run.job_run_id} it belongs to.")
        if not run.finished:
            raise BadRequest(f"Run {run_id} has not ended: cancel it first.", error_code="INVALID_STATE")
        for task_id in self.store.delete_run(run):
            shutil.rmtree(self.attempts.folder(task_id), ignore_errors=True)

    # Repairing

    def repair(self, run_id: int, wanted: dict[str, Any]) -> int:
        """Run tasks of an ended run again; the repair's id. Raises BadRequest."""
        run = self.store.run(run_id)
        if run.job_run_id or not run.finished or run.life == "SKIPPED":
            raise BadRequest(f"Run {run_id} cannot be repaired: only an ended run of a job can.")
        latest_id = run.repairs[-1].get("id") if run.repairs else None
        if latest_id != wanted.get("latest_repair_id"):
            raise BadRequest(f"latest_repair_id: the latest repair of run {run_id} is {latest_id or 'none'}")
        latest = {task.task_key: task for task in self.store.tasks(run_id)}
        chosen = self._to_repair(latest, wanted)
        if not run.repairs:
            first = min(task.run_id for task in latest.values())
            ended = {"end": run.end, "life": run.life, "result": run.result, "message": run.message}
            run.repairs.append({"start": run.start, "first": first} | ended)
        given = {name: value for name, value in wanted.items() if name.endswith("_params") or name == "job_parameters"}
        run.given = run.given | {name: value for name, value in given.items() if value}
        again = [self._again(latest[key]) for key in latest if key in chosen]
        run.repairs.append({"id": again[0].run_id, "start": now(), "first": again[0].run_id})
        run.life, run.result, run.end, run.running_since, run.code = "PENDING", None, 0, 0, ""
        self.store.save(run)
        self._go(run)
        return again[0].run_id

    def _to_repair(self, latest: dict[str, Run], wanted: dict[str, Any]) -> set[str]:
        chosen = set(wanted.get("rerun_tasks") or [])
        if unknown := chosen - latest.keys():
            raise BadRequest(f"rerun_tasks: the run has no task {', '.join(sorted(unknown))}")
        if wanted.get("rerun_all_failed_tasks"):
            chosen |= {key for key, task in latest.items() if task.result not in (*graph.SUCCEEDED, "DISABLED")}
        while wanted.get("rerun_dependent_tasks"):
            more = {key for key, task in latest.items() if chosen & _needed(task)} - chosen
            if not more:
                break
            chosen |= more
        if not chosen:
            raise BadRequest("rerun_tasks or rerun_all_failed_tasks must name at least one task to run again")
        return chosen

    def _again(self, task: Run) -> Run:
        return self.store.add(
            task.job_id,
            task.job_run_id,
            "BLOCKED",
            task_key=task.task_key,
            settings=task.settings,
            creator=task.creator,
            attempt=task.attempt + 1,
            original=task.original,
        )

    # Inside

    def _go(self, run: Run) -> None:
        execution = self._execution(run)
        task = asyncio.get_running_loop().create_task(execution.go(), name=f"run-{run.run_id}")
        self._running[run.run_id] = execution, task
        task.add_done_callback(lambda done: self._over(execution, done))

    def _execution(self, run: Run) -> Execution:
        return Execution(run, self.store, self.attempts, self._host, self._workspace_id, self._run_job)

    def _over(self, execution: Execution, task: asyncio.Task[None]) -> None:
        run = execution.run
        self._running.pop(run.run_id, None)
        if self._stopping:
            return
        if not task.cancelled() and (error := task.exception()):
            log.error("run %d", run.run_id, exc_info=error)
            execution.close("FAILED", "The workspace failed to run it; its log says more.")
        elif not run.finished:  # cancelled before it began
            execution.close("CANCELED", CANCELLED)
        self._admit(run.job_id)
        self.on_over()

    def _admit(self, job_id: int) -> None:
        """Start what waits in a job's queue, while there is place."""
        for run in self.store.active(job_id):
            if run.life == "QUEUED":
                job = self.store.find_job(job_id)
                if not self._free(job_id, job.settings if job else run.settings):
                    return
                run.life, run.message = "PENDING", ""
                self.store.save(run)
                self._go(run)

    def _free(self, job_id: int, settings: dict[str, Any]) -> bool:
        most = settings.get("max_concurrent_runs")
        active = sum(run.life != "QUEUED" for run in self.store.active(job_id))
        return active < (1 if most is None else most)

    def _all_tasks(self, run: Run) -> Iterable[Run]:
        for task in self.store.tasks(run.run_id):
            yield task
            if task.settings.get("for_each_task"):
                yield from self.store.tasks(run.run_id, task.run_id)

    def _interrupted(self, run: Run, task: Run) -> None:
        """A task that was running when the workspace ended has failed; it is tried again if it has retries left.

        A condition is compared again.
        """
        if task.life not in ("PENDING", "RUNNING", "TERMINATING"):
            return
        if task.settings.get("condition_task"):  # a comparison leaves nothing half done
            task.life, task.running_since = "BLOCKED", 0
            self.store.save(task)
            return
        task.life, task.result, task.end = "INTERNAL_ERROR", "FAILED", now()
        task.code, task.message = "INTERNAL_ERROR", RESTARTED
        task.output = {name: value for name, value in task.output.items() if name != "pid"} | {"error": RESTARTED}
        self.store.save(task)
        retries = task.settings.get("max_retries") or 0
        if not task.parent and (retries < 0 or task.attempt < retries) and run.life != "TERMINATING":
            self._again(task)

    async def _run_job(self, run: Run, task: Run, wanted: dict[str, Any]) -> Outcome:
        """A run_job_task: start the job, wait, and end as it does."""
        depth = run.given.get("depth", 1)
        if depth > MAX_DEPTH:
            return broken(f"run_job_task: jobs start jobs at most {MAX_DEPTH} levels deep", "INVALID_RUN_CONFIGURATION")
        given = {name: value for name, value in wanted.items() if name != "job_id"} | {"depth": depth + 1}
        try:
            child = self.run_now(int(wanted["job_id"]), given, run.creator, "RUN_JOB_TASK")
        except (BadRequest, ValueError) as error:
            return broken(f"run_job_task: {error}", "INVALID_RUN_CONFIGURATION")
        task.output["child_run"] = child.run_id
        self.store.save(task)
        try:
            ended = await self.ended(child.run_id)
        except asyncio.CancelledError:
            if not self._stopping:
                await self.cancel(child.run_id)
            raise
        if ended.result in graph.SUCCEEDED:
            return Outcome()
        return Outcome("FAILED", f"Run {child.run_id} of job {child.job_id} ended with {ended.result}: {ended.message}")


def _needed(task: Run) -> set[str]:
    return {dependency["task_key"] for dependency in task.settings.get("depends_on") or []}

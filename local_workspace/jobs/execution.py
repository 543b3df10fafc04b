"""A run of a job while it runs: tasks start when the tasks before them have ended, and are tried again."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from local_workspace.jobs import graph, notifications
from local_workspace.jobs.attempts import Attempts, Outcome, Work, broken, condition
from local_workspace.jobs.references import UnresolvedError, resolve
from local_workspace.jobs.store import JobStore, Run, now
from local_workspace.jobs.values import known_values, parameters_of, references

log = logging.getLogger(__name__)
MAX_ITERATIONS = 5000
CANCELLED = "Run cancelled."
RESTARTED = "The workspace ended while this task ran."


class Execution:
    """One run. It is over when `go` returns; `go` is cancelled to end it before, with `reason` saying why."""

    def __init__(
        self,
        run: Run,
        store: JobStore,
        attempts: Attempts,
        host: str,
        workspace_id: str,
        run_job: Callable[[Run, Run, dict[str, Any]], Awaitable[Outcome]],
    ):
        self.run = run
        self.stopping = False
        """The workspace ends: leave everything as it is, for its next start."""
        self._store = store
        self._attempts = attempts
        self._workspace = {"id": workspace_id, "url": host}
        self._run_job = run_job
        self._working: dict[str, asyncio.Task[None]] = {}

    async def go(self) -> None:
        """Run what is left to run, and say how it ended."""
        run = self.run
        begins = not run.running_since
        run.life, run.running_since, run.message = "RUNNING", run.running_since or now(), ""
        self._store.save(run)
        if begins:
            notifications.record(self._store, run, "on_start")
        seconds = run.settings.get("timeout_seconds") or 0
        left = max(seconds - (now() - run.running_since) / 1000, 0) if seconds else None
        try:
            async with asyncio.timeout(left):
                await self._tasks()
        except TimeoutError:
            self.close("TIMEDOUT", f"Run timed out after {seconds} seconds.")
        except asyncio.CancelledError:
            if self.stopping:
                raise
            self.close("CANCELED", CANCELLED)
        else:
            self.close(None, "")

    def cancel_task(self, task_key: str) -> bool:
        """End one task; whether it was running."""
        working = self._working.get(task_key)
        return working is not None and working.cancel()

    # The graph

    def _latest(self) -> dict[str, Run]:
        return {task.task_key: task for task in self._store.tasks(self.run.run_id)}

    async def _tasks(self) -> None:
        try:
            while self._advance() or self._working:
                if not self._working:
                    continue
                await asyncio.wait(self._working.values(), return_when=asyncio.FIRST_COMPLETED)
                for key in [key for key, working in self._working.items() if working.done()]:
                    working = self._working.pop(key)
                    if not working.cancelled():
                        working.result()
        finally:
            for working in self._working.values():
                working.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)
            self._working.clear()

    def _advance(self) -> bool:
        """Start every task that may start and end those that may not; whether anything changed."""
        latest = self._latest()
        results = {key: task.result or "FAILED" for key, task in latest.items() if task.finished}
        outcomes = {key: task.output["outcome"] for key, task in latest.items() if "outcome" in task.output}
        changed = False
        for key, task in latest.items():
            needed = [dependency["task_key"] for dependency in task.settings.get("depends_on") or []]
            if task.finished or key in self._working or not all(name in results for name in needed if name in latest):
                continue
            known = results | {name: "SUCCESS" for name in needed if name not in latest}  # left out by `only`
            verdict = "DISABLED" if task.settings.get("disabled") else graph.verdict(task.settings, known, outcomes)
            changed = True
            if verdict:
                self._end(task, Outcome(verdict, _why(verdict)))
            else:
                self._working[key] = asyncio.create_task(self._work(task), name=f"task-{task.run_id}")
        return changed

    # One task

    async def _work(self, task: Run) -> None:
        """Attempts at a task until one succeeds or there are none left."""
        while True:
            self._end(task, await self._attempt(task, {}))
            if not self._again(task):
                return
            task = self.next_attempt(task)
            await asyncio.sleep((task.settings.get("min_retry_interval_millis") or 0) / 1000)

    def next_attempt(self, task: Run) -> Run:
        """A new attempt at a task."""
        return self._store.add(
            task.job_id,
            task.job_run_id,
            "WAITING_FOR_RETRY",
            task.parent,
            task_key=task.task_key,
            settings=task.settings,
            creator=task.creator,
            attempt=task.attempt + 1,
            original=task.original,
            output={"input": task.output["input"]} if "input" in task.output else {},
        )

    def _again(self, task: Run) -> bool:
        retries = task.settings.get("max_retries") or 0
        if task.result == "TIMEDOUT" and not task.settings.get("retry_on_timeout"):
            return False
        return task.result in ("FAILED", "TIMEDOUT") and (retries < 0 or task.attempt < retries)

    async def _attempt(self, task: Run, extra: dict[str, Any]) -> Outcome:
        """One attempt; `extra` are names that references may use. Cancelled, it marks the task as canceled."""
        task.start, task.life = now(), "PENDING"
        self._store.save(task)
        if not task.parent:
            notifications.record(self._store, task, "on_start")
        seconds = task.settings.get("timeout_seconds") or None
        try:
            async with asyncio.timeout(seconds):
                return await self._dispatch(task, self._names(task) | extra)
        except TimeoutError:
            message = f"Task timed out after {seconds} seconds."
            return Outcome("TIMEDOUT", message, output={"error": message} | self._left(task))
        except UnresolvedError as error:
            return broken(str(error), "INVALID_RUN_CONFIGURATION")
        except asyncio.CancelledError:
            if not self.stopping:
                self._end(task, Outcome("CANCELED", CANCELLED, output=self._left(task)))
            raise

    async def _dispatch(self, task: Run, names: dict[str, Any]) -> Outcome:
        kind = next(name for name in task.settings if name.endswith("_task") and task.settings[name] is not None)
        if kind == "for_each_task":
            return await self._for_each(task, names)
        settings = task.settings | {kind: resolve(task.settings[kind], names)}
        task.output["resolved"] = {kind: settings[kind]}

        def begun(pid: int) -> None:
            task.life, task.running_since = "RUNNING", now()
            task.output["pid"] = pid
            self._store.save(task)

        if kind == "condition_task":
            begun(0)
            return condition(settings[kind])
        if kind == "run_job_task":
            begun(0)
            return await self._run_job(self.run, task, settings[kind])
        values = {key: item.get("values", {}) for key, item in names["tasks"].items()}
        parameters = {name: str(value) for name, value in names["job"]["parameters"].items()}
        return await self._attempts.process(Work(task, self.run, settings, parameters, values, begun))

    async def _for_each(self, task: Run, names: dict[str, Any]) -> Outcome:
        """The nested task for every input, some at once."""
        each = task.settings["for_each_task"]
        try:
            inputs = json.loads(resolve(each["inputs"], names))
        except ValueError:
            inputs = None
        if not isinstance(inputs, list) or len(inputs) > MAX_ITERATIONS:
            return broken(
                f"for_each_task.inputs must be a JSON array of at most {MAX_ITERATIONS}", "INVALID_RUN_CONFIGURATION"
            )
        task.life, task.running_since = "RUNNING", now()
        stats = dict.fromkeys(("active", "completed", "failed", "scheduled", "succeeded"), 0)
        stats |= {"scheduled": len(inputs), "total": len(inputs)}
        places = asyncio.Semaphore(each.get("concurrency") or 1)

        def count(**changes: int) -> None:
            for name, change in changes.items():
                stats[name] += change
            task.output["stats"] = {f"{name}_iterations": number for name, number in stats.items()}
            self._store.save(task)

        async def iterate(number: int, value: Any) -> None:
            async with places:
                count(active=1, scheduled=-1)
                result = await self._iteration(task, each["task"], number, value)
                succeeded = result in graph.SUCCEEDED
                count(active=-1, completed=1, succeeded=int(succeeded), failed=int(not succeeded))

        count()
        async with asyncio.TaskGroup() as group:
            for number, value in enumerate(inputs):
                group.create_task(iterate(number, value))
        kept = {"stats": task.output["stats"]}
        if stats["failed"]:
            return Outcome("FAILED", f"{stats['failed']} of {len(inputs)} iterations failed.", output=kept)
        return Outcome(output=kept)

    async def _iteration(self, parent: Run, nested: dict[str, Any], number: int, value: Any) -> str:
        attempt = self._store.add(
            parent.job_id,
            parent.job_run_id,
            "PENDING",
            parent.run_id,
            task_key=f"{nested['task_key']}_{number}",
            settings=nested,
            creator=parent.creator,
            output={"input": value},
        )
        while True:
            own = {"name": nested["task_key"], "run_id": attempt.run_id, "execution_count": attempt.attempt + 1}
            self._end(attempt, await self._attempt(attempt, {"input": value, "task": own}))
            if not self._again(attempt):
                return attempt.result or "FAILED"
            attempt = self.next_attempt(attempt)
            await asyncio.sleep((nested.get("min_retry_interval_millis") or 0) / 1000)

    # Records

    def _names(self, task: Run) -> dict[str, Any]:
        return references(self.run, task, known_values(self._latest()), parameters_of(self.run), self._workspace)

    def _left(self, task: Run) -> dict[str, Any]:
        """What an attempt that was ended had done so far."""
        return {name: task.output[name] for name in ("stats", "child_run") if name in task.output}

    def _end(self, task: Run, outcome: Outcome) -> None:
        kept = {name: task.output[name] for name in ("resolved", "input", "child_run") if name in task.output}
        task.life, task.result, task.message = outcome.life, outcome.result, outcome.message
        task.code, task.end, task.output = outcome.code, now(), kept | outcome.output
        task.cancelled = outcome.result in ("CANCELED", "TIMEDOUT")
        if not task.running_since and outcome.result not in ("SUCCESS", "FAILED", "TIMEDOUT", "CANCELED"):
            task.start = task.end
        self._store.save(task)
        if not task.parent:
            notifications.record(self._store, task, "on_end")

    def close(self, result: str | None, message: str) -> None:
        """End the run, and with it every task that has not ended."""
        run = self.run
        for task in self._latest().values():
            if not task.finished:
                self._end(task, Outcome("CANCELED" if result else "FAILED", message))
        latest = self._latest()
        results = {key: task.result or "FAILED" for key, task in latest.items()}
        run.result = result or graph.overall([task.settings for task in latest.values()], results)
        run.cancelled = run.result in ("CANCELED", "TIMEDOUT")
        run.message = message or _summary(latest)
        lost = any(task.life == "INTERNAL_ERROR" and task.result == "FAILED" for task in latest.values())
        run.life = "INTERNAL_ERROR" if lost and run.result == "FAILED" else "TERMINATED"
        run.code = next((task.code for task in latest.values() if task.life == "INTERNAL_ERROR"), "") if lost else ""
        run.end = now()
        if run.repairs:
            run.repairs[-1] |= {"end": run.end, "life": run.life, "result": run.result, "message": run.message}
        self._store.save(run)
        notifications.record(self._store, run, "on_end")


def _why(verdict: str) -> str:
    return {
        "UPSTREAM_FAILED": "An upstream task failed.",
        "UPSTREAM_CANCELED": "An upstream task was canceled.",
        "EXCLUDED": "The conditions for this task to run were not met.",
        "DISABLED": "The task is disabled.",
    }[verdict]


def _summary(latest: dict[str, Run]) -> str:
    failed = [task for task in latest.values() if task.result in ("FAILED", "TIMEDOUT")]
    if not failed:
        return ""
    skipped = any(task.result == "UPSTREAM_FAILED" for task in latest.values())
    first = f"Task {failed[0].task_key} failed with message: {failed[0].message}"
    return f"{first.rstrip('.')}." + (" This caused all downstream tasks to get skipped." if skipped else "")

"""`dbutils.notebook`: leave a notebook with a value, run another one, know where one is."""

import json
import time
from collections.abc import Mapping
from typing import Any

from local_workspace.runtime.context import Context
from local_workspace.runtime.rest import Rest

FINISHED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
PARENT_HEADER = "x-local-workspace-parent-run"
"""Tells the workspace whose task submits a run, which then is a WORKFLOW_RUN."""


class NotebookExit(BaseException):
    """Ends the notebook with success; no `except Exception` catches it."""

    def __init__(self, value: str):
        super().__init__(value)
        self.value = value


class WorkflowException(Exception):
    """A notebook run by `dbutils.notebook.run` has failed or took too long."""


class Notebook:
    """`dbutils.notebook`."""

    def __init__(self, context: Context, rest: Rest):
        self._context = context
        self._rest = rest
        self.entry_point = EntryPoint(context)

    def exit(self, value: Any = "") -> None:
        """End the notebook with `value` as its result."""
        raise NotebookExit(str(value))

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, Any] | None = None) -> str:
        """Run another notebook as a run of its own and return what it exits with. Raises WorkflowException."""
        where = self._context.absolute(path)
        given = {str(name): str(value) for name, value in (arguments or {}).items()}
        task = {"task_key": "notebook", "notebook_task": {"notebook_path": where, "base_parameters": given}}
        headers = {PARENT_HEADER: str(self._context.task_run_id or "")}
        body = {"run_name": where.rpartition("/")[2], "timeout_seconds": timeout_seconds, "tasks": [task]}
        run_id = self._rest.post("/api/2.2/jobs/runs/submit", body, headers)["run_id"]
        try:
            run = self._wait(run_id)
        except BaseException:
            self._rest.post("/api/2.2/jobs/runs/cancel", {"run_id": run_id})
            raise
        output = json.loads(self._rest.get("/api/2.2/jobs/runs/get-output", run_id=run["tasks"][-1]["run_id"]))
        if run["state"].get("result_state") != "SUCCESS":
            reason = output.get("error") or run["state"].get("state_message") or run["state"].get("result_state")
            raise WorkflowException(f"{where} failed: {reason}")
        return output.get("notebook_output", {}).get("result", "")

    def getContext(self) -> "NotebookContext":
        """Where this notebook is."""
        return NotebookContext(self._context)

    def _wait(self, run_id: int) -> dict[str, Any]:
        pause = 0.05
        while True:
            run = json.loads(self._rest.get("/api/2.2/jobs/runs/get", run_id=run_id))
            if run["state"]["life_cycle_state"] in FINISHED:
                return run
            time.sleep(pause)
            pause = min(pause * 1.3, 1.0)


class Option:
    """A Scala Option, as the context's methods return it."""

    def __init__(self, value: str | None):
        self._value = value

    def get(self) -> str:
        """The value. Raises ValueError when there is none."""
        if self._value is None:
            raise ValueError("None.get")
        return self._value

    def isDefined(self) -> bool:
        """Whether there is a value."""
        return self._value is not None

    def getOrElse(self, default: Any) -> Any:
        """The value, or `default`."""
        return default if self._value is None else self._value


class Tags:
    """A Scala Map of Options."""

    def __init__(self, values: dict[str, str]):
        self._values = values

    def get(self, name: str) -> Option:
        """A tag's value."""
        return Option(self._values.get(name))

    def apply(self, name: str) -> str:
        """A tag's value. Raises KeyError."""
        return self._values[name]


class NotebookContext:
    """`dbutils.notebook.getContext()` and `dbutils.notebook.entry_point.getDbutils().notebook().getContext()`."""

    def __init__(self, context: Context):
        self._context = context

    def apiUrl(self) -> Option:
        """The workspace's address."""
        return Option(self._context.host)

    def apiToken(self) -> Option:
        """This process's token."""
        return Option(self._context.token)

    def browserHostName(self) -> Option:
        """The workspace's address without its scheme."""
        return Option(self._context.host.partition("://")[2])

    def notebookPath(self) -> Option:
        """The notebook's path."""
        return Option(self._context.notebook_path)

    def userName(self) -> Option:
        """Whose run it is."""
        return Option(self._context.user)

    def workspaceId(self) -> Option:
        """The workspace's id."""
        return Option(self._context.workspace_id)

    def currentRunId(self) -> Option:
        """The task's run."""
        return Option(None if self._context.task_run_id is None else str(self._context.task_run_id))

    def jobId(self) -> Option:
        """The job."""
        return Option(None if self._context.job_id is None else str(self._context.job_id))

    def tags(self) -> Tags:
        """The same facts as tags."""
        return Tags(self._tags())

    def toJson(self) -> str:
        """All of it but the token, as the real one does."""
        extra = {"notebook_path": self._context.notebook_path, "api_url": self._context.host}
        run = None if self._context.task_run_id is None else {"id": self._context.task_run_id}
        return json.dumps({"currentRunId": run, "tags": self._tags(), "extraContext": extra})

    safeToJson = toJson

    def _tags(self) -> dict[str, str]:
        facts = {
            "user": self._context.user,
            "orgId": self._context.workspace_id,
            "browserHostName": self._context.host.partition("://")[2],
            "jobId": self._context.job_id,
            "multitaskParentRunId": self._context.run_id,
            "runId": self._context.task_run_id,
            "taskKey": self._context.task_key,
        }
        return {name: str(value) for name, value in facts.items() if value not in (None, "")}


class EntryPoint:
    """The way of older code to the context, through what was a Java gateway."""

    def __init__(self, context: Context):
        self._context = context

    def getDbutils(self) -> "EntryPoint":
        """The gateway's dbutils."""
        return self

    def notebook(self) -> "EntryPoint":
        """Its notebook utilities."""
        return self

    def getContext(self) -> NotebookContext:
        """Where this notebook is."""
        return NotebookContext(self._context)

"""What the tests of jobs share: notebooks from text, and runs waited for without the SDK's long pauses."""

import time
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import NotebookTask, Run, RunTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat, Language

FINISHED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


def notebook(client: WorkspaceClient, name: str, *cells: str, language: Language = Language.PYTHON) -> str:
    """A notebook in /Shared with these cells; its path."""
    path = f"/Shared/{name}"
    comment = "--" if language == Language.SQL else "#"
    content = f"{comment} Databricks notebook source\n" + f"\n{comment} COMMAND ----------\n".join(cells)
    client.workspace.upload(path, content.encode(), format=ImportFormat.SOURCE, language=language, overwrite=True)
    return path


def task(client: WorkspaceClient, key: str, *cells: str, after: str = "", **settings: Any) -> dict[str, Any]:
    """A notebook task with these cells, after the tasks named in `after`."""
    made = {"task_key": key, "notebook_task": {"notebook_path": notebook(client, f"cells-{time.time_ns()}", *cells)}}
    if after:
        made["depends_on"] = [{"task_key": name} for name in after.split()]
    return made | settings


def submit(client: WorkspaceClient, *cells: str, **parameters: str) -> Run:
    """The finished run of a notebook with these cells."""
    path = notebook(client, f"cells-{time.time_ns()}", *cells)
    work = SubmitTask("only", notebook_task=NotebookTask(path, base_parameters=parameters))
    return finished(client, client.jobs.submit(run_name="test", tasks=[work]).run_id)


def finished(client: WorkspaceClient, run_id: int, seconds: float = 60) -> Run:
    """A run, once it has ended."""
    return until(client, run_id, FINISHED, seconds)


def until(client: WorkspaceClient, run_id: int, states: tuple[str, ...], seconds: float = 60) -> Run:
    """A run, once it is in one of the states."""
    deadline = time.monotonic() + seconds
    while True:
        run = client.jobs.get_run(run_id)
        if run.state.life_cycle_state.value in states:
            return run
        assert time.monotonic() < deadline, run.as_dict()
        time.sleep(0.05)


def output(client: WorkspaceClient, run: Run | RunTask) -> str | None:
    """What the notebook of a run with one task has exited with; its error when it has failed."""
    found = client.jobs.get_run_output(run.run_id)
    return found.error or found.notebook_output.result


def results(run: Run) -> dict[str, str]:
    """The latest result of each task."""
    return {task.task_key: task.state.result_state.value for task in run.tasks if task.state.result_state}

"""`python -m local_workspace.runtime.task <folder>`: one attempt of a job's task, in a process of its own.

The folder holds `task.json` (what to run: see `Task`) and gets `result.json` (how it ended), `notebook.ipynb` (the
executed copy) and `values.json` (task values). What is printed is the log.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import threading
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from local_workspace.runtime.cells import Cell, parse
from local_workspace.runtime.context import Context
from local_workspace.runtime.outputs import Failure, Result
from local_workspace.runtime.packages import InstallError, prepared
from local_workspace.runtime.record import NOTEBOOK, Record
from local_workspace.runtime.shell import Shell
from local_workspace.runtime.sql_task import run_sql

RESULT_FILE, TASK_FILE, RESUME_FILE = "result.json", "task.json", "resume.json"
END_SECONDS = 10.0
"""How long a process may take to end when its work is done."""
MAX_RESULT = 5 << 20
"""Characters of a notebook's exit value that are kept."""


@dataclass(frozen=True)
class Task:
    """What to run."""

    kind: str
    """`notebook`, `python`, `wheel` or `sql`."""
    context: dict[str, Any]
    """The fields of `Context` but for host and token, which are in the environment."""
    source: str = ""
    """The notebook's or script's file on disk."""
    language: str = "PYTHON"
    jupyter: bool = False
    path: str = ""
    """The script's name for users."""
    package: str = ""
    entry_point: str = ""
    query_id: str = ""
    """Of a saved query, when a SQL task has no file."""
    warehouse_id: str = ""
    arguments: list[str] = field(default_factory=list)
    keywords: dict[str, str] = field(default_factory=dict)
    """Named parameters of a wheel's entry point."""
    import_from: list[str] = field(default_factory=list)
    """Folders that go on `sys.path`."""
    libraries: list[str] = field(default_factory=list)
    """What to install for this attempt."""
    environment: list[str] = field(default_factory=list)
    """What to install once, in a folder that all runs with the same list share."""
    environment_folder: str = ""


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    error: str | None = None
    trace: str | None = None
    code: str = "SUCCESS"
    """Databricks' termination code."""
    result: str | None = None
    """What the notebook exited with."""
    truncated: bool = False
    sql: dict[str, Any] | None = None
    """A SQL task's statements."""
    rows: list[dict[str, Any]] | None = None
    """The rows of its last one."""


def main(folder: Path) -> int:
    """Run the folder's task; 0 when it has succeeded."""
    task = Task(**json.loads((folder / TASK_FILE).read_text()))
    shell = Shell(Context.from_environment(**task.context), folder)
    try:
        ended = run(shell, task, folder)
    except InstallError as error:
        ended = Ended(f"Library installation failed: {error}", None, "LIBRARY_INSTALLATION_ERROR")
    except (OSError, ValueError) as error:
        ended = Ended(f"{type(error).__name__}: {error}", traceback.format_exc(), "RUN_EXECUTION_ERROR")
    if ended.error:
        sys.stderr.write(f"{ended.trace or ended.error}\n")
    staged = folder / "result.new"
    staged.write_text(json.dumps(asdict(ended)))
    staged.replace(folder / RESULT_FILE)
    timer = threading.Timer(END_SECONDS, os._exit, [int(bool(ended.error))])  # for threads users' code has left behind
    timer.daemon = True
    timer.start()
    shell.close()
    return 1 if ended.error else 0


def run(shell: Shell, task: Task, folder: Path) -> Ended:
    """Install what is needed and run what is asked. Raises InstallError, OSError, ValueError."""
    for target, wanted in ((Path(task.environment_folder), task.environment), (folder / "packages", task.libraries)):
        if wanted and (packages := prepared(target, wanted)):
            shell.packages.use(packages)
    for place in reversed(task.import_from):
        shell.packages.use(Path(place))
    if task.kind == "notebook":
        return run_notebook(shell, task, folder)
    if task.kind == "sql":
        output: dict[str, Any] = {}
        result = shell.call(lambda: output.update(run_sql(shell, task.source, task.query_id, task.warehouse_id)))
        return replace(ended_by(result), **output)
    call = run_script if task.kind == "python" else run_wheel
    return ended_by(shell.call(lambda: call(shell, task)))


def run_notebook(shell: Shell, task: Task, folder: Path) -> Ended:
    """Cell after cell, until one fails or exits."""
    cells = parse(Path(task.source).read_text(), task.language, task.jupyter)
    resume = folder / RESUME_FILE
    first = json.loads(resume.read_text()) if resume.exists() else 0
    record = Record.resumed(folder / NOTEBOOK, cells) if first else Record(folder / NOTEBOOK, cells)
    record.write()
    result = Result()
    for number in range(first, len(cells)):
        if cells[number].kind != "code":
            continue
        result = run_cell(shell, cells[number], number, record)
        if result.restart:
            resume.write_text(json.dumps(number + 1))
            shell.close()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command again
        if result.error or result.exit is not None:
            break
    return ended_by(result)


def run_cell(shell: Shell, cell: Cell, number: int, record: Record) -> Result:
    """One cell, recorded while it runs."""
    count = number + 1
    shell.outputs.on_change = lambda: record.update(number, shell.outputs.result, count, final=False)
    result = shell.run(cell.source, cell.language)
    shell.outputs.on_change = lambda: None
    record.update(number, result, count, final=True)
    return result


def run_script(shell: Shell, task: Task) -> None:
    """A Python file as `__main__`, with its arguments."""
    sys.argv = [task.path, *task.arguments]
    shell.namespace["__file__"] = task.path
    source = Path(task.source).read_bytes()
    if b"pyspark" in source:
        shell.spark.session()
    code = compile(source, task.path, "exec")
    leave_normally(lambda: exec(code, shell.namespace))  # noqa: S102 - running users' code is what this is for


def run_wheel(_shell: Shell, task: Task) -> None:
    """An entry point of an installed package: by its name in the metadata, else a function of the package."""
    sys.argv = [task.entry_point, *task.arguments, *(f"--{name}={value}" for name, value in task.keywords.items())]
    try:
        points = importlib.metadata.distribution(task.package).entry_points
    except importlib.metadata.PackageNotFoundError:
        points = importlib.metadata.EntryPoints()
    found = next((point for point in points if point.name == task.entry_point), None)
    if found:
        leave_normally(found.load())
        return
    module = importlib.import_module(task.package)
    if not hasattr(module, task.entry_point):
        raise AttributeError(f"package {task.package!r} has no entry point {task.entry_point!r}")
    leave_normally(getattr(module, task.entry_point))


def leave_normally(function: Any) -> None:
    """Call; `sys.exit()` and `sys.exit(0)` are a normal end."""
    try:
        function()
    except SystemExit as left:
        if left.code not in (None, 0):
            raise RuntimeError(f"SystemExit: {left.code}") from left


def ended_by(result: Result) -> Ended:
    """The end of an attempt by the end of its last cell."""
    failure: Failure | None = result.error
    if failure:
        return Ended(failure.summary, failure.trace, "RUN_EXECUTION_ERROR")
    value = result.exit
    if value is None:
        return Ended()
    return Ended(result=value[:MAX_RESULT], truncated=len(value) > MAX_RESULT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""One attempt at a task: what each kind of task does, and how it ended."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_workspace.errors import ApiError
from local_workspace.jobs import process
from local_workspace.jobs.sources import Sources
from local_workspace.jobs.store import Run
from local_workspace.runtime.local_paths import VARIABLE as MOUNTS

if TYPE_CHECKING:
    from local_workspace.context import LocalWorkspace

MAX_PROCESSES = 16
"""Tasks that run at once; those of `dbutils.notebook.run` come on top: the tasks that wait for them hold places."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    result: str = "SUCCESS"
    message: str = ""
    life: str = "TERMINATED"
    code: str = ""
    output: dict[str, Any] = field(default_factory=dict)


def broken(message: str, code: str = "INTERNAL_ERROR") -> Outcome:
    """The end of an attempt whose work could not even begin, or was lost."""
    return Outcome("FAILED", message, "INTERNAL_ERROR", code, {"error": message})


@dataclass(frozen=True)
class Work:
    """What an attempt needs to know."""

    run: Run
    """The attempt; `task` are its settings with every reference resolved."""
    job_run: Run
    task: dict[str, Any]
    parameters: dict[str, str]
    """The job's."""
    task_values: dict[str, dict[str, Any]]
    begun: Callable[[int], None]
    """To be called with the process id once setup has ended."""


class Attempts:
    """Runs the kinds of task that are a process or a comparison."""

    def __init__(self, ws: "LocalWorkspace", folder: Path):
        self._ws = ws
        self._folder = folder
        self._sources = Sources(ws, folder / "environments")
        self._places = asyncio.Semaphore(MAX_PROCESSES)

    def folder(self, run_id: int) -> Path:
        """Where an attempt's files are."""
        return self._folder / "runs" / str(run_id)

    async def process(self, work: Work) -> Outcome:
        """A notebook, script, wheel or SQL task."""
        if work.job_run.kind == "WORKFLOW_RUN":
            return await self._process(work)
        async with self._places:
            return await self._process(work)

    async def _process(self, work: Work) -> Outcome:
        folder = self.folder(work.run.run_id)
        principal = self._principal(work.job_run)
        try:
            place, variables = await asyncio.to_thread(self._prepared, work, folder, principal)
        except ApiError as error:
            return broken(error.message, "RESOURCE_NOT_FOUND" if error.status == 404 else "INVALID_RUN_CONFIGURATION")
        token = self._ws.auth.lend(principal)
        own = {
            "DATABRICKS_HOST": self._ws.host,
            "DATABRICKS_TOKEN": token,
            "SPARK_REMOTE": self._ws.spark.remote.replace(self._ws.token, token),
            "DATABRICKS_RUNTIME_VERSION": "17.3",
            "MLFLOW_TRACKING_URI": "databricks",
            "MLFLOW_REGISTRY_URI": "databricks-uc",
            "PYTHONDONTWRITEBYTECODE": "1",  # beside users' files
            "IPYTHONDIR": str(folder / "ipython"),
            MOUNTS: json.dumps(self._sources.folders()),
            process.MARK: str(work.run.run_id),
        }
        try:
            code = await process.run(folder, place, process.environment(variables | own), work.begun)
        finally:
            self._ws.auth.give_back(token)
            await asyncio.to_thread(process.hide, folder, token)
        return self._ended(await asyncio.to_thread(process.read_result, folder), code)

    def _prepared(self, work: Work, folder: Path, principal: str) -> tuple[Path, dict[str, str]]:
        """Write what the process is to do; gives its working directory and its variables. Raises ApiError."""
        task = work.task
        fields, place, parameters = self._fields(work, folder)
        context = {
            "user": principal,
            "workspace_id": self._ws.workspace_id,
            "notebook_path": fields.get("path") if fields["kind"] == "notebook" else None,
            "job_id": work.run.job_id,
            "run_id": work.job_run.run_id,
            "task_run_id": work.run.run_id,
            "task_key": work.run.task_key,
            "parameters": parameters,
            "task_values": work.task_values,
        }
        settings = work.job_run.settings
        clusters = {
            item["job_cluster_key"]: item.get("new_cluster") or {} for item in settings.get("job_clusters") or []
        }
        cluster = task.get("new_cluster") or clusters.get(task.get("job_cluster_key") or "") or {}
        if existing := task.get("existing_cluster_id"):
            cluster = self._ws.compute.clusters.get(existing)["spec"]
        environments = {item["environment_key"]: item.get("spec") or {} for item in settings.get("environments") or []}
        needed, shared = self._sources.environment(environments.get(task.get("environment_key") or "", {}))
        extra = {"environment": needed, "environment_folder": shared, "context": context}
        extra["libraries"] = self._sources.libraries(task.get("libraries") or [])
        process.write(folder, fields | extra)
        return place, self._sources.variables(cluster)

    def _fields(self, work: Work, folder: Path) -> tuple[dict[str, Any], Path, dict[str, str]]:
        """What depends on the kind of task: the fields for its process, its directory and its parameters."""
        task, given = work.task, work.job_run.given
        if notebook := task.get("notebook_task"):
            parameters = (
                _texts(notebook.get("base_parameters")) | _texts(given.get("notebook_params")) | work.parameters
            )
            place = self._sources.directory(notebook["notebook_path"])
            fields = self._sources.notebook(notebook["notebook_path"], folder)
            return fields | {"import_from": [str(place)]}, place, parameters
        if script := task.get("spark_python_task"):
            source = self._sources.file(script["python_file"])
            arguments = given.get("python_params") or script.get("parameters") or []
            fields = {"kind": "python", "source": str(source), "path": script["python_file"], "arguments": arguments}
            return fields | {"import_from": [str(source.parent)]}, source.parent, work.parameters
        if wheel := task.get("python_wheel_task"):
            named = _texts(wheel.get("named_parameters")) | _texts(given.get("python_named_params"))
            arguments = given.get("python_params") or wheel.get("parameters") or []
            if not arguments:
                named |= work.parameters
            folder.mkdir(parents=True, exist_ok=True)
            fields = {"kind": "wheel", "package": wheel["package_name"], "entry_point": wheel["entry_point"]}
            return fields | {"arguments": arguments, "keywords": named}, folder, work.parameters
        sql = task["sql_task"]
        folder.mkdir(parents=True, exist_ok=True)
        parameters = _texts(sql.get("parameters")) | _texts(given.get("sql_params")) | work.parameters
        fields = {"kind": "sql", "warehouse_id": sql["warehouse_id"]}
        if file := sql.get("file"):
            fields |= {"source": str(self._sources.file(file["path"])), "path": file["path"]}
        else:
            fields["query_id"] = sql["query"]["query_id"]
        return fields, folder, parameters

    def _principal(self, job_run: Run) -> str:
        """Whose code it is: the job's `run_as`, else who made the job or submitted the run."""
        run_as = job_run.settings.get("run_as") or {}
        return run_as.get("service_principal_name") or run_as.get("user_name") or job_run.creator

    def _ended(self, said: dict[str, Any], code: int) -> Outcome:
        if "code" not in said:
            said["error"] = f"The task's process ended with exit code {code} before the task was done."
            return Outcome("FAILED", said["error"], "INTERNAL_ERROR", "DRIVER_ERROR", said)
        if not said.get("error"):
            return Outcome(output=said)
        if said["code"] == "RUN_EXECUTION_ERROR":
            return Outcome("FAILED", "Workload failed, see run output for details", code=said["code"], output=said)
        return Outcome("FAILED", said["error"], "INTERNAL_ERROR", said["code"], said)


def condition(task: dict[str, Any]) -> Outcome:
    """A condition task: text for (in)equality, numbers for order."""
    left, right, op = task["left"], task["right"], task["op"]
    if op in ("EQUAL_TO", "NOT_EQUAL"):
        holds = (left == right) == (op == "EQUAL_TO")
    else:
        try:
            low, high = float(left), float(right)
        except ValueError:
            return broken(
                f"condition_task: {op} compares numbers, not {left!r} and {right!r}", "INVALID_RUN_CONFIGURATION"
            )
        holds = {
            "GREATER_THAN": low > high,
            "GREATER_THAN_OR_EQUAL": low >= high,
            "LESS_THAN": low < high,
            "LESS_THAN_OR_EQUAL": low <= high,
        }[op]
    return Outcome(output={"outcome": str(holds).lower()})


def _texts(values: dict[str, Any] | None) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in (values or {}).items()}

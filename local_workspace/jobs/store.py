"""Jobs and their runs in the state; a run is there before its submission is acknowledged."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from local_workspace.errors import BadRequest
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id INTEGER PRIMARY KEY AUTOINCREMENT, creator TEXT NOT NULL, created_at INTEGER NOT NULL,
    settings TEXT NOT NULL, trigger_state TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS job_runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT, job_id INTEGER NOT NULL, job_run_id INTEGER, parent INTEGER,
    life TEXT NOT NULL, start INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS job_runs_of_job ON job_runs (job_id, run_id) WHERE job_run_id IS NULL;
CREATE INDEX IF NOT EXISTS job_runs_of_run ON job_runs (job_run_id, run_id);
CREATE INDEX IF NOT EXISTS job_runs_active ON job_runs (life)
    WHERE life NOT IN ('TERMINATED', 'SKIPPED', 'INTERNAL_ERROR');
CREATE TABLE IF NOT EXISTS job_idempotency (token TEXT PRIMARY KEY, run_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS job_notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL, at INTEGER NOT NULL, event TEXT NOT NULL,
    channel TEXT NOT NULL, destination TEXT NOT NULL, task_key TEXT);
CREATE INDEX IF NOT EXISTS job_notifications_run ON job_notifications (run_id);
"""
LARGEST = 2**63 - 1
"""The largest integer of the state, and no id."""
FINISHED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass
class Job:
    """A job and its settings."""

    job_id: int
    creator: str
    created_at: int
    settings: dict[str, Any]
    trigger_state: dict[str, Any]
    """What the scheduler remembers: when the job fired last, which files it has seen."""

    @property
    def name(self) -> str:
        """The job's name."""
        return self.settings.get("name") or "Untitled"


@dataclass
class Run:
    """A run of a job, or an attempt at one of its tasks (then `job_run_id` is the job's run)."""

    run_id: int
    job_id: int
    job_run_id: int | None
    parent: int | None
    """The for_each_task's run that an iteration belongs to."""
    life: str
    start: int
    end: int = 0
    result: str | None = None
    message: str = ""
    code: str = ""
    """Databricks' termination code; empty: what goes with the result."""
    running_since: int = 0
    """When setup had ended and the work began."""
    cancelled: bool = False
    """By a user or by a timeout."""
    creator: str = ""
    task_key: str = ""
    attempt: int = 0
    original: int = 0
    """Run id of the first attempt."""
    name: str = ""
    kind: str = "JOB_RUN"
    trigger: str = "ONE_TIME"
    number: int = 0
    """Run id of the latest attempt before, or the number in its job."""
    settings: dict[str, Any] = field(default_factory=dict)
    """A job's run: the settings it runs with. A task's run: the task."""
    given: dict[str, Any] = field(default_factory=dict)
    """A job's run: what run-now was called with."""
    output: dict[str, Any] = field(default_factory=dict)
    """A task's run: result, error, task values, outcome and what else it left."""
    repairs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.life in FINISHED


COLUMNS = ("run_id", "job_id", "job_run_id", "parent", "life", "start")


class JobStore:
    """Jobs and runs."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)

    # Jobs

    def create(self, settings: dict[str, Any], creator: str) -> int:
        """A new job's id."""
        insert = "INSERT INTO jobs (creator, created_at, settings) VALUES (?, ?, ?) RETURNING job_id"
        return self._state.rows(insert, [creator, now(), json.dumps(settings)])[0]["job_id"]

    def job(self, job_id: int) -> Job:
        """A job. Raises BadRequest, as the real API does, when there is none."""
        row = self._state.row("SELECT * FROM jobs WHERE job_id = ?", [min(job_id, LARGEST)])
        if row is None:
            raise BadRequest(f"Job {job_id} does not exist.")
        return _job(row)

    def find_job(self, job_id: int) -> Job | None:
        """A job, if it still is."""
        row = self._state.row("SELECT * FROM jobs WHERE job_id = ?", [job_id])
        return _job(row) if row else None

    def jobs(self, name: str | None = None) -> list[Job]:
        """All jobs, or those of a name whatever its case, newest first."""
        found = [_job(row) for row in self._state.rows("SELECT * FROM jobs ORDER BY job_id DESC")]
        return [job for job in found if name is None or job.name.lower() == name.lower()]

    def change(self, job_id: int, settings: dict[str, Any]) -> None:
        """Replace a job's settings."""
        self._state.execute("UPDATE jobs SET settings = ? WHERE job_id = ?", [json.dumps(settings), job_id])

    def remember_trigger(self, job_id: int, trigger_state: dict[str, Any]) -> None:
        """Replace what the scheduler remembers of a job."""
        self._state.execute("UPDATE jobs SET trigger_state = ? WHERE job_id = ?", [json.dumps(trigger_state), job_id])

    def delete(self, job_id: int) -> None:
        """Forget a job; its runs stay."""
        self._state.execute("DELETE FROM jobs WHERE job_id = ?", [job_id])

    # Runs

    def add(self, job_id: int, job_run_id: int | None, life: str, parent: int | None = None, **facts: Any) -> Run:
        """A new run."""
        started = now()
        insert = (
            "INSERT INTO job_runs (job_id, job_run_id, parent, life, start, facts) VALUES (?, ?, ?, ?, ?, '{}')"
            " RETURNING run_id"
        )
        run_id = self._state.rows(insert, [job_id, job_run_id, parent, life, started])[0]["run_id"]
        run = Run(run_id, job_id, job_run_id, parent, life, started, **facts)
        run.original = run.original or run_id
        run.number = run.number or run_id
        self.save(run)
        return run

    def submit(
        self, job_id: int | None, life: str, tasks: list[dict[str, Any]], token: str | None, **facts: Any
    ) -> tuple[Run, bool]:
        """A new run of a job with its tasks, all at once; the run of this idempotency token if there is one.

        Without `job_id` the run gets a job id that no job has. The second value says whether the run is new.
        """
        with self._state.transaction():
            if token:
                known = self._state.row("SELECT run_id FROM job_idempotency WHERE token = ?", [token])
                if known and (run := self.find(known["run_id"])):
                    return run, False
            if job_id is None:
                job_id = self.create({}, "")
                self.delete(job_id)
            run = self.add(job_id, None, life, **facts)
            for task in tasks:
                self.add(job_id, run.run_id, "BLOCKED", task_key=task["task_key"], settings=task, creator=run.creator)
            if token:
                self._state.execute("INSERT OR REPLACE INTO job_idempotency VALUES (?, ?)", [token, run.run_id])
        return run, True

    def save(self, run: Run) -> None:
        """Keep a run as it is now."""
        facts = {name: value for name, value in asdict(run).items() if name not in COLUMNS}
        self._state.execute(
            "UPDATE job_runs SET life = ?, start = ?, facts = ? WHERE run_id = ?",
            [run.life, run.start, json.dumps(facts), run.run_id],
        )

    def find(self, run_id: int) -> Run | None:
        """A run, if there is one."""
        row = self._state.row("SELECT * FROM job_runs WHERE run_id = ?", [min(run_id, LARGEST)])
        return _run(row) if row else None

    def run(self, run_id: int) -> Run:
        """A run. Raises BadRequest, as the real API does, when there is none."""
        run = self.find(run_id)
        if run is None:
            raise BadRequest(f"Run {run_id} does not exist.")
        return run

    def tasks(self, job_run_id: int, parent: int | None = None) -> list[Run]:
        """The attempts at the tasks of a job's run, or at the iterations of one of them, oldest first."""
        rows = self._state.rows(
            "SELECT * FROM job_runs WHERE job_run_id = ? AND parent IS ? ORDER BY run_id", [job_run_id, parent]
        )
        return [_run(row) for row in rows]

    def runs(self, job_id: int | None = None) -> Iterable[Run]:
        """The runs of a job, or of all, newest first."""
        where = "job_run_id IS NULL" + (" AND job_id = ?" if job_id is not None else "")
        rows = self._state.rows(
            f"SELECT * FROM job_runs WHERE {where} ORDER BY run_id DESC",
            [] if job_id is None else [min(job_id, LARGEST)],
        )
        return (_run(row) for row in rows)

    def active(self, job_id: int | None = None) -> list[Run]:
        """The runs that have not ended, oldest first."""
        rows = self._state.rows(
            "SELECT * FROM job_runs WHERE life NOT IN ('TERMINATED', 'SKIPPED', 'INTERNAL_ERROR')"
            " AND job_run_id IS NULL ORDER BY run_id"
        )
        return [_run(row) for row in rows if job_id is None or row["job_id"] == job_id]

    def older(self, moment: int) -> list[Run]:
        """The runs that have ended and began before `moment`."""
        rows = self._state.rows("SELECT * FROM job_runs WHERE job_run_id IS NULL AND start < ?", [moment])
        return [run for run in map(_run, rows) if run.finished]

    def delete_run(self, run: Run) -> list[int]:
        """Forget a run with its tasks; their ids."""
        rows = self._state.rows("SELECT run_id FROM job_runs WHERE job_run_id = ?", [run.run_id])
        with self._state.transaction():
            self._state.execute("DELETE FROM job_runs WHERE run_id = ? OR job_run_id = ?", [run.run_id, run.run_id])
            self._state.execute("DELETE FROM job_notifications WHERE run_id = ?", [run.run_id])
            self._state.execute("DELETE FROM job_idempotency WHERE run_id = ?", [run.run_id])
        return [row["run_id"] for row in rows]

    # Notifications

    def notify(self, run_id: int, event: str, channel: str, destination: str, task_key: str | None) -> None:
        """Record a notification that a real workspace would send."""
        self._state.execute(
            "INSERT INTO job_notifications (run_id, at, event, channel, destination, task_key)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [run_id, now(), event, channel, destination, task_key],
        )

    def notifications(self, run_id: int) -> list[dict[str, Any]]:
        """What a real workspace would have sent about a run: event, channel, destination, task_key and time."""
        return self._state.rows("SELECT * FROM job_notifications WHERE run_id = ? ORDER BY id", [run_id])


def _job(row: dict[str, Any]) -> Job:
    return Job(**row | {name: json.loads(row[name]) for name in ("settings", "trigger_state")})


def _run(row: dict[str, Any]) -> Run:
    facts = json.loads(row.pop("facts"))
    return Run(**row, **facts)

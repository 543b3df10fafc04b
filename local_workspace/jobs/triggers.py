"""When jobs start by themselves: cron, periods, continuously, on new files. What was missed while down stays missed."""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local_workspace.alarm import Alarm, Due
from local_workspace.cron import Cron
from local_workspace.errors import ApiError
from local_workspace.jobs.service import Jobs
from local_workspace.jobs.store import Job

log = logging.getLogger(__name__)
FILE_SECONDS = 2.0
"""How often the folders of file_arrival triggers are looked at."""
BACK_OFF = (1, 5, 15, 60, 300)
"""Seconds between the runs of a continuous job that fails, by failures in a row."""
UNITS = {"HOURS": timedelta(hours=1), "DAYS": timedelta(days=1), "WEEKS": timedelta(weeks=1)}


class Triggers:
    """Starts jobs at their times."""

    def __init__(self, jobs: Jobs, volume_folder: Callable[[str], Path]):
        self._jobs = jobs
        self._volume_folder = volume_folder
        self.alarm = Alarm("job", self._due, self._fire)

    def _due(self) -> dict[int, Due]:
        return {job.job_id: self._rule(job) for job in self._jobs.store.jobs() if _trigger(job)}

    def _rule(self, job: Job) -> Due:
        kind, trigger = _trigger(job) or ("", {})
        rule = f"{kind} {trigger!r}"
        if kind == "schedule":
            return Cron.due(trigger["quartz_cron_expression"], trigger["timezone_id"])
        if kind == "periodic":
            period = UNITS[trigger["unit"]] * trigger["interval"]
            since = datetime.fromtimestamp(job.created_at / 1000, UTC)
            return Due(rule, lambda moment: since + period * ((moment - since) // period + 1))
        if kind == "continuous":
            active = self._jobs.store.active(job.job_id)
            pause = timedelta(seconds=self._back_off(job))
            return Due(f"{rule} {bool(active)}", lambda moment: None if active else moment + pause)
        return Due(rule, lambda moment: moment + timedelta(seconds=FILE_SECONDS))

    def _back_off(self, job: Job) -> float:
        """A continuous job starts again soon, later when it keeps failing."""
        failures = 0
        for run in self._jobs.store.runs(job.job_id):
            if run.result == "SUCCESS" or failures + 1 == len(BACK_OFF):
                break
            failures += run.finished
        return BACK_OFF[failures] if failures else 0.1

    async def _fire(self, job_id: int) -> None:
        names = {"schedule": "PERIODIC", "periodic": "PERIODIC", "continuous": "CONTINUOUS"}
        try:
            job = self._jobs.store.job(job_id)
            kind, trigger = _trigger(job) or ("", {})
            if kind == "file_arrival" and not await asyncio.to_thread(self._arrived, job, trigger):
                return
            self._jobs.run_now(job.job_id, {}, job.creator, names.get(kind, "FILE_ARRIVAL"))
        except ApiError as error:
            log.warning("job %d was not started: %s", job_id, error.message)

    def _arrived(self, job: Job, trigger: dict) -> bool:
        """Whether files have come since the last look, and the trigger's pauses are over. The first look only looks."""
        newest = _newest(self._volume_folder(trigger["url"].removeprefix("/Volumes/")))
        remembered = job.trigger_state
        moment = datetime.now(UTC).timestamp()
        if remembered.get("url") != trigger["url"]:
            remembered = {"url": trigger["url"], "newest": newest, "fired": 0.0}
            self._jobs.store.remember_trigger(job.job_id, remembered)
            return False
        quiet = moment - newest / 1e9 >= (trigger.get("wait_after_last_change_seconds") or 0)
        rested = moment - remembered["fired"] >= (trigger.get("min_time_between_triggers_seconds") or 0)
        if newest <= remembered["newest"] or not quiet or not rested:
            return False
        self._jobs.store.remember_trigger(job.job_id, remembered | {"newest": newest, "fired": moment})
        return True


def _trigger(job: Job) -> tuple[str, dict] | None:
    """What starts a job by itself, unless it is paused."""
    settings = job.settings
    trigger = settings.get("trigger") or {}
    found = {
        "schedule": settings.get("schedule"),
        "continuous": settings.get("continuous"),
        "periodic": trigger.get("periodic"),
        "file_arrival": trigger.get("file_arrival"),
    }
    for kind, value in found.items():
        if value is not None:
            paused = {**value, "pause_status": value.get("pause_status") or trigger.get("pause_status")}
            return None if paused["pause_status"] == "PAUSED" else (kind, value)
    return None


def _newest(folder: Path) -> int:
    """When the last file came, in nanoseconds: the time of its name, since contents are written before."""
    newest = 0
    for root, _directories, names in os.walk(folder):
        for name in names:
            try:
                newest = max(newest, (Path(root) / name).lstat().st_ctime_ns)
            except FileNotFoundError:
                continue
    return newest

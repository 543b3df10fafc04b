"""Quartz cron expressions, said to croniter: seconds first, weekdays from 1 = Sunday, `?`, `L`, `W`, `#`, years."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local_workspace.alarm import Due
from local_workspace.errors import BadRequest, NotImplementedHere

WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
EVERY = re.compile(r"(\*|0)(/\d+)?|0-23(/\d+)?")


def zone(name: str) -> ZoneInfo:
    """A time zone by its id. Raises BadRequest."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest(f"schedule.timezone_id: {name[:80]!r} is not a time zone, such as Europe/Berlin") from None


def translated(quartz: str) -> str:
    """The expression as croniter reads it. Raises BadRequest, NotImplementedHere for what croniter cannot say."""
    fields = quartz.upper().split()
    if len(fields) not in (6, 7):
        raise _bad(quartz, "6 or 7 fields are needed: seconds minutes hours day-of-month month day-of-week [year]")
    day, weekday = fields[3], fields[5]
    if (day == "?") == (weekday == "?"):
        raise _bad(quartz, "exactly one of day-of-month and day-of-week must be `?`")
    if day != "L" and "L" in day:
        raise NotImplementedHere(f"local_workspace does not have day-of-month {day!r} in quartz_cron_expression")
    fields[3] = "*" if day == "?" else day
    fields[5] = "*" if weekday == "?" else ",".join(_weekday(part, quartz) for part in weekday.split(","))
    return " ".join([*fields, "*"][:7]).lower()


def _weekday(part: str, quartz: str) -> str:
    """One item of the day-of-week field."""
    if part == "*":
        return part
    if part == "L":
        return "6"
    if last := re.fullmatch(r"(\w+)L", part):
        return f"L{_number(last[1], quartz)}"
    if nth := re.fullmatch(r"(\w+)#([1-5])", part):
        return f"{_number(nth[1], quartz)}#{nth[2]}"
    matched = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
    if not matched:
        raise _bad(quartz, f"day-of-week {part!r} cannot be read")
    first, last_day, step = matched.groups()
    start = 0 if first == "*" else _number(first, quartz)
    end = _number(last_day, quartz) if last_day else (6 if step else start)
    if step == "0":
        raise _bad(quartz, "a step must not be 0")
    span = range(start, (end if end >= start else end + 7) + 1, int(step or 1))
    return ",".join(str(number % 7) for number in span)


def _number(name: str, quartz: str) -> int:
    """A weekday from 0 = Sunday."""
    if name in WEEKDAYS:
        return WEEKDAYS.index(name)
    if name.isdigit() and 1 <= int(name) <= 7:
        return int(name) - 1
    raise _bad(quartz, f"day-of-week {name!r} is not SUN to SAT or 1 to 7")


def _bad(quartz: str, why: str) -> BadRequest:
    return BadRequest(f"schedule.quartz_cron_expression {quartz[:100]!r} is not valid: {why}")


class Cron:
    """When a schedule fires."""

    def __init__(self, quartz: str, timezone_id: str):
        """Raises BadRequest, NotImplementedHere."""
        from croniter import CroniterError, croniter  # a sixth of a second that only schedules need

        self._zone = zone(timezone_id)
        self._expression = translated(quartz)
        self._every_hour = EVERY.fullmatch(quartz.split()[2]) is not None
        self._croniter, self._error = croniter, CroniterError
        try:
            self._iterator(datetime.now(UTC))
        except (CroniterError, ValueError, KeyError) as error:
            raise _bad(quartz, str(error)) from None

    @classmethod
    @lru_cache(maxsize=1000)
    def due(cls, quartz: str, timezone_id: str) -> Due:
        """The schedule as an alarm takes it. Raises BadRequest, NotImplementedHere."""
        return Due(f"{quartz} {timezone_id}", cls(quartz, timezone_id).after)

    def after(self, moment: datetime) -> datetime | None:
        """The first time to fire after `moment`, in UTC; None when there is none any more.

        When clocks go back, a job of certain hours fires in the first of the two hours only, one of every hour in both;
        when they go forward, a time that is left out becomes the first one there is.
        """
        iterator = self._iterator(moment)
        try:
            fires = iterator.get_next(datetime)
            # croniter may repeat the hour that clocks repeat.
            while fires.astimezone(UTC) <= moment or (fires.fold and not self._every_hour):
                fires = iterator.get_next(datetime)
        except self._error:
            return None
        return fires.astimezone(UTC)

    def _iterator(self, moment: datetime):
        return self._croniter(self._expression, moment.astimezone(self._zone), second_at_beginning=True)

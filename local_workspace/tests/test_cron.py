"""Quartz expressions: what they say, in time zones that change their clocks."""

from datetime import UTC, datetime

import pytest

from local_workspace.cron import Cron
from local_workspace.errors import BadRequest, NotImplementedHere

SATURDAY = datetime(2026, 3, 28, 1, 0, tzinfo=UTC)


def times(quartz: str, zone: str = "UTC", since: datetime = SATURDAY, count: int = 3) -> list[str]:
    cron, found = Cron(quartz, zone), []
    while len(found) < count and (fires := cron.after(since)):
        found.append(f"{fires:%a %m-%d %H:%M:%S}")
        since = fires
    return found


@pytest.mark.parametrize(
    ("quartz", "expected"),
    [
        ("*/20 * * * * ?", ["Sat 03-28 01:00:20", "Sat 03-28 01:00:40", "Sat 03-28 01:01:00"]),
        ("20 30 * * * ?", ["Sat 03-28 01:30:20", "Sat 03-28 02:30:20", "Sat 03-28 03:30:20"]),
        ("0 0 12 ? * 2-6", ["Mon 03-30 12:00:00", "Tue 03-31 12:00:00", "Wed 04-01 12:00:00"]),
        ("0 0 12 ? * 1", ["Sun 03-29 12:00:00", "Sun 04-05 12:00:00", "Sun 04-12 12:00:00"]),
        ("0 0 12 ? * SUN,TUE/2", ["Sat 03-28 12:00:00", "Sun 03-29 12:00:00", "Tue 03-31 12:00:00"]),
        ("0 0 12 ? * 6-2", ["Sat 03-28 12:00:00", "Sun 03-29 12:00:00", "Mon 03-30 12:00:00"]),
        ("0 0 12 ? * 6#3", ["Fri 04-17 12:00:00", "Fri 05-15 12:00:00", "Fri 06-19 12:00:00"]),
        ("0 0 12 ? * 6L", ["Fri 04-24 12:00:00", "Fri 05-29 12:00:00", "Fri 06-26 12:00:00"]),
        ("0 0 12 ? * L", ["Sat 03-28 12:00:00", "Sat 04-04 12:00:00", "Sat 04-11 12:00:00"]),
        ("0 0 12 L * ?", ["Tue 03-31 12:00:00", "Thu 04-30 12:00:00", "Sun 05-31 12:00:00"]),
        ("0 0 12 15W * ?", ["Wed 04-15 12:00:00", "Fri 05-15 12:00:00", "Mon 06-15 12:00:00"]),
        ("0 0 0 1 1 ? 2030", ["Tue 01-01 00:00:00"]),
        ("0 0 0 1 1 ? 2020", []),
    ],
)
def test_expressions_say_what_quartz_says(quartz: str, expected: list[str]):
    assert times(quartz) == expected


def test_a_daily_job_fires_once_a_day_when_clocks_change():
    # 02:30 does not exist on 29 March in Berlin; on 25 October it is there twice.
    assert times("0 30 2 * * ?", "Europe/Berlin") == ["Sat 03-28 01:30:00", "Sun 03-29 01:00:00", "Mon 03-30 00:30:00"]
    autumn = datetime(2026, 10, 24, 1, 0, tzinfo=UTC)
    assert times("0 30 2 * * ?", "Europe/Berlin", autumn, 2) == ["Sun 10-25 00:30:00", "Mon 10-26 01:30:00"]


def test_an_hourly_job_fires_every_hour_when_clocks_go_back():
    night = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    hours = [time[-8:-3] for time in times("0 0 * * * ?", "Europe/Berlin", night, 4)]
    assert hours == ["00:00", "01:00", "02:00", "03:00"]


@pytest.mark.parametrize("quartz", ["", "x", "0 0 0 * * *", "0 0 0 ? * ?", "0 0 99 * * ?", "0 0 0 ? * 9"])
def test_nonsense_is_refused(quartz: str):
    with pytest.raises(BadRequest, match="quartz_cron_expression"):
        Cron(quartz, "UTC")


@pytest.mark.parametrize("quartz", ["0 0 0 LW * ?", "0 0 0 L-3 * ?"])
def test_what_croniter_cannot_say_is_refused_by_name(quartz: str):
    with pytest.raises(NotImplementedHere, match="day-of-month"):
        Cron(quartz, "UTC")

"""When a CronJob is due: 500 schedules around clock changes, against the library that upstream uses; every search ends.

`recorded/cron.json.gz` has what github.com/robfig/cron v3 answers: for each schedule twelve zones that change their
clocks, a start near a change of 2023 to 2025, and the next three times (0: never). The schedules come from a generator
with seed 36.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tiphys.controllers.cronjob import times
from tiphys.controllers.cronjob.clock import WallClock
from tiphys.controllers.cronjob.schedule import Cron, Every, Schedule, parse

RECORDED: dict[str, list[list[Any]]] = json.loads(
    gzip.decompress((Path(__file__).parent / "recorded" / "cron.json.gz").read_bytes())
)
NOW = 1764547200.0
YEAR = 366 * 86400


def following(schedule: Schedule, start: float) -> Iterator[int]:
    at: float | None = start
    for _ in range(3):
        assert at is not None
        at = schedule.next(at)
        yield int(at) if at is not None else 0
        if at is None:
            return


def test_times_are_upstreams_around_clock_changes() -> None:
    wrong = [
        (text, zone, start, answer)
        for text, rows in RECORDED.items()
        for zone, start, answer in rows
        if list(following(parse(text, zone), start)) != answer
    ]
    assert len(RECORDED) == 500
    assert not wrong


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The instants that searches have looked at."""
    seen: list[int] = []
    wall = WallClock.wall

    def counted(clock: WallClock, unix: int) -> datetime:
        seen.append(unix)
        return wall(clock, unix)

    monkeypatch.setattr(WallClock, "wall", counted)
    return seen


ENDLESS = [
    "59 23 31 2 *",
    "0 0 31 2,4,6,9,11 *",
    "0 0 30 2 *",
    ", * * * *",
    "* , * * *",
    "* * * , *",
    "* * , * *",
    "59 23 29 2 *",
]


@pytest.mark.parametrize("zone", ["UTC", "Australia/Lord_Howe", "America/Santiago", "Africa/Monrovia"])
def test_a_search_ends(zone: str, steps: list[int]) -> None:
    """The days of five years, and once the hours and minutes of a day, with six readings a step at the most."""
    for text in [*ENDLESS, *list(RECORDED)[:60]]:
        for start in (NOW, -3e9, -62135596800.0, 253402300799.0):
            steps.clear()
            parse(text, zone).next(start)
            assert len(steps) < 6 * (5 * 366 + 24 + 60 + 12), (text, start)


@pytest.mark.parametrize("text", ENDLESS[:7])
def test_a_schedule_that_never_comes_is_impossible(text: str) -> None:
    cron_job = {"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z"}, "spec": {}}
    schedule = parse(text)
    assert schedule.next(NOW) is None
    with pytest.raises(times.ImpossibleSchedule, match="time difference between two schedules is less than 1 second"):
        times.most_recent(cron_job, schedule, NOW, with_deadline=True)
    assert times.wait_for_next(cron_job, schedule, NOW) is None


@pytest.mark.parametrize("text", ["* * * 1-6 *", "*/7 * 1-20 1-11 *", "* * * * *", "30 6-16/4 * * 1-5", "0 0 29 2 *"])
def test_the_latest_time_is_the_last_of_a_walk_and_needs_few_steps(text: str, steps: list[int]) -> None:
    """``* * * 1-6 *`` has 260,000 times in half a year; to walk through them takes a second of the loop."""
    schedule = parse(text, "Europe/Berlin")
    start = NOW - YEAR
    latest = schedule.latest(start, NOW)
    assert len(steps) < 30_000
    walked = None if latest is None else schedule.next(latest - 1)
    assert walked == latest
    following_one = schedule.next(latest if latest is not None else start)
    assert following_one is None or following_one > NOW


def test_the_latest_time_of_a_fixed_delay() -> None:
    assert Every(7.0).latest(100.0, 120.5) == 114.0
    assert Every(7.0).latest(100.0, 107.0) == 107.0
    assert Every(7.0).latest(100.0, 106.9) is None


def test_the_latest_time_within_a_few_is_walked_to() -> None:
    schedule = parse("0 0 * * *", "Australia/Lord_Howe")
    assert isinstance(schedule, Cron)
    start = datetime(2026, 4, 3, tzinfo=UTC).timestamp()
    assert schedule.latest(start, start + 5 * 86400) == list(following(schedule, start))[2] + 86400


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "America/Santiago", "America/New_York", "UTC"])
def test_the_clock_reads_back_what_it_shows(zone: str) -> None:
    """Where a wall-clock time comes once. A time that comes twice or never is one of the two that a change has."""
    clock, moment = WallClock(ZoneInfo(zone)), datetime(2025, 1, 1, tzinfo=UTC)
    for _ in range(24 * 366):
        moment += timedelta(hours=1)
        unix = int(moment.timestamp())
        shown = clock.wall(unix)
        again = clock.unix(shown.year, shown.month, shown.day, shown.hour) + shown.minute * 60
        assert abs(again - unix) <= 3600
        if again != unix:
            near = {clock.wall(unix + delta).utcoffset() for delta in (-10800, 10800)}
            assert len(near) == 2

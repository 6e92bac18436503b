"""When backups are made, which are kept, and where: a folder, and a bucket of a real S3 server (moto's)."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tiphys.cluster.backup import retention, schedule
from tiphys.cluster.backup.archive import BackupError
from tiphys.cluster.backup.places import Folder, Place, place_of

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = 3600.0


async def make(target: Path, now: datetime) -> None:
    await asyncio.to_thread(target.write_text, now.isoformat())


def test_a_name_sorts_by_time_and_is_read_back() -> None:
    name = retention.name_of("home-1", START)
    assert name == "tiphys-home-1-20260601T120000Z.tar.gz"
    assert retention.time_of(name, "home-1") == START
    assert retention.time_of(name, "home") is None
    assert retention.time_of("tiphys-home-1-latest.tar.gz", "home-1") is None


def test_only_ones_own_and_only_old_ones_expire() -> None:
    names = [retention.name_of("a", START + timedelta(hours=n)) for n in range(4)]
    others = [retention.name_of("b", START), "notes.txt"]
    assert retention.expired([*reversed(names), *others], "a", 2) == names[:2]
    assert retention.expired(names, "a", 0) == names[:3], "the newest always stays"
    assert retention.expired(names[:1], "a", 5) == []


class Hurried:
    """A clock on which nobody waits: it is later at once. At its end whoever sleeps is cancelled."""

    def __init__(self, seconds: float) -> None:
        self.time = START.timestamp()
        self.end = self.time + seconds

    def now(self) -> float:
        return self.time

    monotonic = now

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.time > self.end:
            raise asyncio.CancelledError


def kept_after(seconds: float, place: Place, make: schedule.Make = make) -> list[datetime]:
    """When the backups were made that a schedule of six hours has in the place in the end."""

    async def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await schedule.keep_making(make, place, "home", every=6 * HOUR, keep=3, clock=Hurried(seconds))

    asyncio.run(run())
    times = [retention.time_of(name, "home") for name in retention.of_cluster(place.names(), "home")]
    return [time for time in times if time is not None]


def at(*hours: float) -> list[datetime]:
    return [START + timedelta(hours=hour) for hour in hours]


def test_backups_are_made_every_six_hours_and_the_newest_three_are_kept(tmp_path: Path) -> None:
    assert kept_after(25 * HOUR, Folder(tmp_path / "backups")) == at(12, 18, 24)


def test_a_restart_waits_for_what_is_left_of_the_six_hours(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    (tmp_path / retention.name_of("home", START - timedelta(hours=4))).write_text("")
    (tmp_path / retention.name_of("home", START + timedelta(days=400))).write_text("of a clock that was wrong")
    (tmp_path / retention.name_of("other", START)).write_text("")
    assert kept_after(5 * HOUR, place) == [*at(-4, 2), START + timedelta(days=400)]
    assert retention.name_of("other", START) in place.names()


def test_a_failure_is_tried_again_soon_and_keeps_what_is_there(tmp_path: Path) -> None:
    left = [1, 1]

    async def fails_twice(target: Path, now: datetime) -> None:
        if left:
            left.pop()
            raise BackupError("the store does not answer")
        await make(target, now)

    (tmp_path / retention.name_of("home", START - timedelta(hours=7))).write_text("")
    assert kept_after(HOUR, Folder(tmp_path), fails_twice) == at(-7, 2 / 60)


def test_a_bucket_keeps_backups_as_a_folder_does(s3: str, tmp_path: Path) -> None:
    place = place_of("s3://backups/clusters/home")
    assert kept_after(25 * HOUR, place) == at(12, 18, 24)
    newest = retention.of_cluster(place.names(), "home")[-1]
    place.fetch(newest, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == (START + timedelta(hours=24)).isoformat()
    assert place_of("s3://backups/clusters").names() == [f"home/{name}" for name in place.names()]


def test_what_a_bucket_refuses_is_said_with_its_name(s3: str) -> None:
    with pytest.raises(BackupError, match=r"cannot list in s3://nowhere/: .*bucket does not exist"):
        place_of("s3://nowhere").names()


def test_what_is_no_place_is_refused() -> None:
    for text in ("ftp://example.com/x", "s3:///prefix"):
        with pytest.raises(BackupError, match="is no place for backups; name a folder"):
            place_of(text)

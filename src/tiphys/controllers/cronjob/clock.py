"""The wall clock of a time zone: from Unix seconds to what it shows, and back.

A wall-clock time that a change skips, or that occurs twice, is read as Go's ``time.Date`` reads it: with the offset
that holds at the instant that the time would be under the offset of the same reading in UTC. Python's ``fold`` chooses
differently, and Jobs would start at other times than upstream's.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

Wall = datetime
"""What the clock shows; used for its fields only."""

_EPOCH = datetime(1970, 1, 1)
_FIRST = int((datetime(2, 1, 1) - _EPOCH).total_seconds())
_END = int((datetime(9998, 1, 1) - _EPOCH).total_seconds())


class WallClock:
    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    @staticmethod
    def holds(unix: int, years: int) -> bool:
        """Whether this clock can show ``unix`` and the ``years`` after it; it ends with the year 9997."""
        return _FIRST <= unix < _END - (years + 1) * 366 * DAY

    def wall(self, unix: int) -> Wall:
        return datetime.fromtimestamp(unix, UTC).astimezone(self._zone)

    def unix(self, year: int, month: int, day: int, hour: int = 0) -> int:
        return self._unix(datetime(year, month, day, hour))

    def next_day(self, wall: Wall) -> int:
        """The same time of the next day."""
        return self._unix(wall.replace(tzinfo=None) + timedelta(days=1))

    def next_month(self, wall: Wall) -> int:
        """The same time and day of the next month; a day that it does not have runs over into the month after."""
        first = wall.replace(tzinfo=None, day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        return self._unix(following + timedelta(days=wall.day - 1))

    def _unix(self, naive: datetime) -> int:
        shown = int((naive - _EPOCH).total_seconds())
        if offset := self._offset(shown):
            return shown - self._offset(shown - offset)
        return shown

    def _offset(self, unix: int) -> int:
        offset = self.wall(unix).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

"""Sets of completion indexes, as intervals: ``1,3-5,7`` in a Job's status. Pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/#JobStatus
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Indexes:
    """Ascending intervals (first, last), both included, that neither overlap nor touch."""

    intervals: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def parse(text: str | None, completions: int) -> Indexes:
        """What is not a number is left out, as are indexes from ``completions`` on."""
        intervals = []
        for part in (text or "").split(",") if text else ():
            first, _, last = part.partition("-")
            if not first.isdigit() or (last and not last.isdigit()):
                continue
            if int(first) >= completions:
                break
            intervals.append((int(first), min(int(last or first), completions - 1)))
        return Indexes().merge(Indexes(tuple(intervals)))

    def add(self, indexes: Iterable[int]) -> Indexes:
        return self.merge(Indexes(tuple((index, index) for index in sorted(indexes))))

    def merge(self, other: Indexes) -> Indexes:
        merged: list[tuple[int, int]] = []
        for first, last in sorted((*self.intervals, *other.intervals)):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return Indexes(tuple(merged))

    def total(self) -> int:
        return sum(last - first + 1 for first, last in self.intervals)

    def common(self, other: Indexes) -> int:
        """How many indexes are in both."""
        return sum(
            max(0, min(last, other_last) - max(first, other_first) + 1)
            for first, last in self.intervals
            for other_first, other_last in other.intervals
        )

    def __contains__(self, index: int) -> bool:
        return any(first <= index <= last for first, last in self.intervals)

    def __str__(self) -> str:
        parts = []
        for first, last in self.intervals:
            if last == first:
                parts.append(str(first))
            else:
                parts.append(f"{first}{',' if last == first + 1 else '-'}{last}")
        return ",".join(parts)

    def first_missing(self, count: int, limit: int) -> list[int]:
        """The first ``count`` indexes below ``limit`` that are not in the set."""
        missing: list[int] = []
        candidate = 0
        for first, last in (*self.intervals, (limit, limit)):
            while candidate < min(first, limit) and len(missing) < count:
                missing.append(candidate)
                candidate += 1
            candidate = max(candidate, last + 1)
        return missing

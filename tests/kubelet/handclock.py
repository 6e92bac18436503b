"""A clock that a test sets by hand."""

from __future__ import annotations


class HandClock:
    def __init__(self, at: float = 1_767_225_600.0) -> None:
        self.at = at

    def advance(self, seconds: float) -> None:
        self.at += seconds

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds

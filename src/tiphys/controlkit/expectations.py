"""What a controller has requested and not yet seen in its informer.

An informer lags behind the API: right after creating three pods, a controller that counts the pods that it can see
would create three more. So it notes what it requested, waits until that much was observed, and gives up waiting after
five minutes. Source: the comment on ControllerExpectations in Kubernetes' controller_utils.go describes the same
contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.runtime.clock import Clock

TIMEOUT = 300.0


@dataclass(slots=True)
class _Expected:
    since: float
    creations: int = 0
    deletions: set[str] = field(default_factory=set)


class Expectations:
    """Creations by number and deletions by the key of what is deleted, for each controller key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: dict[str, _Expected] = {}

    def expect_creations(self, key: str, count: int) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), creations=count)

    def expect_deletions(self, key: str, deleted: Iterable[str]) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), deletions=set(deleted))

    def expect(self, key: str, creations: int, deleted: Iterable[str]) -> None:
        self._expected[key] = _Expected(self._clock.monotonic(), creations, set(deleted))

    def creation_observed(self, key: str, count: int = 1) -> None:
        if expected := self._expected.get(key):
            expected.creations -= count

    def deletion_observed(self, key: str, deleted: str) -> None:
        if expected := self._expected.get(key):
            expected.deletions.discard(deleted)

    def satisfied(self, key: str) -> bool:
        """Whether all of it was observed, or the wait has timed out, or nothing was ever expected."""
        expected = self._expected.get(key)
        if expected is None or (expected.creations <= 0 and not expected.deletions):
            return True
        return self._clock.monotonic() - expected.since > TIMEOUT

    def forget(self, key: str) -> None:
        self._expected.pop(key, None)

"""An API server that starts beside its etcd waits for it."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.apiserver.command import STORE_SECONDS, reached
from tiphys.store.backend import InvalidRequest, StoreError, Unavailable


class Jumping:
    """A clock that sleeps at once."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Late:
    """A store that answers from a certain time on, or with another failure."""

    def __init__(self, clock: Jumping, from_: float, failure: StoreError | None = None) -> None:
        self.clock, self.from_, self.failure = clock, from_, failure
        self.closed = False

    async def current_revision(self) -> int:
        if self.failure is not None:
            raise self.failure
        if self.clock.monotonic() < self.from_:
            raise Unavailable("failed to connect to all addresses")
        return 1

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("late", [0.0, 0.3, STORE_SECONDS - 2])
def test_it_waits_until_etcd_answers(late: float) -> None:
    clock = Jumping()
    store = Late(clock, late)
    assert asyncio.run(reached(store, clock)) is store  # type: ignore[arg-type,comparison-overlap]
    assert clock.at >= late
    assert not store.closed


@pytest.mark.parametrize("failure", [None, InvalidRequest("no")])
def test_it_gives_up_in_the_end_and_at_once_for_what_does_not_pass(failure: StoreError | None) -> None:
    clock = Jumping()
    store = Late(clock, 1000, failure)
    with pytest.raises(StoreError):
        asyncio.run(reached(store, clock))  # type: ignore[arg-type]
    assert store.closed
    assert (clock.at > STORE_SECONDS / 2) == (failure is None)
    assert clock.at <= STORE_SECONDS

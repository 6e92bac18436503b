"""How fast a client may ask, and who says so."""

from __future__ import annotations

import random

import pytest

from tests.client.scripted import Script, run, text, thing
from tiphys.client.options import from_fields, limits_of
from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.rest import Client
from tiphys.client.throttle import RequestRate, TokenBucket
from tiphys.runtime.clock import VirtualClock
from tiphys.runtime.component import ConfigError

UPSTREAM = RequestRate(20, 30)


def test_a_burst_goes_at_once_and_then_so_many_a_second() -> None:
    bucket = TokenBucket(RequestRate(5, 3), 100.0)
    assert [round(bucket.take(100.0), 3) for _ in range(5)] == [0, 0, 0, 0.2, 0.4]
    assert bucket.take(102.0) == 0
    assert [round(bucket.take(110.0), 3) for _ in range(4)] == [0, 0, 0, 0.2]


def test_no_time_sees_more_requests_than_burst_and_rate_allow() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    limits = RequestRate(chance.uniform(0.5, 50), chance.randrange(1, 20))
    bucket, now, gone = TokenBucket(limits, 0.0), 0.0, list[float]()
    for _ in range(500):
        now += chance.choice((0.0, chance.expovariate(limits.qps), chance.expovariate(limits.qps / 5)))
        gone.append(now + bucket.take(now))
    for first in range(0, 500, 7):
        for last in range(first, 500, 13):
            allowed = limits.burst + (gone[last] - gone[first]) * limits.qps + 1e-6
            assert last - first + 1 <= allowed + 1, f"seed {seed}"


def test_requests_of_a_client_wait_their_turn_and_those_of_another_account_have_their_own() -> None:
    async def work(clock: VirtualClock) -> None:
        script = Script(*(text(thing("a", 1)) for _ in range(40)))
        client = Client(script, limits=RequestRate(10, 2))
        begin = clock.monotonic()
        for _ in range(12):
            await client.get(CONFIG_MAPS, "a", "n")
        assert clock.monotonic() - begin == pytest.approx(1.0)
        await client.acting_as("other", lambda: "token").get(CONFIG_MAPS, "a", "n")
        assert clock.monotonic() - begin == pytest.approx(1.0)

    run(work)


def test_without_limits_nobody_waits() -> None:
    async def work(clock: VirtualClock) -> None:
        client = Client(Script(*(text(thing("a", 1)) for _ in range(1000))))
        begin = clock.monotonic()
        for _ in range(1000):
            await client.get(CONFIG_MAPS, "a", "n")
        assert clock.monotonic() == begin

    run(work)


@pytest.mark.parametrize(
    ("qps", "burst", "limits"),
    [
        (None, None, None),
        (0, 0, None),
        (50.5, None, RequestRate(50.5, 30)),
        (None, 7, RequestRate(20, 7)),
        (100, 200, RequestRate(100, 200)),
        (-1, 200, None),
    ],
)
def test_two_numbers_as_upstream_takes_them(qps: float | None, burst: int | None, limits: RequestRate | None) -> None:
    assert limits_of(qps, burst, UPSTREAM) == limits
    assert from_fields({"qps": qps, "burst": burst}, UPSTREAM, "file").limits == limits


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="file: clientConnection: qps and burst are numbers"):
        from_fields({"qps": "many"}, UPSTREAM, "file")

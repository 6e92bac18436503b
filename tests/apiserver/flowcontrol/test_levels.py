"""Seats divided among levels: nominal parts, lending and borrowing, and what a level has wanted lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.apiserver.bootstrap.flowcontrol import priority_levels
from tiphys.apiserver.flowcontrol.allocation import Share, allocate
from tiphys.apiserver.flowcontrol.demand import Demand
from tiphys.apiserver.flowcontrol.levels import PriorityLevel, adjust, limits_of, read_level
from tiphys.apiserver.flowcontrol.queueset import Queuing

SHARES = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100)).map(
        lambda row: Share(row[0] + row[1], row[1], row[0] + row[1] + row[2])
    ),
    min_size=1,
    max_size=12,
)


@given(SHARES, st.floats(0, 1000))
def test_parts_are_within_bounds_and_sum_up(shares: list[Share], total: float) -> None:
    parts = allocate(total, shares)
    for part, share in zip(parts, shares, strict=True):
        assert share.lower - 1e-6 <= part <= share.upper + 1e-6
    low, high = sum(share.lower for share in shares), sum(share.upper for share in shares)
    assert sum(parts) == pytest.approx(min(max(total, low), high), abs=1e-4)


@given(SHARES, st.floats(0, 1000))
def test_who_is_not_at_a_bound_gets_the_same_part_of_its_target(shares: list[Share], total: float) -> None:
    free = [
        part / share.target
        for part, share in zip(allocate(total, shares), shares, strict=True)
        if share.target > 0.01 and share.lower + 1e-6 < part < share.upper - 1e-6
    ]
    assert not free or max(free) == pytest.approx(min(free), rel=1e-3, abs=1e-6)


def test_the_default_levels_of_600_seats() -> None:
    """The table that a v1.36 server shows as its limits."""
    limits = limits_of(map(read_level, priority_levels()), 600)
    assert {name: (row.nominal, row.minimum, row.maximum) for name, row in limits.items()} == {
        "exempt": (0, 0, 600),
        "system": (74, 50, 674),
        "node-high": (98, 73, 698),
        "leader-election": (25, 25, 625),
        "workload-high": (98, 49, 698),
        "workload-low": (245, 24, 845),
        "global-default": (49, 24, 649),
        "catch-all": (13, 13, 613),
    }


def test_reading_a_level() -> None:
    spec = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    level = read_level({"metadata": {"name": "n", "uid": "u"}, "spec": {"type": "Limited", "limited": spec}})
    assert (level.shares, level.borrowing, level.queue.queuing) == (0, 0, Queuing.REJECT)
    assert limits_of([level], 600)["n"].maximum == 0
    absent = read_level({"metadata": {"name": "n"}, "spec": {"type": "Limited", "limited": {}}})
    assert (absent.shares, absent.borrowing) == (30, None)


def test_demand_rises_at_once_and_falls_slowly() -> None:
    demand = Demand(0.0)
    demand.note(10, 0.0)
    demand.note(0, 5.0)
    demand.close_period(10.0)
    assert (demand.high, demand.average, demand.deviation, demand.smoothed) == (10, 5.0, 5.0, 10.0)
    demand.close_period(20.0)
    assert (demand.high, demand.average) == (0, 0.0)
    assert demand.smoothed == pytest.approx(9.77)


def test_what_exempt_requests_use_is_missing_only_if_it_is_wanted() -> None:
    configs = {config.name: config for config in map(read_level, priority_levels())}
    limits = limits_of(configs.values(), 600)
    levels = {name: PriorityLevel(config, limits[name], 0.0) for name, config in configs.items()}
    nominal = sum(level.limits.nominal for level in levels.values())
    exempt = levels.pop("exempt")
    exempt.demand.note(100, 0.0)
    adjust({**levels, "exempt": exempt}, 10.0)
    assert exempt.current == 100
    assert sum(level.current for level in levels.values()) == pytest.approx(nominal, abs=len(levels))
    for level in levels.values():
        level.demand.note(level.limits.nominal, 10.0)
    adjust({**levels, "exempt": exempt}, 20.0)
    assert sum(level.current for level in levels.values()) == pytest.approx(nominal - 100, abs=len(levels))


def test_a_busy_level_borrows_what_idle_ones_lend_and_gives_it_back() -> None:
    configs = {config.name: config for config in map(read_level, priority_levels())}
    limits = limits_of(configs.values(), 600)
    levels = {name: PriorityLevel(config, limits[name], 0.0) for name, config in configs.items()}
    low = levels["global-default"]
    low.demand.note(500, 0.0)
    adjust(levels, 10.0)
    assert low.current > 3 * low.limits.nominal
    assert low.queues.seats == low.current
    assert sum(level.current for level in levels.values()) == pytest.approx(
        sum(level.limits.nominal for level in levels.values()), abs=len(levels)
    )
    assert all(level.current >= level.limits.minimum for level in levels.values())
    low.demand.note(0, 10.0)
    high = levels["workload-high"]
    high.demand.note(high.limits.nominal, 10.0)
    adjust(levels, 20.0)
    adjust(levels, 30.0)
    assert high.current >= high.limits.nominal

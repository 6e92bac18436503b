"""Expressions made to take long, or much memory: up to the limit on costs, and where costs say little."""

from __future__ import annotations

import time
import tracemalloc
from functools import cache
from typing import Any

import pytest

from tiphys.cel import environments, types
from tiphys.cel.environments import PER_CALL_LIMIT
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.library import comprehensions
from tiphys.cel.values import SetList

ENVIRONMENT = environments.base().extend(
    {"items": types.list_of(types.INT), "names": types.list_of(types.STRING), "object": types.DYN},
    libraries=(comprehensions.BINDINGS,),
)
NAMES = [f"name-{i:04d}" for i in range(1000)]
OBJECT: dict[str, Any] = {
    "name": "web",
    "names": NAMES,
    "text": "a" * 1_000_000,
    "list": [1] * 300_000,
    "set": SetList(f"s{i}" for i in range(30_000)),
    "other": SetList(f"s{i}" for i in reversed(range(30_000))),
}
VARIABLES = {"items": list(range(1000)), "names": NAMES, "object": OBJECT}
MOST_STEPS, MOST_BYTES = 14e6, 20 << 20
"""They take half of it at most: of the time that so many steps of plain Python take, whatever the machine."""


@cache
def most_seconds() -> float:
    """The CPU seconds of ``MOST_STEPS``."""

    def million() -> float:
        start = time.thread_time()
        sum(number * number for number in range(1_000_000))
        return time.thread_time() - start

    return min(million() for _ in range(3)) * MOST_STEPS / 1e6


def exceed(text: str) -> float:
    """CPU seconds until the run is cancelled, translation included."""
    compiled = ENVIRONMENT.compile(text)
    start = time.thread_time()
    with pytest.raises(CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        Program(compiled).run(VARIABLES, PER_CALL_LIMIT)
    return time.thread_time() - start


@pytest.mark.parametrize(
    "text",
    [
        "items.all(a, items.all(b, a != b || a == b))",
        "items.all(a, items.exists(b, a == b))",
        "object.names.all(a, object.names.all(b, a.startsWith('name') || b == a))",
        "names.map(a, names.filter(b, a == b).size()).size() > 0",
        "names.all(a, names.exists_one(b, a == b))",
        "items.all(a, items.all(b, dyn(a) > 1.5 || true))",
        "items.all(a, items.all(b, a in items))",
        "items.all(a, items.exists(b, b / 0 == 1) || true)",
        "items.all(a, items.exists(b, " + "object.nope == b || " * 100 + "object.nope == b) || true)",
        "sets.contains(items, items) && sets.contains(items, items)",
        "lists.range(900).distinct().size() > 0",
    ],
)
def test_the_limit_on_costs_is_reached_soon(text: str) -> None:
    assert min(exceed(text) for _ in range(2)) < most_seconds()


def doubled(start: str, step: str) -> str:
    """A value that is doubled forty times."""
    return f"[{start}]" + f".map(a, {step})" * 40 + "[0].size() > 0"


@pytest.mark.parametrize(
    "text",
    [
        doubled("[1]", "a + a"),
        doubled("object.name", "a + a"),
        doubled("[1]", "[a, a].flatten()"),
        "[1].map(a, object.list).map(a, lists.range(1000).map(i, a).flatten()).size() > 0",
        "lists.range(1000).map(i, object.text).join().size() > 0",
        "'%s'.format([lists.range(1000).map(i, object.text)]).size() > 0",
        "object.text.replace('a', object.text).size() > 0",
        "lists.range(1000).map(i, object.list) == lists.range(1000).map(i, object.list)",
        "lists.range(500).map(i, object.list).distinct().size() > 0",
        "lists.range(1000).map(i, object.list).indexOf(object.names) > 0",
        "lists.range(100000000000).size() > 0",
        "'%.999999999f'.format([1.5]).size() > 0",
        "{'a': 1}[dyn(lists.range(1000).map(i, object.text))] == 1",
        "lists.range(1000).map(i, object.text.split('')).size() > 0",
    ],
)
def test_what_is_made_in_one_step_is_bounded(text: str) -> None:
    assert min(exceed(text) for _ in range(2)) < most_seconds()
    tracemalloc.start()
    exceed(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def test_sets_are_compared_item_by_item() -> None:
    program = Program(ENVIRONMENT.compile("object.set == object.other && object.set + object.other == object.set"))
    start = time.thread_time()
    assert program.run(VARIABLES, PER_CALL_LIMIT)[0] is True
    assert time.thread_time() - start < most_seconds()

"""Tolerations that others make superfluous: the index answers as comparing all with all does."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from tiphys.api.scheduling.taints import toleration
from tiphys.api.scheduling.tolerationsets import TolerationSet, merged

SEED = 20260730
Object = dict[str, Any]


def covers(wide: Object, one: Object) -> bool:
    """The rule, in words of the documentation, for one pair."""
    a, b = toleration(wide), toleration(one)
    if a == b:
        return True
    if a.key != b.key and (a.key or a.operator != "Exists"):
        return False
    if a.effect not in ("", b.effect):
        return False
    if a.effect == "NoExecute" and a.seconds is not None and (b.seconds is None or b.seconds > a.seconds):
        return False
    if a.operator in ("", "Equal"):
        return b.operator == "Equal" and a.value == b.value
    return a.operator == "Exists"


def naive(first: list[Object], second: list[Object]) -> list[Object]:
    every: list[Object] = [*first, *second]
    kept: list[Object] = []
    for i, one in enumerate(every):
        later = [other for other in every[i + 1 :] if toleration(other) != toleration(one)]
        if not any(covers(other, one) for other in (*kept, *later)):
            kept.append(one)
    return kept


def every_toleration() -> list[Object]:
    found = []
    for key, operator, value, effect in product(
        ("a", "b", ""), ("Exists", "Equal", ""), ("x", "y", ""), ("", "NoSchedule", "NoExecute")
    ):
        if (operator == "Exists" and value) or (not key and operator != "Exists"):
            continue
        base = {"key": key, "operator": operator, "value": value, "effect": effect}
        found.append(base)
        if effect == "NoExecute":
            found += [{**base, "tolerationSeconds": seconds} for seconds in (0, 5, 10)]
    return found


def test_merging_and_allowing_agree_with_comparing_every_pair() -> None:
    choose, pool = random.Random(SEED), every_toleration()
    for _ in range(3000):
        first, second = (choose.choices(pool, k=choose.randint(0, 5)) for _ in range(2))
        assert merged(first, second) == naive(first, second), (SEED, first, second)
        one = choose.choice(pool)
        allowed = TolerationSet(map(toleration, first))
        assert allowed.covers(toleration(one)) == any(covers(wide, one) for wide in first), (SEED, first, one)


def test_the_work_does_not_grow_with_the_square() -> None:
    """20,000 tolerations with one key: comparing all with all would make 400 million comparisons."""
    many = [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": n} for n in range(20_000)]
    assert merged(many, []) == many[-1:]

"""Lists of a strategic merge patch in linear time, with the outcome of searching each item."""

from __future__ import annotations

from random import Random
from typing import Any

from tiphys.api.patch.elementorder import Places, after_deletions, deduplicated
from tiphys.api.patch.gotypes import same_value

SEED = 5
VALUES = [1, 1.0, True, None, "a", "b", "c", {"x": 1}, {"x": 2}, [1]]


def searched(items: list[Any]) -> list[Any]:
    """``deduplicated``, each item compared with each."""
    at = 0
    while at < len(items) - 1:
        other = at + 1
        while other < len(items):
            if same_value(items[at], items[other]):
                items[other] = items[-1]
                items.pop()
            else:
                other += 1
        at += 1
    return items


def shifted(items: list[Any], deleted: list[Any]) -> tuple[list[Any], int]:
    """``after_deletions``, in place, as an array does it."""
    items, length = list(items), len(items)
    for gone in deleted:
        while (at := next((i for i in range(length) if items[i]["k"] == gone["k"]), -1)) >= 0:
            items[at : length - 1] = items[at + 1 : length]
            length -= 1
    return items, length


def test_random_lists_lose_what_comes_twice() -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    for _ in range(3000):
        items = [random.choice(VALUES) for _ in range(random.randint(0, 9))]
        assert list(map(repr, deduplicated(list(items)))) == list(map(repr, searched(list(items))))


def test_random_deletions() -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    for _ in range(3000):
        items = [{"k": random.choice("abcd"), "n": number} for number in range(random.randint(0, 7))]
        deleted = [{"k": random.choice("abcd")} for _ in range(random.randint(0, 3))]
        assert after_deletions(items, deleted, "k") == shifted(items, deleted)


def test_places_are_those_of_the_first() -> None:
    items = [{"k": "a"}, {"n": 1}, {"k": 1}, {"k": 1.0}, {"k": "a"}]
    places = Places(items, "k")
    assert [places.of({"k": key}) for key in ("a", 1, 1.0, True, "z", None)] == [0, 2, 3, -1, -1, -1]

"""Entries in blocks: in order whatever comes and goes, and a state that was shown stays what it was."""

from __future__ import annotations

import random
from bisect import bisect_left, insort

import pytest

from tiphys.apiserver.storage import blocks as module
from tiphys.apiserver.storage.blocks import Blocks, Entries, entries_of
from tiphys.apiserver.storage.entry import Entry


def entry(key: str, body: bytes = b"") -> Entry:
    return Entry(key, "", key, {}, (), body, 1)


def keys_of(entries: Entries) -> list[str]:
    return [e.key for e in entries]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE", 4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("removed", [0.2, 0.5, 0.7])
def test_what_is_shown_is_what_a_sorted_list_holds(removed: float) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    blocks, model = Blocks(), list[str]()
    for _ in range(800):
        key = f"{chance.randrange(120):03}"
        at = bisect_left(model, key)
        if model[at : at + 1] == [key] and chance.random() < 2 * removed:
            blocks.remove(key)
            model.remove(key)
        elif model[at : at + 1] != [key] and chance.random() > removed / 2:
            blocks.put(entry(key))
            insort(model, key)
        assert keys_of(blocks.all()) == model, f"seed {seed}"
        first, last = sorted((f"{chance.randrange(121):03}", f"{chance.randrange(121):03}"))
        limit = chance.randrange(6)
        wanted = [key for key in model if first <= key < last]
        shown, following = blocks.between(first, last, limit)
        assert keys_of(shown) == (wanted[:limit] if limit else wanted), f"seed {seed}"
        assert following == (len(wanted[limit:]) if limit else 0), f"seed {seed}"


@pytest.mark.usefixtures("small")
def test_a_state_that_was_shown_stays_what_it_was() -> None:
    blocks = Blocks()
    blocks.append([entry(f"{number:02}", b"x") for number in range(20)])
    whole, (some, _) = blocks.all(), blocks.between("03", "11")
    before = (list(whole), list(some), whole.size)
    blocks.put(entry("05", b"longer"))
    blocks.put(entry("05a"))
    for number in range(6, 18):
        blocks.remove(f"{number:02}")
    assert (list(whole), list(some), whole.size) == before
    assert blocks.all().size == len(b"x") * 7 + len(b"longer")


@pytest.mark.usefixtures("small")
def test_what_is_left_of_many_lies_in_few_blocks() -> None:
    blocks = Blocks()
    blocks.append([entry(f"{number:04}") for number in range(2000)])
    for number in range(2000):
        if number % 100:
            blocks.remove(f"{number:04}")
    assert len(blocks.all()) == 20
    assert len(blocks.all().blocks) <= 20


def test_entries_are_a_sequence() -> None:
    plain = [entry(f"{number:04}", b"12") for number in range(1500)]
    entries = entries_of(plain)
    assert entries_of(entries) is entries
    assert (len(entries), entries.size, entries[-1], entries[700]) == (1500, 3000, plain[-1], plain[700])
    assert entries[500:1100] == plain[500:1100]
    assert entries[::-1] == plain[::-1]
    assert entries == plain
    with pytest.raises(IndexError):
        entries[1500]

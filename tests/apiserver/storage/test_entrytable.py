"""The table of a cache: what a selection finds is what looking at everything finds, without looking at everything."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.entrytable import LOOKED_AT, EntryTable
from tiphys.apiserver.storage.selection import NAME, FieldTerm, Selection

PREFIX = "/registry/pods/"
NODE, PHASE = 0, 1


def entry(namespace: str, name: str, node: str = "", phase: str = "Running") -> Entry:
    return Entry(f"{PREFIX}{namespace}/{name}", namespace, name, {"app": name[:1]}, (node, phase), b"", 1)


@dataclass
class Counting:
    """A selector of labels that matches everything, and counts what it is asked about."""

    asked: int = 0

    def matches(self, labels: dict[str, str]) -> bool:
        self.asked += 1
        return True


def selection(namespace: str = "", *terms: FieldTerm, labels: Counting | None = None) -> Selection:
    prefix = f"{PREFIX}{namespace}/" if namespace else PREFIX
    return Selection(prefix, namespace, labels, terms)  # type: ignore[arg-type]


def filled(*entries: Entry) -> EntryTable:
    table = EntryTable(PREFIX, (NODE,), namespaced=True)
    table.append(sorted(entries, key=lambda e: e.key))
    return table


SELECTIONS = [
    selection(namespace, *terms)
    for namespace in ("", "a", "b")
    for terms in (
        (),
        (FieldTerm(NODE, "n1"),),
        (FieldTerm(NODE, ""),),
        (FieldTerm(NODE, "n1", equal=False),),
        (FieldTerm(PHASE, "Failed"), FieldTerm(NODE, "n2")),
        (FieldTerm(NAME, "p7"),),
        (FieldTerm(NAME, "p7"), FieldTerm(NODE, "n1")),
        (FieldTerm(NAME, "nobody"),),
    )
]


def test_a_selection_finds_what_looking_at_everything_finds() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    table, model = EntryTable(PREFIX, (NODE,), namespaced=True), dict[str, Entry]()
    for _ in range(600):
        name = f"p{chance.randrange(40)}"
        changed = entry(
            chance.choice("ab"), name, chance.choice(("", "n1", "n2")), chance.choice(("Running", "Failed"))
        )
        if changed.key in model and chance.random() < 0.4:
            table.remove(changed.key)
            del model[changed.key]
        else:
            table.put(changed)
            model[changed.key] = changed
        wanted = chance.choice(SELECTIONS)
        after = chance.choice(("", f"{PREFIX}a/p2", f"{PREFIX}b/p3\0", f"{PREFIX}z"))
        every = sorted((e for e in model.values() if e.key >= after), key=lambda e: e.key)
        matching = [e for e in every if e.key.startswith(wanted.prefix) and wanted.matches(e)]
        assert table.select(wanted, after) == matching, f"seed {seed}"
        limit = chance.randrange(1, 12)
        within = [e for e in every if e.key.startswith(wanted.prefix)]
        assert table.page(wanted.prefix, after, limit) == (within[:limit], len(within[limit:])), f"seed {seed}"
    assert len(table) == len(model)
    assert [e.key for e in table.under(PREFIX)] == sorted(model)


@pytest.mark.parametrize("size", [100, 10_000])
def test_what_runs_on_a_node_is_found_without_looking_at_what_runs_elsewhere(size: int) -> None:
    pods = [entry("a", f"p{number}", f"n{number % (size // 10)}") for number in range(size)]
    table = filled(*pods)
    labels = Counting()
    assert len(table.select(selection("", FieldTerm(NODE, "n3"), labels=labels))) == 10
    assert labels.asked == 10


def test_a_pod_by_its_name_is_found_at_once() -> None:
    table = filled(*(entry("a", f"p{number}") for number in range(1000)))
    labels = Counting()
    assert [e.name for e in table.select(selection("a", FieldTerm(NAME, "p7"), labels=labels))] == ["p7"]
    assert labels.asked == 1


def test_a_selection_looks_at_no_more_than_its_reader_asks_for() -> None:
    table = filled(*(entry("a", f"p{number:05}") for number in range(3 * LOOKED_AT)))
    labels = Counting()
    slices = table.slices(selection("", labels=labels), f"{PREFIX}a/p00500")
    assert labels.asked == 0
    assert len(next(slices)) == labels.asked == LOOKED_AT


def test_a_selection_is_of_the_moment_when_it_was_asked_for() -> None:
    table = filled(*(entry("a", f"p{number:05}") for number in range(2 * LOOKED_AT)))
    slices = table.slices(selection("", labels=Counting()))
    first = next(slices)
    table.remove(f"{PREFIX}a/p{LOOKED_AT + 5:05}")
    table.put(entry("a", "p00000x"))
    assert [e.name for some in (first, *slices) for e in some] == [f"p{number:05}" for number in range(2 * LOOKED_AT)]


def test_values_that_nobody_has_any_more_are_forgotten() -> None:
    table = EntryTable(PREFIX, (NODE,), namespaced=True)
    for number in range(100):
        table.put(entry("a", "p", f"n{number}"))
    table.remove(f"{PREFIX}a/p")
    assert table._indexes == {NODE: {}}

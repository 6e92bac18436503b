"""All rules as one thing: takes changed services and gives the text that brings the kernel there (pure).

A change of endpoints names that service's own chains only. A service that appears or goes changes the chains that
services share: a few rules are added and removed one by one, many by writing the chain as a whole.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tiphys.proxy.iptables import base, names
from tiphys.proxy.iptables.rules import SHARED, Chain, Rules, ServiceRules
from tiphys.proxy.rules import Options
from tiphys.proxy.state import ServiceKey

_T = TypeVar("_T")
NOTHING = ServiceRules()
CHAINS_AT_ONCE = 300
RULES_AT_ONCE = 1000
"""Chains, and rules of one chain, of a transaction. What iptables-restore 1.8.9 needs grows with the square of them:
for the chains of 10,000 services 1.2 s by 1,600 chains, 0.5 s by 300 (CPU time)."""
FEW = 50
"""Rules of a shared chain that are removed and added one by one. Finding one among 10,000 takes 15 ms, writing all of
them 600 ms."""


@dataclass(slots=True)
class SharedDifference:
    """What a chain that services share gains and loses."""

    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def take(self, old: Sequence[str], new: Sequence[str]) -> None:
        if not old:
            self.gained += new
            return
        before, after = Counter(old), Counter(new)
        self.gained += (after - before).elements()
        self.lost += (before - after).elements()

    def __len__(self) -> int:
        return len(self.gained) + len(self.lost)


@dataclass(slots=True)
class ChangedRules:
    """What changed services change in the kernel."""

    chains: dict[str, Rules] = field(default_factory=dict)
    """The services' own chains that have other rules now."""
    stale: set[str] = field(default_factory=set)
    shared: dict[Chain, SharedDifference] = field(default_factory=dict)


class Ruleset:
    """What the kernel should hold. ``text`` and ``rebuild`` return input of ``iptables-restore --noflush``."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._services: dict[ServiceKey, ServiceRules] = {}
        self._counts: Counter[str] = Counter()
        """The services' rules in each table."""

    def counts(self) -> dict[str, int]:
        """How many rules there are in each table's chains of ours."""
        return {
            table: self._counts[table]
            + sum(
                len(base.before((table, name), self.options)) + len(base.after((table, name), self.options))
                for name in listed
            )
            for table, listed in names.FIXED.items()
        }

    def take(self, changes: Mapping[ServiceKey, ServiceRules]) -> ChangedRules:
        """Take the changed services' new rules, ``NOTHING`` for gone ones."""
        change = ChangedRules()
        for key, new in changes.items():
            old = self._services.get(key, NOTHING)
            change.chains |= {name: lines for name, lines in new.chains.items() if old.chains.get(name) != lines}
            self._counts.update(_counted(new))
            self._counts.subtract(_counted(old))
            change.stale |= old.chains.keys() - new.chains.keys()
            for chain in old.shared.keys() | new.shared.keys():
                change.shared.setdefault(chain, SharedDifference()).take(
                    old.shared.get(chain, ()), new.shared.get(chain, ())
                )
            if new.chains or new.shared:
                self._services[key] = new
            else:
                self._services.pop(key, None)
        return change

    def text(self, change: ChangedRules) -> str:
        """The services' own chains, then with the last of them what leads to them, then what nothing leads to any more:
        one transaction if it is not much."""
        written = list(by_parts(change.chains)) or [{}]
        stale = sorted(change.stale - change.chains.keys(), key=names.removal_order)
        gone = list(parts(stale, CHAINS_AT_ONCE)) or [[]]
        nat, filtering = Transaction("nat", written[-1], gone=gone[0]), Transaction("filter")
        for chain in SHARED:
            if difference := change.shared.get(chain):
                self._share(nat if chain[0] == "nat" else filtering, chain, difference)
        before = [Transaction("nat", part) for part in written[:-1]]
        return "".join(map(str, (*before, filtering, nat, *(Transaction("nat", gone=part) for part in gone[1:]))))

    def _share(self, table: Transaction, chain: Chain, difference: SharedDifference) -> None:
        if len(difference) > FEW:
            table.filled[chain[1]] = self._shared_rules(chain)
            return
        last = base.after(chain, self.options) if difference.gained else []
        table.lines += [f"-D {chain[1]} {rule}" for rule in (*difference.lost, *last)]
        table.lines += [f"-A {chain[1]} {rule}" for rule in (*difference.gained, *last)]

    def rebuild(self, present: Iterable[str]) -> str:
        """The text that makes the tables what they should be, whatever they hold; ``present`` are the chains of the
        table nat. It ends with the table nat."""
        present = frozenset(present)
        wanted = {name: lines for service in self._services.values() for name, lines in service.chains.items()}
        stale = sorted(
            (name for name in present if names.is_service_chain(name) and name not in wanted), key=names.removal_order
        )
        fixed: dict[str, dict[str, Sequence[str]]] = {
            table: {name: self._shared_rules((table, name)) for name in listed} for table, listed in names.FIXED.items()
        }
        # Services' chains lead to it.
        tables = [Transaction("nat", {names.MARK_MASQ: fixed["nat"].pop(names.MARK_MASQ)})]
        tables += [Transaction("nat", part) for part in by_parts(wanted)]
        # Nothing leads to a chain that is not there yet, so it need not be whole at once.
        later = {} if names.SERVICES in present else {names.SERVICES: fixed["nat"].pop(names.SERVICES)}
        tables += [Transaction("filter", fixed["filter"]), Transaction("nat", fixed["nat"])]
        tables += [part for name, lines in later.items() for part in filled_by_parts(name, lines)]
        tables += [Transaction("nat", gone=part) for part in parts(stale, CHAINS_AT_ONCE)]
        return "".join(map(str, tables))

    def _shared_rules(self, chain: Chain) -> list[str]:
        own = [rule for service in self._services.values() for rule in service.shared.get(chain, ())]
        return [*base.before(chain, self.options), *own, *base.after(chain, self.options)]


def _counted(service: ServiceRules) -> Counter[str]:
    counts = Counter({"nat": sum(map(len, service.chains.values()))})
    for (table, _), rules in service.shared.items():
        counts[table] += len(rules)
    return counts


@dataclass(slots=True)
class Transaction:
    """One transaction of one table: chains that are made or emptied and filled, rules of others, chains that go."""

    name: str
    filled: dict[str, Sequence[str]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    gone: Sequence[str] = ()

    def __str__(self) -> str:
        """``:NAME`` makes a chain or empties it; a chain can be removed when nothing jumps to it any more."""
        lines = [f":{name} - [0:0]" for name in (*self.filled, *self.gone)]
        lines += [f"-A {name} {rule}" for name, rules in self.filled.items() for rule in rules]
        lines += self.lines
        lines += [f"-X {name}" for name in self.gone]
        return "\n".join([f"*{self.name}", *lines, "COMMIT", ""]) if lines else ""


def filled_by_parts(chain: str, rules: Sequence[str]) -> list[Transaction]:
    first, *more = parts(rules, RULES_AT_ONCE)
    rest = [Transaction("nat", lines=[f"-A {chain} {rule}" for rule in part]) for part in more]
    return [Transaction("nat", {chain: first}), *rest]


def by_parts(chains: Mapping[str, Rules]) -> Iterator[dict[str, Sequence[str]]]:
    """The chains, each after those that it jumps to."""
    order = sorted(chains, key=names.removal_order, reverse=True)
    return ({name: chains[name] for name in part} for part in parts(order, CHAINS_AT_ONCE))


def parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

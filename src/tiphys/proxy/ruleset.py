"""The whole table as one thing: takes changed services and gives the transaction that brings the kernel there (pure).

A transaction names only what changed. Several services may want the same element (two ports on one cluster IP, or two
services with one external IP); it stays as long as one of them does, with the first one's verdict. So does a chain that
services share.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set

from tiphys.proxy import base
from tiphys.proxy.rules import ElementKey, Options, ServiceRules
from tiphys.proxy.state import ServiceKey

NOTHING = ServiceRules()


class Ruleset:
    """What the kernel should hold. ``update`` and ``rebuild`` give nft commands; the caller applies them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._services: dict[ServiceKey, ServiceRules] = {}
        self._chains: Counter[str] = Counter()
        """How many services use each chain."""
        self._elements: dict[ElementKey, dict[ServiceKey, str]] = {}

    def update(self, changes: Mapping[ServiceKey, ServiceRules]) -> list[str]:
        """Take the changed services' new rules (``NOTHING`` for gone ones); returns the commands."""
        edit = _Edit(self.options)
        for key, new in changes.items():
            old = self._services.get(key, NOTHING)
            self._edit_chains(edit, old, new)
            self._edit_elements(edit, key, old, new)
            if new.chains or new.elements:
                self._services[key] = new
            else:
                self._services.pop(key, None)
        return edit.commands()

    def rebuild(self, chains: Iterable[str], sets: Iterable[str]) -> list[str]:
        """Commands that make the table what it should be, whatever it holds; ``chains`` and ``sets`` are the names
        there. Affinity sets are kept, as they hold which client uses which endpoint."""
        edit = _Edit(self.options)
        wanted_chains = {name: lines for service in self._services.values() for name, lines in service.chains.items()}
        wanted_sets = {name: age for service in self._services.values() for name, age in service.affinity_sets.items()}
        edit.changed_chains = wanted_chains
        edit.stale_chains = {name for name in chains if is_service_chain(name) and name not in wanted_chains}
        edit.new_sets = wanted_sets
        edit.stale_sets = {name for name in sets if name.startswith("affinity-") and name not in wanted_sets}
        edit.added = {key: next(iter(owners.values())) for key, owners in self._elements.items()}
        return [*base.table(self.options), *edit.commands()]

    def let_go_by(self, changes: Mapping[ServiceKey, ServiceRules]) -> set[str]:
        """The chains that services will not use any more after ``update(changes)``; others may."""
        return {
            chain
            for key, new in changes.items()
            for chain in self._services.get(key, NOTHING).chains
            if chain not in new.chains
        }

    def chains(self) -> Set[str]:
        return self._chains.keys()

    def _edit_chains(self, edit: _Edit, old: ServiceRules, new: ServiceRules) -> None:
        for name, lines in new.chains.items():
            shared = name not in old.chains and name in self._chains
            if name not in old.chains:
                self._chains[name] += 1
            if old.chains.get(name) != lines and not shared:
                edit.changed_chains[name] = lines
        for name in old.chains.keys() - new.chains.keys():
            self._chains[name] -= 1
            if not self._chains[name]:
                del self._chains[name]
                edit.stale_chains.add(name)
        for name, seconds in new.affinity_sets.items():
            if name not in old.affinity_sets:
                edit.new_sets[name] = seconds
            elif old.affinity_sets[name] != seconds:
                edit.reset_sets[name] = seconds
                edit.changed_chains.update(new.chains)  # they must let go of the set first
        edit.stale_sets.update(old.affinity_sets.keys() - new.affinity_sets.keys())

    def _edit_elements(self, edit: _Edit, key: ServiceKey, old: ServiceRules, new: ServiceRules) -> None:
        for element in old.elements.keys() - new.elements.keys():
            owners = self._elements[element]
            before: str | None = next(iter(owners.values()))
            del owners[key]
            if not owners:
                del self._elements[element]
            edit.element(element, before, next(iter(owners.values()), None))
        for element, verdict in new.elements.items():
            owners = self._elements.setdefault(element, {})
            before = next(iter(owners.values()), None)
            owners[key] = verdict
            edit.element(element, before, next(iter(owners.values())))


def is_service_chain(name: str) -> bool:
    """The chains of services have a slash in their names, the fixed ones have none."""
    return "/" in name


class _Edit:
    """Collects changes, and writes them in an order in which every reference holds."""

    def __init__(self, options: Options) -> None:
        self._table = f"{options.family} {base.TABLE}"
        self._address = "ipv4_addr" if options.family == "ip" else "ipv6_addr"
        self.changed_chains: dict[str, tuple[str, ...]] = {}
        self.stale_chains: set[str] = set()
        self.new_sets: dict[str, int] = {}
        self.reset_sets: dict[str, int] = {}
        self.stale_sets: set[str] = set()
        self.added: dict[ElementKey, str] = {}
        self.deleted: dict[ElementKey, str] = {}

    def element(self, key: ElementKey, before: str | None, after: str | None) -> None:
        """Note that an element goes from one verdict to another; ``None`` means that it is not there.

        One transaction may move an element between services, so what counts is the verdict ahead of it all.
        """
        before = self.deleted.get(key, before if key not in self.added else None)
        self.added.pop(key, None)
        self.deleted.pop(key, None)
        if before == after:
            return
        if before is not None:
            self.deleted[key] = before
        if after is not None:
            self.added[key] = after

    def commands(self) -> list[str]:
        table, lines = self._table, []
        lines += [f"add chain {table} {chain}" for chain in self.changed_chains]
        lines += [f"flush chain {table} {chain}" for chain in (*self.changed_chains, *sorted(self.stale_chains))]
        lines += [f"delete set {table} {name}" for name in self.reset_sets]
        for name, seconds in (*self.new_sets.items(), *self.reset_sets.items()):
            spec = f"type {self._address}; flags dynamic,timeout; timeout {seconds}s;"
            lines.append(f"add set {table} {name} {{ {spec} }}")
        for chain, rules in self.changed_chains.items():
            lines += [f"add rule {table} {chain} {rule}" for rule in rules]
        lines += self._elements("delete", dict.fromkeys(self.deleted, ""))
        lines += self._elements("add", self.added)
        lines += [f"delete set {table} {name}" for name in sorted(self.stale_sets)]
        return lines

    def _elements(self, verb: str, elements: Mapping[ElementKey, str]) -> list[str]:
        by_container: dict[str, list[str]] = {}
        for (container, key), verdict in elements.items():
            by_container.setdefault(container, []).append(f"{key} : {verdict}" if verdict else key)
        return [
            f"{verb} element {self._table} {container} {{ {', '.join(keys)} }}"
            for container, keys in by_container.items()
        ]

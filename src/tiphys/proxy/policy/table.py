"""The whole table of network policies as one thing: takes changed objects, and gives the transaction for them (pure).

Each pod contributes elements: its address to the sets that select it, and, if it is this node's, a verdict to the map
of each direction in which a policy isolates it. The verdict leads to a chain that visits the chains of its policies,
and drops what none of them accepts. Pods with the same policies share one.

A change costs what it touches: a policy's, the sets that it is the first or the last to name and the pods that it
isolates; a pod's, that pod. ``work`` does it in small steps, so that a caller on an event loop can pause between them;
the transaction is made when no step is left.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from tiphys.api.object import Object
from tiphys.proxy.policy.base import base
from tiphys.proxy.policy.elements import NOTHING, Elements, Placed
from tiphys.proxy.policy.facts import PodFacts, pod_facts
from tiphys.proxy.policy.names import DIRECTIONS, MAPS, SELF, TABLE, Direction, Key
from tiphys.proxy.policy.rules import Matcher, Peers, PolicyRules, policy_rules
from tiphys.proxy.state import Family

Rules = tuple[str, ...]
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(slots=True)
class PolicyTable:
    """The state of one family, and what the kernel has of it."""

    family: Family
    node: str
    open_addresses: tuple[str, ...] = ()
    """Services that every pod may use whatever its policies: the cluster's DNS, which runs on nodes and not in pods."""
    _policies: dict[Key, PolicyRules] = field(default_factory=dict)
    _policies_in: dict[str, dict[Key, PolicyRules]] = field(default_factory=dict)
    _spaces: dict[str, dict[str, str]] = field(default_factory=dict)
    _pods: dict[Key, PodFacts] = field(default_factory=dict)
    _pods_in: dict[str, dict[Key, None]] = field(default_factory=dict)
    _peers: dict[str, Peers] = field(default_factory=dict)
    _peers_in: dict[str, dict[str, Peers]] = field(default_factory=dict)
    """Sets whose pods are of one namespace, by that; under "" those that look into several."""
    _users: Counter[str] = field(default_factory=Counter)
    """How many policies name each set."""
    _elements: Elements = field(init=False)
    _combined: dict[str, Rules] = field(default_factory=dict)
    """The chains of pods, by name."""
    _wanted: dict[str, Rules] = field(default_factory=dict)
    """The chains of policies, by name."""
    _shape: dict[str, Rules] = field(default_factory=dict)
    """The chains that the kernel has."""
    _sets: set[str] = field(default_factory=set)
    _changed_chains: dict[str, None] = field(default_factory=dict)
    _changed_sets: dict[str, None] = field(default_factory=dict)
    _dirty_pods: dict[Key, None] = field(default_factory=dict)
    _dirty_verdicts: dict[Key, None] = field(default_factory=dict)
    _dirty_sets: dict[str, None] = field(default_factory=dict)
    _selections: list[tuple[str, Matcher]] = field(default_factory=list)
    """Pods that a policy has begun or ceased to select, by namespace and selector."""

    def __post_init__(self) -> None:
        self._elements = Elements(self.family)

    # -- what has changed ---------------------------------------------------------------------------------------------

    def pod(self, key: Key, pod: Object | None) -> bool:
        """Take a pod's new form, or None for one that is gone; returns whether it matters."""
        facts = pod_facts(pod, self.node, self.family) if pod is not None else None
        if facts == self._pods.get(key):
            return False
        if facts is None:
            del self._pods[key]
            _discard(self._pods_in, key[0], key)
        else:
            self._pods[key] = facts
            self._pods_in.setdefault(key[0], {})[key] = None
        self._dirty_pods[key] = None
        return True

    def namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        if labels == self._spaces.get(name):
            return False
        if labels is None:
            del self._spaces[name]
        else:
            self._spaces[name] = labels
        self._dirty_pods.update(self._pods_in.get(name, {}))
        return True

    def policy(self, key: Key, policy: Object | None) -> None:
        """Take a policy's new form. Raises ``ValueError`` for one that cannot be read; it stays as it was."""
        new = policy_rules(policy, self.family) if policy is not None else None
        old = self._policies.pop(key, None)
        _discard(self._policies_in, key[0], key)
        if new is not None:
            self._policies[key] = new
            self._policies_in.setdefault(key[0], {})[key] = new
            for name, peers in new.peers.items():
                self._use(name, peers)
        if old is not None:
            for name in old.peers:
                self._cease_to_use(name)
        for made in (old, new):
            if made is not None:
                self._changed_chains.update(dict.fromkeys(made.chains.values()))
        for chain in (*old.chains.values(),) if old is not None else ():
            self._wanted.pop(chain, None)
        if new is not None:
            self._wanted.update({chain: new.rules[direction] for direction, chain in new.chains.items()})
        self._reselect(key[0], old, new)

    def _reselect(self, namespace: str, old: PolicyRules | None, new: PolicyRules | None) -> None:
        """Note whose verdicts may differ: nobody's if only the rules of the policy have changed."""
        if old is not None and new is not None and (old.own, old.chains) == (new.own, new.chains):
            return
        self._selections += [(namespace, made.selector) for made in (old, new) if made is not None]

    def _use(self, name: str, peers: Peers) -> None:
        self._users[name] += 1
        if self._users[name] == 1:
            self._peers[name] = peers
            self._peers_in.setdefault(peers.namespace, {})[name] = peers
            self._dirty_sets[name] = self._changed_sets[name] = None

    def _cease_to_use(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]
            peers = self._peers.pop(name)
            _discard(self._peers_in, peers.namespace, name)
            self._dirty_sets[name] = self._changed_sets[name] = None

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def work(self) -> Iterator[None]:
        """Take in what has changed, step by step; between two steps more may change. A step takes one pod, or one
        selector over the pods that it looks at."""
        while True:
            if self._selections:
                self._select(*self._selections.pop())
            elif self._dirty_sets:
                self._fill(self._dirty_sets.popitem()[0])
            elif self._dirty_pods:
                self._place(self._dirty_pods.popitem()[0])
            elif self._dirty_verdicts:
                self._isolate(self._dirty_verdicts.popitem()[0])
            else:
                return
            yield

    def update(self) -> list[str]:
        """The commands that bring the kernel from what was last given to the present state; none if nothing changed."""
        for _ in self.work():
            pass
        return self._transaction()

    def rebuild(self) -> list[str]:
        """The commands that make the whole table, whatever is there."""
        for _ in self.work():
            pass
        name = f"{self.family} {TABLE}"
        self._shape, self._sets = {}, set()
        self._changed_chains = dict.fromkeys((*self._wanted, *self._combined))
        self._changed_sets = dict.fromkeys(self._peers)
        self._elements.forget_written()
        commands = [f"add table {name}", f"delete table {name}", f"add table {name}"]
        return [*commands, *base(self.family, self.open_addresses), *self._transaction()]

    def _select(self, namespace: str, selector: Matcher) -> None:
        for key in self._pods_in.get(namespace, ()):
            if key not in self._dirty_pods and self._pods[key].local and selector(self._pods[key].labels):
                self._dirty_verdicts[key] = None

    def _fill(self, name: str) -> None:
        """Bring a set's elements up to date; those of pods that are looked at anyway follow with them."""
        peers = self._peers.get(name)
        if peers is None:
            for key in self._elements.holders(name):
                self._elements.give(key, name, NOTHING)
            return
        for key in self._pods_in.get(peers.namespace, ()) if peers.namespace else self._pods:
            if key not in self._dirty_pods:
                facts = self._pods[key]
                selected = self._selects(peers, key[0], facts)
                self._elements.give(key, name, _in_set(peers, facts) if selected else NOTHING)

    def _place(self, key: Key) -> None:
        """Bring all of one pod's elements up to date."""
        self._dirty_verdicts.pop(key, None)
        facts = self._pods.get(key)
        wanted: dict[str, Placed] = {}
        if facts is not None:
            for group in (self._peers_in.get(key[0], {}), self._peers_in.get("", {})):
                for name, peers in group.items():
                    if self._selects(peers, key[0], facts) and (placed := _in_set(peers, facts)):
                        wanted[name] = placed
            wanted |= {name: placed for name, placed in self._verdicts(key[0], facts).items() if placed}
        self._elements.give_all(key, wanted)

    def _isolate(self, key: Key) -> None:
        if (facts := self._pods.get(key)) is not None:
            for container, placed in self._verdicts(key[0], facts).items():
                self._elements.give(key, container, placed)

    def _selects(self, peers: Peers, namespace: str, facts: PodFacts) -> bool:
        if peers.namespaces is not None and not peers.namespaces(self._spaces.get(namespace, {})):
            return False
        return peers.pods(facts.labels)

    def _verdicts(self, namespace: str, facts: PodFacts) -> dict[str, Placed]:
        """What one pod has in the maps of both directions, and among those that reach themselves."""
        verdicts: dict[str, Placed] = dict.fromkeys((SELF, *MAPS.values()), NOTHING)
        if not facts.local:
            return verdicts
        for direction in DIRECTIONS:
            if chains := self._isolating(direction, namespace, facts):
                verdict = f"goto {self._pod_chain(direction, chains)}"
                verdicts[MAPS[direction]] = frozenset((address, verdict) for address in facts.addresses)
                verdicts[SELF] = frozenset((f"{address} . {address}", "") for address in facts.addresses)
        return verdicts

    def _isolating(self, direction: Direction, namespace: str, facts: PodFacts) -> tuple[str, ...]:
        """The chains of the policies that isolate a pod."""
        return tuple(
            sorted(
                policy.chains[direction]
                for policy in self._policies_in.get(namespace, {}).values()
                if direction in policy.chains and policy.selector(facts.labels)
            )
        )

    def _pod_chain(self, direction: Direction, chains: tuple[str, ...]) -> str:
        """The name of the chain of pods that these policies isolate, which is noted with its rules."""
        name = f"pod-{direction}-{hashlib.sha256(' '.join(chains).encode()).hexdigest()[:24]}"
        self._combined[name] = (*(f"jump {chain}" for chain in chains), "drop")
        return name

    # -- the way there ------------------------------------------------------------------------------------------------

    def _transaction(self) -> list[str]:
        """Sets and chains first, then elements, then what nothing leads to any more."""
        name, shape = f"{self.family} {TABLE}", self._shape
        changed, gone = self._chains()
        new_sets = sorted(s for s in self._changed_sets if s in self._peers and s not in self._sets)
        old_sets = sorted(s for s in self._changed_sets if s not in self._peers and s in self._sets)
        address = "ipv4_addr" if self.family == "ip" else "ipv6_addr"
        kinds = {"pods": address, "ports": f"{address} . inet_service"}
        lines = [f"add set {name} {s} {{ type {kinds[s.partition('-')[0]]}; }}" for s in new_sets]
        lines += [f"add chain {name} {chain}" for chain in changed]
        lines += [f"flush chain {name} {chain}" for chain in changed if chain in shape]
        lines += [f"add rule {name} {chain} {rule}" for chain, rules in changed.items() for rule in rules]
        lines += self._elements.lines(old_sets)
        lines += [f"flush chain {name} {chain}" for chain in gone]
        lines += [f"delete chain {name} {chain}" for chain in gone]
        lines += [f"delete set {name} {s}" for s in old_sets]
        self._sets = (self._sets - {*old_sets}) | {*new_sets}
        self._shape.update(changed)
        for chain in gone:
            del self._shape[chain]
        self._changed_sets.clear()
        return lines

    def _chains(self) -> tuple[dict[str, Rules], list[str]]:
        """The chains to write, those of policies, which others lead to, first; and those to remove."""
        for verdict in self._elements.turned:
            if chain := verdict.removeprefix("goto "):
                self._changed_chains[chain] = None
                if not self._elements.leads_to(verdict):
                    self._combined.pop(chain, None)
        self._elements.turned.clear()
        changed: dict[str, Rules] = {}
        for source in (self._wanted, self._combined):
            for chain in self._changed_chains:
                if chain in source and self._shape.get(chain) != source[chain]:
                    changed[chain] = source[chain]
        gone = [c for c in self._changed_chains if c in self._shape and c not in self._wanted | self._combined]
        self._changed_chains.clear()
        return changed, gone


def _in_set(peers: Peers, facts: PodFacts) -> Placed:
    if not peers.port:
        return frozenset((address, "") for address in facts.addresses)
    wanted = (peers.port, peers.protocol)
    numbers = [number for port, protocol, number in facts.ports if (port, protocol) == wanted]
    return frozenset((f"{address} . {number}", "") for address in facts.addresses for number in numbers)


def _discard(index: dict[str, dict[_K, _V]], group: str, key: _K) -> None:
    """Remove from an index of groups, and the group with its last member."""
    members = index.get(group)
    if members is not None:
        members.pop(key, None)
        if not members:
            del index[group]

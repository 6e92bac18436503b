"""The whole table of network policies as one thing: takes changed objects, and gives the transaction for them (pure).

Each pod contributes elements: its address to the sets that select it, and, if it is this node's, a verdict to the map
of each direction in which a policy isolates it. The verdict leads to a chain that visits the chains of its policies,
and drops what none of them accepts. Pods with the same policies share one.

Only new connections are looked at: what is established, and answers, pass. Packets of the node itself do not pass the
hook ``forward`` and are let through, as the specification has it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.proxy.policy.rules import DIRECTIONS, Direction, Peers, PolicyRules, policy_rules
from tiphys.proxy.state import Family

TABLE = "tiphys-policy"
SELF = "self"
MAPS: dict[Direction, str] = {"ingress": "ingress-pods", "egress": "egress-pods"}
_FIXED = frozenset((SELF, *MAPS.values()))
Key = tuple[str, str]
Element = tuple[str, str, str]
"""The set or map, the key, and a map's verdict."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What policies ask of a pod. ``ports`` are (name, protocol, number) of its containers' named ports."""

    labels: dict[str, str]
    addresses: tuple[str, ...]
    local: bool
    ports: tuple[tuple[str, str, int], ...] = ()


def pod_facts(pod: Object, node: str, family: Family) -> PodFacts | None:
    """None for a pod that no policy applies to: on its node's network, ended, or without an address."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    listed = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    addresses = tuple(ip for ip in listed or [status.get("podIP") or ""] if ip and (":" in ip) == (family == "ip6"))
    if not addresses:
        return None
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    ports = tuple(
        (port["name"], str(port.get("protocol") or "TCP").lower(), port["containerPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    )
    return PodFacts(pod["metadata"].get("labels") or {}, addresses, spec.get("nodeName") == node, ports)


@dataclass(slots=True)
class PolicyTable:
    """The state of one family, and what the kernel has of it."""

    family: Family
    node: str
    open_addresses: tuple[str, ...] = ()
    """Services that every pod may use whatever its policies: the cluster's DNS, which runs on nodes and not in pods."""
    _policies: dict[Key, PolicyRules] = field(default_factory=dict)
    _policies_in: dict[str, list[PolicyRules]] = field(default_factory=dict)
    _spaces: dict[str, dict[str, str]] = field(default_factory=dict)
    _pods: dict[Key, PodFacts] = field(default_factory=dict)
    _peers: dict[str, Peers] = field(default_factory=dict)
    _given: dict[Key, frozenset[Element]] = field(default_factory=dict)
    _peers_in: dict[str, list[str]] = field(default_factory=dict)
    """Sets whose pods are of one namespace, by that; under "" those that look into several."""
    _elements: dict[Key, Counter[str]] = field(default_factory=dict)
    """How many pods want each verdict, by container and key."""
    _leading: Counter[str] = field(default_factory=Counter)
    """How many elements lead to each pod chain."""
    _combined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _dirty: set[Key] = field(default_factory=set)
    _reshaped: bool = True
    _shape: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _sets: frozenset[str] = frozenset()
    _written: dict[Key, str] = field(default_factory=dict)

    # -- what has changed ---------------------------------------------------------------------------------------------

    def pod(self, key: Key, pod: Object | None) -> bool:
        """Take a pod's new form, or None for one that is gone; returns whether it matters."""
        facts = pod_facts(pod, self.node, self.family) if pod is not None else None
        if facts == self._pods.get(key):
            return False
        if facts is None:
            del self._pods[key]
        else:
            self._pods[key] = facts
        self._dirty.add(key)
        return True

    def namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        if labels == self._spaces.get(name):
            return False
        if labels is None:
            del self._spaces[name]
        else:
            self._spaces[name] = labels
        self._dirty.update(key for key in self._pods if key[0] == name)
        return True

    def policy(self, key: Key, policy: Object | None) -> None:
        """Take a policy's new form. Raises ``ValueError`` for one that cannot be read; it stays as it was."""
        if policy is not None:
            self._policies[key] = policy_rules(policy, self.family)
        elif self._policies.pop(key, None) is None:
            return
        self._reshaped = True
        self._dirty.update(self._pods)

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def update(self) -> list[str]:
        """The commands that bring the kernel from what was last given to the present state; none if nothing changed."""
        if self._reshaped:
            self._index()
        touched: set[Key] = set()
        for key in self._dirty:
            touched |= self._contribute(key)
        self._dirty.clear()
        commands = self._transaction(self._chains(), touched)
        self._reshaped = False
        return commands

    def rebuild(self) -> list[str]:
        """The commands that make the whole table, whatever is there."""
        self.update()
        name = f"{self.family} {TABLE}"
        self._shape, self._sets, self._written = {}, frozenset(), {}
        commands = [f"add table {name}", f"delete table {name}", f"add table {name}"]
        return [*commands, *self._base(), *self._transaction(self._chains(), set(self._elements))]

    def _index(self) -> None:
        self._peers = {name: peers for policy in self._policies.values() for name, peers in policy.peers.items()}
        self._peers_in, self._policies_in = {}, {}
        for name, peers in self._peers.items():
            self._peers_in.setdefault(peers.namespace, []).append(name)
        for policy in self._policies.values():
            self._policies_in.setdefault(policy.namespace, []).append(policy)

    def _contribute(self, key: Key) -> set[Key]:
        """Bring one pod's elements up to date; gives the places that it has, or had."""
        old = self._given.pop(key, frozenset())
        new = frozenset(self._elements_of(key))
        if new:
            self._given[key] = new
        for container, place, verdict in old - new:
            wanted = self._elements[container, place]
            wanted[verdict] -= 1
            if not wanted[verdict]:
                del wanted[verdict]
            if not wanted:
                del self._elements[container, place]
            self._leading[verdict] -= 1
            if not self._leading[verdict]:
                del self._leading[verdict]
        for container, place, verdict in new - old:
            self._elements.setdefault((container, place), Counter())[verdict] += 1
            self._leading[verdict] += 1
        return {(container, place) for container, place, _ in old ^ new}

    def _elements_of(self, key: Key) -> Iterable[Element]:
        facts = self._pods.get(key)
        if facts is None:
            return
        for name in (*self._peers_in.get(key[0], ()), *self._peers_in.get("", ())):
            if self._selects(peers := self._peers[name], key[0], facts):
                yield from _in_set(name, peers, facts)
        if facts.local:
            for direction in DIRECTIONS:
                if chains := self._isolating(direction, key[0], facts):
                    for address in facts.addresses:
                        yield MAPS[direction], address, f"goto {self._pod_chain(direction, chains)}"
                        yield SELF, f"{address} . {address}", ""

    def _selects(self, peers: Peers, namespace: str, facts: PodFacts) -> bool:
        if peers.namespaces is not None and not peers.namespaces(self._spaces.get(namespace, {})):
            return False
        return peers.pods(facts.labels)

    def _isolating(self, direction: Direction, namespace: str, facts: PodFacts) -> tuple[str, ...]:
        """The chains of the policies that isolate a pod."""
        return tuple(
            sorted(
                policy.chains[direction]
                for policy in self._policies_in.get(namespace, ())
                if direction in policy.chains and policy.selector(facts.labels)
            )
        )

    def _pod_chain(self, direction: Direction, chains: tuple[str, ...]) -> str:
        """The name of the chain of pods that these policies isolate, which is noted with its rules."""
        name = f"pod-{direction}-{hashlib.sha256(' '.join(chains).encode()).hexdigest()[:24]}"
        self._combined[name] = (*(f"jump {chain}" for chain in chains), "drop")
        return name

    def _chains(self) -> dict[str, tuple[str, ...]]:
        """Every chain of policies and of pods, with its rules: those of policies, which others lead to, first."""
        made = {
            policy.chains[direction]: policy.rules[direction]
            for policy in self._policies.values()
            for direction in policy.chains
        }
        self._combined = {name: rules for name, rules in self._combined.items() if self._leading[f"goto {name}"] > 0}
        return made | self._combined

    # -- the way there ------------------------------------------------------------------------------------------------

    def _base(self) -> list[str]:
        name, family = f"{self.family} {TABLE}", self.family
        address = "ipv4_addr" if family == "ip" else "ipv6_addr"
        lines = [f"add set {name} {SELF} {{ type {address} . {address}; }}"]
        lines += [f"add map {name} {container} {{ type {address} : verdict; }}" for container in MAPS.values()]
        passing = ["ct state established,related accept", f"{family} saddr . {family} daddr @{SELF} accept"]
        opened = (
            [f"ct original {family} daddr {{ {', '.join(self.open_addresses)} }} accept"] if self.open_addresses else []
        )
        # A packet has to be let through by the sender's policies, and then by the receiver's.
        for direction, side, priority, more in (("egress", "saddr", -2, opened), ("ingress", "daddr", -1, [])):
            chain = f"forward-{direction}"
            hook = f"type filter hook forward priority {priority}; policy accept;"
            lines.append(f"add chain {name} {chain} {{ {hook} }}")
            lines += [f"add rule {name} {chain} {rule}" for rule in (*passing, *more)]
            lines.append(f"add rule {name} {chain} {family} {side} vmap @{direction}-pods")
        return lines

    def _transaction(self, shape: dict[str, tuple[str, ...]], touched: set[Key]) -> list[str]:
        """Sets and chains first, then elements, then what nothing leads to any more."""
        name, sets = f"{self.family} {TABLE}", frozenset(self._peers)
        address = "ipv4_addr" if self.family == "ip" else "ipv6_addr"
        kinds = {"pods": address, "ports": f"{address} . inet_service"}
        changed = [chain for chain, rules in shape.items() if self._shape.get(chain) != rules]
        gone = [chain for chain in self._shape if chain not in shape]
        lines = [f"add set {name} {s} {{ type {kinds[s.partition('-')[0]]}; }}" for s in sorted(sets - self._sets)]
        lines += [f"add chain {name} {chain}" for chain in changed]
        lines += [f"flush chain {name} {chain}" for chain in changed if chain in self._shape]
        lines += [f"add rule {name} {chain} {rule}" for chain in changed for rule in shape[chain]]
        lines += self._element_lines(touched, sets)
        lines += [f"flush chain {name} {chain}" for chain in gone]
        lines += [f"delete chain {name} {chain}" for chain in gone]
        lines += [f"delete set {name} {s}" for s in sorted(self._sets - sets)]
        self._sets, self._shape = sets, shape
        return lines

    def _element_lines(self, touched: set[Key], sets: frozenset[str]) -> list[str]:
        """Elements of sets that are removed go with them. Of two verdicts for one address the first by name counts."""
        added: list[Element] = []
        deleted: list[Element] = []
        for container, place in sorted(touched):
            present = self._written.pop((container, place), None)
            wanted = min(self._elements.get((container, place), ()), default=None)
            if wanted is not None:
                self._written[container, place] = wanted
            if present == wanted:
                continue
            if present is not None and (container in sets or container in _FIXED):
                deleted.append((container, place, present))
            if wanted is not None:
                added.append((container, place, wanted))
        return [*_batched("delete", self.family, deleted), *_batched("add", self.family, added)]


def _in_set(name: str, peers: Peers, facts: PodFacts) -> Iterable[Element]:
    for address in facts.addresses:
        if not peers.port:
            yield name, address, ""
        for port, protocol, number in facts.ports:
            if (port, protocol) == (peers.port, peers.protocol):
                yield name, f"{address} . {number}", ""


def _batched(verb: str, family: Family, elements: Iterable[Element]) -> list[str]:
    """One command for all elements of a set or map."""
    by_container: dict[str, list[str]] = {}
    for container, key, verdict in elements:
        text = f"{key} : {verdict}" if verdict and verb == "add" else key
        by_container.setdefault(container, []).append(text)
    return [f"{verb} element {family} {TABLE} {name} {{ {', '.join(keys)} }}" for name, keys in by_container.items()]

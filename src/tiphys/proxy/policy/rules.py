"""The rules of one policy as nftables text (pure), and which pods belong into the sets that they name.

A policy has a chain for each direction that it isolates; it accepts what the policy allows. Peers that are selected by
labels are sets of addresses, shared by all rules with the same selectors; a pod's change changes elements of sets and
no rule. Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api.object import Object
from tiphys.controlkit.selectors import label_selector
from tiphys.proxy.policy.names import DIRECTIONS, Direction
from tiphys.proxy.state import Family

Matcher = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Peers:
    """Pods by labels: ``namespace`` is the only one, unless ``namespaces`` selects some by their labels.

    ``port`` and ``protocol`` narrow the set to pods that have a container port of that name: it then holds addresses
    with port numbers.
    """

    pods: Matcher
    namespace: str = ""
    namespaces: Matcher | None = None
    port: str = ""
    protocol: str = ""


@dataclass(slots=True)
class PolicyRules:
    """What one policy puts into the table. ``peers`` are its sets, by name."""

    namespace: str
    selector: Matcher
    own: Object = field(default_factory=dict)
    """The selector as it was written."""
    chains: dict[Direction, str] = field(default_factory=dict)
    """The name of the chain of each direction that the policy isolates."""
    rules: dict[Direction, tuple[str, ...]] = field(default_factory=dict)
    peers: dict[str, Peers] = field(default_factory=dict)


def policy_rules(policy: Object, family: Family) -> PolicyRules:
    """Raises ``ValueError`` for a policy that cannot be read."""
    spec, meta = policy.get("spec") or {}, policy["metadata"]
    own = spec.get("podSelector") or {}
    made = PolicyRules(meta["namespace"], label_selector(own), own)
    for direction in _directions(spec):
        made.chains[direction] = f"{direction}-{_digest([meta['namespace'], meta['name']])}"
        writer = _Writer(made, own, direction, family)
        given = spec.get(direction) or ()
        made.rules[direction] = tuple(line for rule in given for line in writer.lines(rule))
    return made


def _directions(spec: Object) -> list[Direction]:
    types = spec.get("policyTypes")
    if types is None:
        types = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return [direction for direction in DIRECTIONS if direction.capitalize() in types]


class _Writer:
    """Writes the lines of one direction's rules: each peer with each port."""

    def __init__(self, made: PolicyRules, own: Object, direction: Direction, family: Family) -> None:
        self._made, self._own, self._direction, self._family = made, own, direction, family
        self._side = "saddr" if direction == "ingress" else "daddr"

    def lines(self, rule: Object) -> Iterator[str]:
        peers = rule.get("from" if self._direction == "ingress" else "to") or [None]
        for peer in peers:
            for port in rule.get("ports") or [None]:
                for matches in self._port(port, peer):
                    yield " ".join([*matches, "accept"])

    def _port(self, port: Object | None, peer: Object | None) -> Iterator[list[str]]:
        """The matches of one peer and one port; nothing for a peer of the other family."""
        if port is None:
            if (match := self._peer(peer)) is not None:
                yield match
            return
        protocol, number = str(port.get("protocol") or "TCP").lower(), port.get("port")
        if isinstance(number, str):
            yield from self._named(number, protocol, peer)
        elif (match := self._peer(peer)) is not None:
            if number is None:
                yield [*match, f"meta l4proto {protocol}"]
            else:
                last = port.get("endPort")
                yield [*match, f"{protocol} dport {number}" + (f"-{last}" if last is not None else "")]

    def _named(self, name: str, protocol: str, peer: Object | None) -> Iterator[list[str]]:
        """A named port is the destination's: of the selected pod for ingress, of the peer for egress."""
        if self._direction == "ingress":
            match, there = self._peer(peer), {"podSelector": self._own}
        elif peer is None or peer.get("ipBlock"):
            match, there = self._peer(peer), {"namespaceSelector": {}}
        else:
            match, there = [], peer
        if match is not None:
            known = self._set(there, name, protocol)
            yield [*match, f"meta l4proto {protocol}", f"{self._family} daddr . th dport @{known}"]

    def _peer(self, peer: Object | None) -> list[str] | None:
        """The matches of a peer: none for everybody; None for a block of the other family."""
        if peer is None:
            return []
        if block := peer.get("ipBlock"):
            return self._block(block)
        return [f"{self._family} {self._side} @{self._set(peer)}"]

    def _block(self, block: Object) -> list[str] | None:
        network = ipaddress.ip_network(block["cidr"], strict=False)
        if (network.version == 6) != (self._family == "ip6"):
            return None
        side = f"{self._family} {self._side}"
        match = [f"{side} {network}"] if network.prefixlen else []
        if excepted := _merged(block.get("except") or ()):
            match.append(f"{side} != {{ {', '.join(excepted)} }}")
        return match

    def _set(self, peer: Object, port: str = "", protocol: str = "") -> str:
        """The name of the set of a peer's pods, which is noted among those that the policy needs."""
        chosen, spaces = peer.get("podSelector") or {}, peer.get("namespaceSelector")
        namespace = self._made.namespace if spaces is None else ""
        name = f"{'ports' if port else 'pods'}-{_digest([chosen, namespace, spaces, port, protocol])}"
        within = None if spaces is None else label_selector(spaces)
        self._made.peers[name] = Peers(label_selector(chosen), namespace, within, port, protocol)
        return name


def _merged(ranges: Iterable[str]) -> list[str]:
    """The ranges without overlaps, which an anonymous set refuses."""
    networks = [ipaddress.ip_network(text, strict=False) for text in ranges]
    v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    return [str(n) for n in (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))]


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]

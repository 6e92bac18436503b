"""Processors spread evenly over NUMA nodes, where more than one node is needed. Pure.

The fewest nodes that can share a request evenly do; what cannot be split evenly goes where it leaves the machine most
balanced. If no set of nodes can, processors are packed. Source: KEP-2902
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tiphys.kubelet.topology.cpu_choice import choose, nodes_by_room
from tiphys.kubelet.topology.cpusets import NONE, Cpus, CpuTopology

Room = dict[int, int]
"""Processors that are left, by node."""


def distribute(topology: CpuTopology, available: Cpus, wanted: int, group: int, *, spread: bool = False) -> Cpus:
    """``wanted`` of the available processors, in groups of ``group`` of one node. Raises ``NotEnoughCpus``."""
    if wanted <= 0 or len(available) < wanted or wanted % group:
        return choose(topology, available, wanted, spread=spread)
    room = {node: len(topology.in_nodes((node,), available)) for node in nodes_by_room(topology, available)}
    request = _Request(wanted, group)
    for size in _sizes(topology, room, request):
        if (plan := _best(room, size, request)) is not None:
            return _taken(topology, available, plan, request, spread=spread)
    return choose(topology, available, wanted, spread=spread)


@dataclass(frozen=True, slots=True)
class _Request:
    wanted: int
    group: int

    def share(self, nodes: int) -> int:
        """How many each of so many nodes gives, in whole groups."""
        return self.wanted // nodes // self.group * self.group


@dataclass(frozen=True, slots=True)
class _Plan:
    """``nodes`` give the same number each, ``rest`` a group more, in turn."""

    nodes: Sequence[int]
    rest: Sequence[int]
    balance: float


def _sizes(topology: CpuTopology, room: Room, request: _Request) -> range:
    """With how many nodes it may work."""
    groups = -(-len(topology.all) // request.group)
    per_node = -(-groups // len(topology.nodes))
    needed = -(-request.wanted // request.group)
    return range(-(-needed // per_node), min(needed, len(room)) + 1)


def _best(room: Room, size: int, request: _Request) -> _Plan | None:
    best: _Plan | None = None
    for nodes in combinations(room, size):
        if best is not None and best.balance == 0:
            break
        plan = _planned(room, nodes, request)
        if plan is not None and (best is None or plan.balance < best.balance):
            best = plan
    return best


def _planned(room: Room, nodes: Sequence[int], request: _Request) -> _Plan | None:
    """The most balanced way in which these nodes can share the request."""
    share = request.share(len(nodes))
    whole = sum(room[node] // request.group for node in nodes) * request.group
    if whole < request.wanted or any(room[node] < share for node in nodes):
        return None
    after = {**room, **{node: room[node] - share for node in nodes}}
    rest = request.wanted - share * len(nodes)
    if not rest:
        return _Plan(nodes, (), _deviation(after.values()))
    best: _Plan | None = None
    for givers in _subsets([node for node in nodes if after[node] >= request.group]):
        if sum(after[node] // request.group for node in givers) * request.group < rest:
            continue
        balance = _deviation(_without_rest(after, givers, rest, request.group).values())
        if best is None or balance < best.balance:
            best = _Plan(nodes, givers, balance)
    return best


def _subsets(nodes: Sequence[int]) -> Iterator[Sequence[int]]:
    """The larger first: what is left over is spread, too."""
    for size in range(len(nodes), 0, -1):
        yield from combinations(nodes, size)


def _without_rest(after: Mapping[int, int], givers: Sequence[int], rest: int, group: int) -> Room:
    left = dict(after)
    while rest:
        for node in givers:
            if rest and left[node] >= group:
                left[node] -= group
                rest -= group
    return left


def _deviation(left: Collection[int]) -> float:
    """The standard deviation, in thousandths, as upstream counts it: sets that differ less are equally good."""
    mean = round(sum(left) / len(left), 3)
    return round(math.sqrt(sum((one - mean) ** 2 for one in left) / len(left)), 3)


def _taken(topology: CpuTopology, available: Cpus, plan: _Plan, request: _Request, *, spread: bool) -> Cpus:
    taken: Cpus = NONE

    def take(node: int, number: int) -> None:
        nonlocal taken
        taken |= choose(topology, topology.in_nodes((node,), available - taken), number, spread=spread)

    for node in plan.nodes:
        take(node, request.share(len(plan.nodes)))
    while len(taken) < request.wanted:
        for node in plan.rest:
            if len(taken) < request.wanted and len(topology.in_nodes((node,), available - taken)) >= request.group:
                take(node, request.group)
    return taken

"""Where what a container needs can be together: hints of NUMA nodes, and how policies agree on one. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

Nodes = frozenset[int]

MAX_NODES = 8
"""With more, the sets of nodes are too many to look at."""


class TopologyPolicy(Enum):
    NONE = "none"
    BEST_EFFORT = "best-effort"
    RESTRICTED = "restricted"
    SINGLE_NUMA_NODE = "single-numa-node"


@dataclass(frozen=True, slots=True)
class Hint:
    """``nodes``: where a resource can be had; None if it does not matter."""

    nodes: Nodes | None
    preferred: bool


class TopologyScope(Enum):
    CONTAINER = "container"
    POD = "pod"


Hints = Mapping[str, Sequence[Hint] | None]
"""By resource. None: no preference; empty: it cannot be had at all."""


def masks(nodes: Sequence[int]) -> Iterator[Nodes]:
    """All sets of nodes, the smaller ones first."""
    for size in range(1, len(nodes) + 1):
        yield from map(frozenset, itertools.combinations(nodes, size))


def made_of(
    nodes: Sequence[int],
    capacity: Callable[[Nodes], int],
    free: Callable[[Nodes], int],
    wanted: int,
    also: Callable[[Nodes, int], bool] = lambda nodes, least: False,
) -> list[Hint]:
    """A hint for each set of nodes that has room. Those with as few nodes as the resource ever needs are preferred.

    ``capacity`` counts what a set of nodes has, ``free`` what it has now; less than nothing if it will not do. ``also``
    says of a set, and the least number of nodes, whether it is preferred besides.
    """
    least = min((len(mask) for mask in masks(nodes) if capacity(mask) >= wanted), default=len(nodes))
    return [Hint(mask, len(mask) == least or also(mask, least)) for mask in masks(nodes) if free(mask) >= wanted]


Distances = Mapping[int, Sequence[int]]
"""From each node to each node from 0 on."""


def merge(
    policy: TopologyPolicy, nodes: Sequence[int], providers: Iterable[Hints], distances: Distances | None = None
) -> tuple[Hint, bool]:
    """The best hint for a container or a pod, and whether the policy lets it run so.

    With ``distances``, of equally many nodes those are better that are closer to each other.
    """
    if policy is TopologyPolicy.NONE:
        return Hint(None, preferred=True), True
    groups = [group for hints in providers for group in _groups(hints)]
    single = policy is TopologyPolicy.SINGLE_NUMA_NODE
    if single:
        groups = [[h for h in group if (h.nodes is None and h.preferred) or _is_single(h)] for group in groups]
    everywhere = frozenset(nodes)
    best = _best(groups, everywhere, None if single else distances)
    if single and best.nodes == everywhere:
        best = Hint(None, best.preferred)
    return best, policy is TopologyPolicy.BEST_EFFORT or best.preferred


def _is_single(hint: Hint) -> bool:
    return hint.nodes is not None and len(hint.nodes) == 1 and hint.preferred


def _groups(hints: Hints) -> Iterator[Sequence[Hint]]:
    if not hints:
        yield (Hint(None, preferred=True),)
    for of_resource in hints.values():
        if of_resource is None:
            yield (Hint(None, preferred=True),)
        else:
            yield of_resource or (Hint(None, preferred=False),)


def _best(groups: Sequence[Sequence[Hint]], everywhere: Nodes, distances: Distances | None) -> Hint:
    narrowest = [min((len(h.nodes) for h in group if h.nodes is not None), default=0) for group in groups]
    goal = max(narrowest, default=0)
    best: Hint | None = None
    for permutation in itertools.product(*groups):
        candidate = _merged(permutation, everywhere)
        if candidate.nodes and (best is None or _is_better(candidate, best, goal, distances)):
            best = candidate
    return best or Hint(everywhere, preferred=False)


def _merged(permutation: Sequence[Hint], everywhere: Nodes) -> Hint:
    """What all of them allow; preferred if each is, and all mean the same nodes."""
    named = [hint.nodes for hint in permutation if hint.nodes is not None]
    alike = all(nodes == named[0] for nodes in named)
    return Hint(everywhere.intersection(*named), alike and all(hint.preferred for hint in permutation))


def _is_better(candidate: Hint, best: Hint, goal: int, distances: Distances | None) -> bool:
    """Preferred ones are; among those the narrower. Of others the one that comes nearest to ``goal`` from below."""
    assert candidate.nodes is not None
    assert best.nodes is not None
    if candidate.preferred != best.preferred:
        return candidate.preferred
    new, old = len(candidate.nodes), len(best.nodes)
    if candidate.preferred or old > goal:
        return _is_fitter(candidate.nodes, best.nodes, distances)
    if old == goal or new == old:
        return new == old and _is_fitter(candidate.nodes, best.nodes, distances)
    return new <= goal and new > old


def _is_fitter(nodes: Nodes, than: Nodes, distances: Distances | None) -> bool:
    """Fewer nodes; as many that are closer to each other; or as many with lower numbers."""
    if len(nodes) != len(than):
        return len(nodes) < len(than)
    if distances is not None and (new := _apart(nodes, distances)) != (old := _apart(than, distances)):
        return new < old
    return sum(1 << node for node in nodes) < sum(1 << node for node in than)


def _apart(nodes: Nodes, distances: Distances) -> float:
    """How far the nodes are from each other on average, themselves included."""
    return sum(distances[one][other] for one in nodes for other in nodes) / len(nodes) ** 2

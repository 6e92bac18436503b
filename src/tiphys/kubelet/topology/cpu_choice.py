"""Which processors a container gets for itself: whole nodes, sockets and cores before single ones. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/#static-policy
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.kubelet.topology.cpusets import NONE, Cpus, CpuTopology


class NotEnoughCpus(Exception):
    """There are fewer processors than are wanted."""


def choose(
    topology: CpuTopology, available: Cpus, wanted: int, *, spread: bool = False, by_cache: bool = False
) -> Cpus:
    """``wanted`` of the available processors, ``spread`` over cores instead of packed, ``by_cache``: of few caches.

    Raises ``NotEnoughCpus``.
    """
    if wanted <= 0:
        return NONE
    if len(available) < wanted:
        message = "not enough cpus available to satisfy request"
        raise NotEnoughCpus(f"{message}: requested={wanted}, available={len(available)}")
    return _Choice(topology, available, wanted).made(spread=spread, by_cache=by_cache)


def nodes_by_room(topology: CpuTopology, available: Cpus) -> list[int]:
    """The nodes that have some of the available processors, in the order in which they are to be used."""
    return _Choice(topology, available, 0).sorted_nodes()


class _Choice:
    """Takes one group of processors after another out of those that are left."""

    def __init__(self, topology: CpuTopology, available: Cpus, wanted: int) -> None:
        self._places = topology.places
        self._topology = topology
        self._left = set(available)
        self._wanted = wanted
        self._taken: set[int] = set()
        self._nodes_within_sockets = len(topology.sockets) < len(topology.nodes)

    def made(self, *, spread: bool, by_cache: bool) -> Cpus:
        levels = [self._take_nodes, self._take_sockets]
        if self._nodes_within_sockets:
            levels.reverse()
        caches = (self._take_caches,) if by_cache else ()
        for take in (*levels, *caches, *(() if spread else (self._take_cores,))):
            take()
            if self._wanted == 0:
                return frozenset(self._taken)
        for cpu in self._singles(spread=spread):
            self._take({cpu})
            if self._wanted == 0:
                break
        return frozenset(self._taken)

    # Groups that are wholly free.

    def _take_nodes(self) -> None:
        for node in self.sorted_nodes():
            whole = self._topology.in_nodes((node,))
            self._take_whole(whole, len(whole))

    def _take_sockets(self) -> None:
        for socket in self._sorted_sockets():
            self._take_whole(self._of(self._socket, socket), self._topology.per_socket)

    def _take_caches(self) -> None:
        """Whole caches as long as as much is wanted, then cores of one that has enough left."""
        for cache in self._nested(self.sorted_nodes(), self._node, self._cache):
            if self._wanted >= self._topology.per_cache:
                for other in self._nested(self.sorted_nodes(), self._node, self._cache):
                    whole = self._of(self._cache, other)
                    self._take_whole(whole, len(whole))
            if self._wanted:
                self._take_part(cache)
            if not self._wanted:
                return

    def _take_part(self, cache: int) -> None:
        """The rest from the first cores of a cache, if they have just that much."""
        per_core = self._topology.per_core
        cores = sorted({self._core(cpu) for cpu in self._left if self._cache(cpu) == cache})
        chosen = set(cores[: -(-self._wanted // per_core)])
        cpus = sorted(cpu for cpu in self._left if self._core(cpu) in chosen)
        if self._wanted % 2 and per_core > 1 and len(cpus) > self._wanted:
            cpus.pop()
        if len(cpus) == self._wanted:
            self._take(set(cpus))

    def _take_cores(self) -> None:
        for core in self._sorted_cores():
            self._take_whole(self._of(self._core, core), self._topology.per_core)

    def _of(self, key: Callable[[int], int], group: int) -> set[int]:
        return {cpu for cpu in self._places if key(cpu) == group}

    def _take_whole(self, group: Iterable[int], size: int) -> None:
        members = set(group)
        if len(members & self._left) == size and self._wanted >= len(members):
            self._take(members)

    def _take(self, cpus: set[int]) -> None:
        self._taken |= cpus
        self._left -= cpus
        self._wanted -= len(cpus)

    # In the order in which they are to be used: those with the least left, so that whole ones stay whole.

    def _by_room(self, key: Callable[[int], int], cpus: Iterable[int]) -> list[int]:
        room: dict[int, int] = {}
        for cpu in cpus:
            room[key(cpu)] = room.get(key(cpu), 0) + 1
        return sorted(room, key=lambda group: (room[group], group))

    def _node(self, cpu: int) -> int:
        return self._places[cpu].node

    def _socket(self, cpu: int) -> int:
        return self._places[cpu].socket

    def _cache(self, cpu: int) -> int:
        return self._places[cpu].cache

    def _core(self, cpu: int) -> int:
        return self._places[cpu].core

    def _nested(self, outer: list[int], key: Callable[[int], int], inner: Callable[[int], int]) -> list[int]:
        """The inner groups of each outer group in turn, each once."""
        groups: dict[int, None] = {}
        left = sorted(self._left)
        totals = self._by_room(inner, left)
        for one in outer:
            within = {inner(cpu) for cpu in left if key(cpu) == one}
            groups |= dict.fromkeys(group for group in totals if group in within)
        return list(groups)

    def sorted_nodes(self) -> list[int]:
        if self._nodes_within_sockets:
            return self._nested(self._sorted_sockets(), self._socket, self._node)
        return self._by_room(self._node, self._left)

    def _sorted_sockets(self) -> list[int]:
        if self._nodes_within_sockets:
            return self._by_room(self._socket, self._left)
        return self._nested(self.sorted_nodes(), self._node, self._socket)

    def _sorted_cores(self) -> list[int]:
        if self._nodes_within_sockets:
            return self._nested(self.sorted_nodes(), self._node, self._core)
        return self._nested(self._sorted_sockets(), self._socket, self._core)

    def _singles(self, *, spread: bool) -> list[int]:
        """Single processors: of cores that are in use already first, or else one after another within a socket."""
        groups, key = (self._sorted_sockets(), self._socket) if spread else (self._sorted_cores(), self._core)
        return [cpu for group in groups for cpu in sorted(cpu for cpu in self._left if key(cpu) == group)]

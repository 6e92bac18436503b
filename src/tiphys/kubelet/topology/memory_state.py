"""How much memory of each NUMA node is given to containers, and on which nodes more can be had. Pure.

A node is used alone or in one group of nodes: never in two. Source:
https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/ (KEP-1769)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.kubelet.topology.hints import Hint, Nodes, masks
from tiphys.kubelet.topology.numa import Numa

MEMORY = "memory"

Request = Mapping[str, int]
"""Bytes by resource: ``memory`` and huge pages."""


class NoMemory(Exception):
    """It cannot be had; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Block:
    """``nodes`` in ascending order."""

    nodes: tuple[int, ...]
    type: str
    size: int


@dataclass(slots=True)
class Table:
    """Bytes of one resource on one node: ``allocatable`` is what is neither the system's nor in huge pages, and is
    divided into what is given to containers (``reserved``) and what is ``free``."""

    total: int
    system_reserved: int
    allocatable: int
    reserved: int = 0
    free: int = 0


@dataclass(slots=True)
class NodeMemoryState:
    """``assignments`` counts the blocks that use the node; ``cells`` are the nodes that it is used with."""

    memory: dict[str, Table]
    cells: tuple[int, ...]
    assignments: int = 0


@dataclass(slots=True)
class MemoryState:
    nodes: dict[int, NodeMemoryState] = field(default_factory=dict)

    def give(self, blocks: Iterable[Block], reused: Mapping[str, int] | None = None) -> None:
        """Take the blocks out of what is free; ``reused`` bytes of each resource are the pod's already."""
        for block in blocks:
            left = max(0, block.size - (reused or {}).get(block.type, 0))
            for number in block.nodes:
                node = self.nodes[number]
                node.assignments += 1
                node.cells = block.nodes
                table = node.memory[block.type]
                part = min(left, max(0, table.free))
                table.reserved += part
                table.free -= part
                left -= part

    def take_back(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            left = block.size
            for number in block.nodes:
                node = self.nodes[number]
                node.assignments -= 1
                if node.assignments == 0:
                    node.cells = (number,)
                table = node.memory[block.type]
                part = min(left, table.reserved)
                table.reserved -= part
                table.free += part
                left -= part

    def free(self, nodes: Iterable[int], resource: str) -> int:
        return sum(node.memory[resource].free for node in self._having(nodes, resource))

    def allocatable(self, nodes: Iterable[int], resource: str) -> int:
        return sum(node.memory[resource].allocatable for node in self._having(nodes, resource))

    def _having(self, nodes: Iterable[int], resource: str) -> list[NodeMemoryState]:
        return [self.nodes[number] for number in nodes if resource in self.nodes[number].memory]

    def has(self, nodes: Iterable[int], wanted: Request) -> bool:
        kept = tuple(nodes)
        return all(self.free(kept, resource) >= size for resource, size in wanted.items())

    def hints(self, wanted: Request, reusable: Mapping[Nodes, Request]) -> list[Hint]:
        """The sets of nodes that have everything together; those of the fewest nodes that could ever are preferred."""
        least = len(self.nodes)
        usable = []
        for mask in masks(sorted(self.nodes)):
            if any(self.allocatable(mask, resource) < size for resource, size in wanted.items()):
                continue
            least = min(least, len(mask))
            own = reusable.get(mask, {})
            if self._can_be_used_together(mask) and all(
                self.free(mask, resource) + own.get(resource, 0) >= size for resource, size in wanted.items()
            ):
                usable.append(mask)
        return [Hint(mask, len(mask) == least) for mask in usable]

    def _can_be_used_together(self, mask: Nodes) -> bool:
        if len(mask) == 1:
            return len(self.nodes[min(mask)].cells) <= 1
        return not self.violates(mask)

    def violates(self, mask: Nodes) -> bool:
        """Whether one of several nodes is used alone, or with others."""
        return len(mask) > 1 and any(
            self.nodes[number].assignments
            and (len(self.nodes[number].cells) == 1 or set(self.nodes[number].cells) != mask)
            for number in mask
        )

    def chosen(self, wanted: Request, affinity: Hint, reusable: Mapping[Nodes, Request]) -> Nodes:
        """Where a container gets what it asks for, given what the topology manager wants. Raises ``NoMemory``."""
        preferred, nodes = affinity.preferred, affinity.nodes
        if nodes is None:
            hints = self.hints(wanted, reusable)
            if not hints:
                message = "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
                raise NoMemory(message)
            best = best_of(hints)
            if preferred and not best.preferred:
                raise NoMemory("failed to find the default preferred hint")
            nodes, preferred = best.nodes, best.preferred
        assert nodes is not None
        if not self.has(nodes, wanted):
            wider = [hint for hint in self.hints(wanted, reusable) if hint.nodes is not None and nodes <= hint.nodes]
            if not wider:
                raise NoMemory("failed to find NUMA nodes to extend the current topology hint")
            best = best_of(wider)
            if preferred and not best.preferred:
                raise NoMemory("failed to find the extended preferred hint")
            assert best.nodes is not None
            nodes = best.nodes
        if self.violates(nodes):
            raise NoMemory("preferred hint violates NUMA node allocation")
        return nodes


def best_of(hints: Sequence[Hint]) -> Hint:
    """A preferred one before others, of these the one with the fewest nodes, of these the one of the lowest."""
    return min(hints, key=lambda h: (not h.preferred, len(h.nodes or ()), sum(1 << number for number in h.nodes or ())))


def initial(numa: Numa, system: Mapping[int, Request]) -> MemoryState:
    """Nothing is given yet. ``system`` is what each node keeps for the system."""
    nodes = {}
    for number, has in numa.nodes.items():
        kept = system.get(number, {})
        tables = {}
        for resource, size in has.huge_pages.items():
            reserved = kept.get(resource, 0)
            tables[resource] = Table(size, reserved, size - reserved, 0, size - reserved)
        reserved = kept.get(MEMORY, 0)
        plain = has.memory - reserved - sum(has.huge_pages.values())
        tables[MEMORY] = Table(has.memory, reserved, plain, 0, plain)
        nodes[number] = NodeMemoryState(tables, (number,))
    return MemoryState(nodes)


def same(state: MemoryState, expected: MemoryState) -> bool:
    """Whether a recorded state is that of this machine with these containers: how much of a group's memory lies on
    which of its nodes depends on the order in which containers came, and does not count."""
    if state.nodes.keys() != expected.nodes.keys():
        return False
    for number, node in state.nodes.items():
        other = expected.nodes[number]
        if node.assignments != other.assignments or set(node.cells) != set(other.cells):
            return False
        if node.memory.keys() != other.memory.keys() or not set(node.cells) <= state.nodes.keys():
            return False
        for resource, table in node.memory.items():
            theirs = other.memory[resource]
            if (table.total, table.system_reserved, table.allocatable) != (
                theirs.total,
                theirs.system_reserved,
                theirs.allocatable,
            ):
                return False
            if _of_group(state, node.cells, resource) != _of_group(expected, node.cells, resource):
                return False
    return True


def _of_group(state: MemoryState, cells: Iterable[int], resource: str) -> tuple[int, int]:
    tables = [state.nodes[number].memory[resource] for number in cells if resource in state.nodes[number].memory]
    return sum(table.free for table in tables), sum(table.reserved for table in tables)

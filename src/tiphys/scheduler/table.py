"""``NodeTable``: all nodes as columns of 64-bit integers, one row per node, kept up to date change by change.

The columns are plain ``array``s, which Python indexes directly and NumPy can look at without copying: a small cluster
never imports NumPy, a large one filters and scores a thousand nodes in microseconds. A row keeps its number for as long
as its node exists; a gone node's row is marked dead and given out again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.resources import CPU, EPHEMERAL, MEMORY, PODS

if TYPE_CHECKING:
    import numpy as np

VECTOR_THRESHOLD = 48
"""From how many nodes on NumPy is worth its import (25 MB, 0.1 s)."""


class Column:
    """One integer per row. ``data`` may be longer than the table, and is replaced when that grows."""

    __slots__ = ("data", "default")

    def __init__(self, capacity: int, default: int = 0) -> None:
        self.default = default
        self.data = array("q", [default]) * capacity

    def grow(self, capacity: int) -> None:
        # A new array, as NumPy may still look at the old one.
        self.data = self.data + array("q", [self.default]) * (capacity - len(self.data))


class Topology:
    """The values of one node label, numbered; ``ids`` has each row's number, -1 if the node has no such label."""

    __slots__ = ("ids", "key", "values")

    def __init__(self, key: str, capacity: int) -> None:
        self.key = key
        self.values: dict[str, int] = {}
        self.ids = Column(capacity, -1)

    def set(self, row: int, node: NodeInfo | None) -> None:
        value = node.labels.get(self.key) if node is not None else None
        self.ids.data[row] = -1 if value is None else self.values.setdefault(value, len(self.values))


class NodeTable:
    def __init__(self) -> None:
        self.rows: list[NodeInfo | None] = []
        self.labels_version = 0
        """Changes whenever a node comes, goes, or changes its labels or taints; what depends on those can be kept
        until then."""
        self.images_version = 0
        self._by_name: dict[str, NodeInfo] = {}
        self._free: list[int] = []
        self._capacity = 16
        self._columns: list[Column] = []
        self._topologies: dict[str, Topology] = {}
        self._taint_classes: dict[tuple[Any, ...], int] = {}
        self.alive = self.column()
        self.unschedulable = self.column()
        self.taint_class = self.column()
        """Number of the node's set of taints; nodes with equal taints share it."""
        self.pods = self.column()
        self.scored_cpu = self.column()
        self.scored_memory = self.column()
        self.allocatable = {name: self.column() for name in (CPU, MEMORY, EPHEMERAL, PODS)}
        self.requested = {name: self.column() for name in (CPU, MEMORY, EPHEMERAL)}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[NodeInfo]:
        return iter(self._by_name.values())

    def get(self, name: str) -> NodeInfo | None:
        return self._by_name.get(name)

    def node(self, row: int) -> NodeInfo:
        """The node of a row that is alive."""
        info = self.rows[row]
        assert info is not None
        return info

    @property
    def vectorized(self) -> bool:
        return len(self._by_name) >= VECTOR_THRESHOLD

    # -- rows ---------------------------------------------------------------------------------------------------------

    def add(self, node: NodeInfo) -> None:
        if self._free:
            node.row = self._free.pop()
            self.rows[node.row] = node
        else:
            node.row = len(self.rows)
            self.rows.append(node)
            if node.row >= self._capacity:
                self._grow()
        self._by_name[node.name] = node
        self.alive.data[node.row] = 1
        self.node_changed(node)
        self.pods_changed(node)

    def remove(self, node: NodeInfo) -> None:
        row = node.row
        del self._by_name[node.name]
        self.rows[row] = None
        for column in self._columns:
            column.data[row] = column.default
        for topology in self._topologies.values():
            topology.set(row, None)
        self._free.append(row)
        self.labels_version += 1
        self.images_version += 1

    def node_changed(self, node: NodeInfo) -> None:
        """Take over what the Node object says."""
        row = node.row
        self.unschedulable.data[row] = node.unschedulable
        self.taint_class.data[row] = self._taint_classes.setdefault(node.taints, len(self._taint_classes))
        for name in node.allocatable.keys() - self.allocatable.keys():
            self._new_resource(name)
        for name, column in self.allocatable.items():
            column.data[row] = node.allocatable.get(name, 0)
        for topology in self._topologies.values():
            topology.set(row, node)
        self.labels_version += 1
        self.images_version += 1

    def pods_changed(self, node: NodeInfo) -> None:
        """Take over the sums of the node's pods."""
        row, requested = node.row, node.requested
        self.pods.data[row] = len(node.pods)
        self.scored_cpu.data[row] = node.scored_cpu
        self.scored_memory.data[row] = node.scored_memory
        for name, column in self.requested.items():
            column.data[row] = requested.get(name, 0)

    def _new_resource(self, name: str) -> None:
        self.allocatable[name] = self.column()
        self.requested[name] = self.column()
        for other in self:
            self.allocatable[name].data[other.row] = other.allocatable.get(name, 0)
            self.requested[name].data[other.row] = other.requested.get(name, 0)

    # -- columns ------------------------------------------------------------------------------------------------------

    def column(self) -> Column:
        """A new column of zeros that grows with the table; a gone node's entry becomes zero."""
        column = Column(self._capacity)
        self._columns.append(column)
        return column

    def drop(self, column: Column) -> None:
        self._columns.remove(column)

    def view(self, column: Column) -> np.ndarray[Any, Any]:
        """The column as NumPy sees it, without copying; good until the next change of the table."""
        import numpy as np

        return np.frombuffer(column.data, dtype=np.int64, count=len(self.rows))

    def topology(self, key: str) -> Topology:
        """The values of a node label; made on first use and kept up to date from then on."""
        topology = self._topologies.get(key)
        if topology is None or len(topology.values) > 4 * len(self) + 1000:
            topology = self._topologies[key] = Topology(key, self._capacity)
            for node in self:
                topology.set(node.row, node)
        return topology

    def taint_sets(self) -> list[tuple[Any, ...]]:
        """The sets of taints by their number."""
        return list(self._taint_classes)

    def _grow(self) -> None:
        self._capacity *= 2
        for column in self._columns:
            column.grow(self._capacity)
        for topology in self._topologies.values():
            topology.ids.grow(self._capacity)

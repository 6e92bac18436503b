"""Sums per topology domain: how many of something are in each zone, on each host, …

Both forms give a sequence that is indexed by the domain's number: a list, or from ``VECTOR_THRESHOLD`` nodes on a NumPy
array. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.table import Column, NodeTable, Topology

if TYPE_CHECKING:
    import numpy as np

Sums = Any
"""list[int], or an array of int64."""


def sums(table: NodeTable, topology: Topology, column: Column) -> Sums:
    """The column summed up over each domain."""
    if table.vectorized:
        return sums_all(table, topology, column, None)[0]
    totals, ids, data = [0] * len(topology.values), topology.ids.data, column.data
    for node in table:
        domain = ids[node.row]
        if domain >= 0:
            totals[domain] += data[node.row]
    return totals


def eligible_sums(
    table: NodeTable, topology: Topology, column: Column, eligible: Callable[[NodeInfo], bool]
) -> tuple[Sums, Sums]:
    """The column summed up over each domain's eligible nodes, and how many of those it has; node by node."""
    totals, present = [0] * len(topology.values), [0] * len(topology.values)
    ids, data = topology.ids.data, column.data
    for node in table:
        domain = ids[node.row]
        if domain >= 0 and eligible(node):
            totals[domain] += data[node.row]
            present[domain] += 1
    return totals, present


def sums_all(
    table: NodeTable, topology: Topology, column: Column, eligible: np.ndarray[Any, Any] | None
) -> tuple[Sums, Sums]:
    """The same by NumPy; ``eligible`` is a mask of rows, None for all that have the label."""
    import numpy as np

    ids = table.view(topology.ids)
    mask = ids >= 0 if eligible is None else eligible & (ids >= 0)
    chosen, size = ids[mask], len(topology.values)
    totals = np.bincount(chosen, weights=table.view(column)[mask], minlength=size).astype(np.int64)
    return totals, np.bincount(chosen, minlength=size)

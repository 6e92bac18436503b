"""The memory manager's checkpoint ``memory_manager_state``, in upstream's form with upstream's checksum. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt, spewed_list, spewed_map, spewed_struct
from tiphys.kubelet.topology.memory_state import Block, MemoryState, NodeMemoryState, Table

POLICY = "Static"

Assignments = dict[str, dict[str, list[Block]]]
"""By the pod's uid and container."""

_TABLE = {
    "total": "TotalMemSize",
    "systemReserved": "SystemReserved",
    "allocatable": "Allocatable",
    "reserved": "Reserved",
    "free": "Free",
}


def to_checkpoint(state: MemoryState, assigned: Assignments) -> dict[str, Any]:
    """The document to write."""
    machine = {str(number): _node(node) for number, node in sorted(state.nodes.items())}
    entries = {
        uid: {name: [_block(block) for block in blocks] for name, blocks in sorted(containers.items())}
        for uid, containers in sorted(assigned.items())
    }
    document: dict[str, Any] = {"policyName": POLICY, "machineState": machine}
    if entries:
        document["entries"] = entries
    return {**document, "checksum": checksum(POLICY, machine, entries)}


def _node(node: NodeMemoryState) -> dict[str, Any]:
    memory = {
        resource: {
            "total": table.total,
            "systemReserved": table.system_reserved,
            "allocatable": table.allocatable,
            "reserved": table.reserved,
            "free": table.free,
        }
        for resource, table in sorted(node.memory.items())
    }
    return {"numberOfAssignments": node.assignments, "memoryMap": memory, "cells": list(node.cells)}


def _block(block: Block) -> dict[str, Any]:
    return {"numaAffinity": list(block.nodes), "type": block.type, "size": block.size}


def checksum(
    policy: str, machine: Mapping[str, Any], entries: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> int:
    """As upstream counts it; all in the shapes of the document."""

    def table(given: Mapping[str, int]) -> str:
        return "<*>" + spewed_struct({name: f"(uint64){given[key]}" for key, name in _TABLE.items()})

    def node(given: Mapping[str, Any]) -> str:
        fields = {
            "NumberOfAssignments": f"(int){given['numberOfAssignments']}",
            "MemoryMap": "(map[v1.ResourceName]*state.MemoryTable)" + spewed_map(given["memoryMap"], table),
            "Cells": "([]int)" + spewed_list(given["cells"]),
        }
        return "<*>" + spewed_struct(fields)

    def block(given: Mapping[str, Any]) -> str:
        fields = {
            "NUMAAffinity": "([]int)" + spewed_list(given["numaAffinity"]),
            "Type": f"(v1.ResourceName){given['type']}",
            "Size": f"(uint64){given['size']}",
        }
        return spewed_struct(fields)

    def of_pod(containers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        return spewed_map(containers, lambda blocks: spewed_list(blocks, block))

    numbered = {int(number): given for number, given in machine.items()}
    return checkpoints.checksum(
        "(*state.MemoryManagerCheckpoint)"
        + spewed_struct(
            {
                "PolicyName": f"(string){policy}",
                "MachineState": "(state.NUMANodeMap)" + spewed_map(numbered, node),
                "Entries": "(state.ContainerMemoryAssignments)" + spewed_map(entries, of_pod),
                "Checksum": "(checksum.Checksum)0",
            }
        )
    )


def from_checkpoint(document: Any) -> tuple[MemoryState, Assignments]:
    """What is given to containers, and to which. Raises ``CheckpointCorrupt``."""
    try:
        policy, machine, entries = document["policyName"], document["machineState"], document.get("entries") or {}
        if document["checksum"] not in (0, checksum(policy, machine, entries)):
            raise CheckpointCorrupt("checkpoint is corrupted")
        if policy != POLICY:
            message = f'[memorymanager] configured policy "{POLICY}" differs from state checkpoint policy "{policy}"'
            raise CheckpointCorrupt(message)
        nodes = {
            int(number): NodeMemoryState(
                {
                    resource: Table(t["total"], t["systemReserved"], t["allocatable"], t["reserved"], t["free"])
                    for resource, t in given["memoryMap"].items()
                },
                tuple(given["cells"]),
                given["numberOfAssignments"],
            )
            for number, given in machine.items()
        }
        assigned = {
            uid: {
                name: [Block(tuple(block["numaAffinity"]), block["type"], block["size"]) for block in blocks]
                for name, blocks in containers.items()
            }
            for uid, containers in entries.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointCorrupt(f"the checkpoint has another form: {error!r}") from error
    return MemoryState(nodes), assigned

"""Who gives containers processors and memory of their own as the configuration wants it, over this machine's nodes.

Source: https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/,
https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/#policy-options and
https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/#reserved-memory-flag
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.node.thresholds import kept_free
from tiphys.kubelet.quantities import binary, milli, value
from tiphys.kubelet.topology import cpu_options
from tiphys.kubelet.topology.assigner import TopologyRules
from tiphys.kubelet.topology.cpu_choice import NotEnoughCpus, choose
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.cpusets import Cpus, CpuTopology, parse
from tiphys.kubelet.topology.hints import MAX_NODES, TopologyPolicy, TopologyScope
from tiphys.kubelet.topology.memory_manager import MemoryManager
from tiphys.kubelet.topology.memory_state import MEMORY
from tiphys.kubelet.topology.numa import Numa

CLOSEST, MOST_NODES = "prefer-closest-numa-nodes", "max-allowable-numa-nodes"


class CannotAssign(Exception):
    """The machine cannot do what the configuration wants; the message names the field."""


def topology_options(given: dict[str, str]) -> dict[str, str]:
    """Raises ``ValueError``."""
    options = {name: str(text).lower() for name, text in given.items()}
    for name, text in options.items():
        if name not in (CLOSEST, MOST_NODES):
            raise ValueError(f'unknown Topology Manager Policy option: "{name}"; there are {CLOSEST}, {MOST_NODES}')
        if name == CLOSEST and text not in ("true", "false"):
            raise ValueError(f"option {name}: {text!r} is neither true nor false")
        if name == MOST_NODES and not (text.isdecimal() and int(text) >= MAX_NODES):
            raise ValueError(f'the minimum value of "{name}" should not be less than {MAX_NODES}')
    return options


def topology_rules(config: KubeletConfig, nodes: Sequence[int], numa: Numa) -> TopologyRules:
    """Raises ``CannotAssign``."""
    policy, options = TopologyPolicy(config.topology_policy), config.topology_policy_options
    most = int(options.get(MOST_NODES, MAX_NODES))
    if policy is not TopologyPolicy.NONE and len(nodes) > most:
        message = f"topologyManagerPolicy {policy.value}: unsupported on machines with more than {most} NUMA Nodes"
        raise CannotAssign(f"{message}; set the option {MOST_NODES}")
    distances = numa.distances if options.get(CLOSEST) == "true" else None
    if distances is not None and not set(nodes) <= distances.keys():
        raise CannotAssign(f"topologyManagerPolicyOptions {CLOSEST}: the kernel does not say how far nodes are apart")
    return TopologyRules(policy, TopologyScope(config.topology_scope), nodes, distances)


def cpu_manager(config: KubeletConfig, topology: CpuTopology) -> CpuManager | None:
    """None if containers share all processors. Raises ``CannotAssign``, ``CpuStateUnfit``."""
    if config.cpu_policy != "static":
        if config.cpu_policy_options:
            given = ", ".join(config.cpu_policy_options)
            raise CannotAssign(f"cpuManagerPolicyOptions: none policy: received unsupported options {given}")
        return None
    try:
        options = cpu_options.read(config.cpu_policy_options, config.gates)
        cpu_options.check_machine(options, topology, TopologyPolicy(config.topology_policy))
    except ValueError as error:
        raise CannotAssign(f"cpuManagerPolicyOptions: {error}") from error
    return CpuManager(config.root, topology, _reserved_cpus(config, topology), options)


def _reserved_cpus(config: KubeletConfig, topology: CpuTopology) -> Cpus:
    if config.reserved_cpus:
        reserved = parse(config.reserved_cpus)
        if not reserved <= topology.all:
            raise CannotAssign(f"reservedSystemCPUs {config.reserved_cpus}: the machine has no such processors")
        return reserved
    wanted = -(-milli(config.reserved.get("cpu")) // 1000)
    if wanted == 0:
        fields = "reservedSystemCPUs, systemReserved.cpu or kubeReserved.cpu"
        raise CannotAssign(f"cpuManagerPolicy static: the system needs a processor of its own; set {fields}")
    try:
        return choose(topology, topology.all, wanted)
    except NotEnoughCpus as error:
        raise CannotAssign(
            f"cpuManagerPolicy static: unable to reserve the required amount of CPUs: {error}"
        ) from error


def memory_manager(config: KubeletConfig, numa: Numa, memory: int) -> MemoryManager | None:
    """None if containers have memory from anywhere; ``memory`` is the machine's, in bytes.

    Raises ``CannotAssign``, ``MemoryStateUnfit``.
    """
    if config.memory_policy != "Static":
        return None
    kept: dict[int, dict[str, int]] = {}
    for node, amounts in config.reserved_memory:
        if node not in numa.nodes:
            message = f"the reserved memory configuration references a NUMA node {node} that does not exist"
            raise CannotAssign(f"reservedMemory: {message} on this machine")
        for name, text in amounts.items():
            has = numa.nodes[node].memory if name == MEMORY else numa.nodes[node].huge_pages.get(name, 0)
            kept.setdefault(node, {})[name] = value(text)
            if value(text) > has:
                raise CannotAssign(f"reservedMemory: NUMA node {node} has no {text} of {name}, only {binary(has)}")
    wanted = {name: value(text) for name, text in config.reserved.items() if name == MEMORY or "hugepages-" in name}
    wanted[MEMORY] = wanted.get(MEMORY, 0) + kept_free(config.eviction_hard, "memory.available", memory)
    for name in sorted(wanted.keys() | {name for amounts in kept.values() for name in amounts}):
        reserved = sum(amounts.get(name, 0) for amounts in kept.values())
        if reserved != wanted.get(name, 0):
            raise CannotAssign(
                f'reservedMemory: the total amount "{binary(reserved)}" of type "{name}" is not equal to the value'
                f' "{binary(wanted.get(name, 0))}" determined by Node Allocatable feature (kubeReserved, systemReserved'
                " and evictionHard together)"
            )
    if not any(amounts.get(MEMORY) for amounts in kept.values()):
        raise CannotAssign(
            "memoryManagerPolicy Static: you should specify the system reserved memory; set reservedMemory"
        )
    return MemoryManager(config.root, numa, kept)

"""The CPU manager as the kubelet's configuration wants it, over this machine's processors.

Source: https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/#explicitly-reserved-cpu-list
"""

from __future__ import annotations

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.quantities import milli
from tiphys.kubelet.topology.cpu_choice import NotEnoughCpus, choose
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.cpusets import Cpus, CpuTopology, parse
from tiphys.kubelet.topology.hints import MAX_NODES, TopologyPolicy


class CannotAssign(Exception):
    """The machine cannot do what the configuration wants; the message names the field."""


def check_nodes(policy: TopologyPolicy, topology: CpuTopology) -> None:
    """Raises ``CannotAssign``."""
    if policy is not TopologyPolicy.NONE and len(topology.nodes) > MAX_NODES:
        message = f"topologyManagerPolicy {policy.value}: unsupported on machines with more than {MAX_NODES} NUMA Nodes"
        raise CannotAssign(message)


def cpu_manager(config: KubeletConfig, topology: CpuTopology) -> CpuManager | None:
    """None if containers share all processors. Raises ``CannotAssign``, ``CpuStateUnfit``."""
    if config.cpu_policy != "static":
        return None
    options = [name for name, text in config.cpu_policy_options.items() if text == "true"]
    return CpuManager(config.root, topology, _reserved(config, topology), options)


def _reserved(config: KubeletConfig, topology: CpuTopology) -> Cpus:
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

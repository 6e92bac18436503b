"""The options of the static policy of processors: which there are, what they need, and which exclude each other. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/#cpu-policy-static--options
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from tiphys.kubelet.topology.cpusets import CpuTopology
from tiphys.kubelet.topology.hints import TopologyPolicy
from tiphys.runtime.featuregates import is_enabled


class CpuOption(Enum):
    FULL_CORES = "full-pcpus-only"
    STRICT = "strict-cpu-reservation"
    ACROSS_CORES = "distribute-cpus-across-cores"
    ACROSS_NODES = "distribute-cpus-across-numa"
    BY_SOCKET = "align-by-socket"
    BY_CACHE = "prefer-align-cpus-by-uncorecache"


CpuOptions = frozenset[CpuOption]

_NAMES = {option.value: option for option in CpuOption}
_GATES = {
    CpuOption.ACROSS_CORES: ("Alpha", "CPUManagerPolicyAlphaOptions"),
    CpuOption.BY_SOCKET: ("Alpha", "CPUManagerPolicyAlphaOptions"),
    CpuOption.ACROSS_NODES: ("Beta", "CPUManagerPolicyBetaOptions"),
}
_APART = (
    (CpuOption.FULL_CORES, CpuOption.ACROSS_CORES),
    (CpuOption.ACROSS_NODES, CpuOption.ACROSS_CORES),
    (CpuOption.BY_CACHE, CpuOption.ACROSS_CORES),
    (CpuOption.BY_CACHE, CpuOption.ACROSS_NODES),
)


def read(given: Mapping[str, str], gates: Mapping[str, bool]) -> CpuOptions:
    """Those that are on. ``gates`` are the feature gates that were asked for. Raises ``ValueError``."""
    options = set()
    for name, text in given.items():
        if (option := _NAMES.get(name)) is None:
            raise ValueError(f'unknown CPU Manager Policy option: "{name}"; there are {", ".join(_NAMES)}')
        level, gate = _GATES.get(option, ("", ""))
        if gate and not is_enabled(gate, gates):
            raise ValueError(
                f'CPU Manager Policy {level}-level Options not enabled, but option "{name}" provided;'
                f" turn on the feature gate {gate}"
            )
        if text not in ("true", "false"):
            raise ValueError(f'bad value for option "{name}": {text!r} is neither true nor false')
        if text == "true":
            options.add(option)
    for one, other in _APART:
        if {one, other} <= options:
            raise ValueError(f"static policy options {one.value} and {other.value} can not be used at the same time")
    return frozenset(options)


def check_machine(options: CpuOptions, topology: CpuTopology, policy: TopologyPolicy) -> None:
    """Whether the machine, and what else is configured, allows the options. Raises ``ValueError``."""
    if CpuOption.BY_SOCKET not in options:
        return
    name = CpuOption.BY_SOCKET.value
    if policy is TopologyPolicy.SINGLE_NUMA_NODE:
        raise ValueError(f"Topology manager {policy.value} policy is incompatible with CPUManager {name} policy option")
    if len(topology.sockets) > len(topology.nodes):
        raise ValueError(f"{name} is not compatible with hardware that has more sockets than NUMA nodes")

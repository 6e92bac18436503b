"""What a node enforces of what is kept for pods, for the system, and for the cluster's own programs. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tiphys.kubelet.cgroups.limits import CgroupLimits
from tiphys.kubelet.container.resources import shares
from tiphys.kubelet.quantities import milli, value

PODS, NONE = "pods", "none"
SYSTEM, KUBE = "system-reserved", "kube-reserved"
_COMPRESSIBLE = "-compressible"
_CHOICES = (PODS, SYSTEM, SYSTEM + _COMPRESSIBLE, KUBE, KUBE + _COMPRESSIBLE, NONE)
_FLAG = "enforceNodeAllocatable (--enforce-node-allocatable)"
_FIELDS = {
    SYSTEM: "systemReservedCgroup (--system-reserved-cgroup)",
    KUBE: "kubeReservedCgroup (--kube-reserved-cgroup)",
}


@dataclass(frozen=True, slots=True)
class Reserved:
    """A cgroup that is there already, and what programs in it may use. ``words`` name it in events."""

    words: str
    cgroup: str
    limits: CgroupLimits


def problems(enforced: Sequence[str], cgroups: Mapping[str, str], *, per_qos: bool, reserved_cpus: str) -> list[str]:
    """In upstream's words. ``cgroups`` has the names of those of ``SYSTEM`` and ``KUBE``, empty if not given."""
    wrong = []
    for kind in (SYSTEM, KUBE):
        if {kind, kind + _COMPRESSIBLE} <= set(enforced):
            both = f'"{kind}" and "{kind}{_COMPRESSIBLE}"'
            wrong.append(f"both {both} cannot be specified together in {_FLAG}")
    for name in dict.fromkeys(enforced):
        wrong += [f'duplicated enforcements "{name}" in {_FLAG}'] * (enforced.count(name) - 1)
        wrong += _problems_of(name, enforced, cgroups, per_qos=per_qos)
    if reserved_cpus and any(cgroups.values()):
        names = " or ".join(_FIELDS.values())
        wrong.append(f"can't use reservedSystemCPUs (--reserved-cpus) with {names}")
    return [f"invalid configuration: {text}" for text in wrong]


def _problems_of(name: str, enforced: Sequence[str], cgroups: Mapping[str, str], *, per_qos: bool) -> Iterator[str]:
    if name == NONE:
        if len(enforced) > 1:
            yield f'{_FLAG} may not contain additional enforcements when "{NONE}" is specified'
        return
    if name not in _CHOICES:
        *all_but_last, last = (f'"{choice}"' for choice in _CHOICES)
        yield f'option "{name}" specified for {_FLAG}. Valid options are {", ".join(all_but_last)} or {last}'
        return
    kind = name.removesuffix(_COMPRESSIBLE)
    if kind in _FIELDS and not cgroups[kind]:
        yield f'{_FIELDS[kind]} must be specified when "{kind}" or "{kind}{_COMPRESSIBLE}" included in {_FLAG}'
    if not per_qos:
        yield f'cgroupsPerQOS (--cgroups-per-qos) must be set to true when "{name}" contained in {_FLAG}'


def reserved_cgroups(
    enforced: Sequence[str], cgroups: Mapping[str, str], amounts: Mapping[str, Mapping[str, str]]
) -> list[Reserved]:
    """Those whose limits are enforced: in full, or of the processor only."""
    return [
        Reserved(kind.replace("-", " "), cgroups[kind], _limits(amounts[kind], compressible=name != kind))
        for kind in (SYSTEM, KUBE)
        for name in (kind, kind + _COMPRESSIBLE)
        if name in enforced
    ]


def _limits(amounts: Mapping[str, str], *, compressible: bool) -> CgroupLimits:
    cpu = shares(milli(amounts["cpu"])) if "cpu" in amounts else 0
    if compressible:
        return CgroupLimits(cpu)
    return CgroupLimits(cpu, memory=value(amounts.get("memory")), pids=value(amounts.get("pid")))

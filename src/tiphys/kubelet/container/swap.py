"""How much a container may swap: nothing, or as much of the node's swap as it requests of its memory. Pure.

Without any of this a container that is limited could take all of the swap beyond its limit. Source: KEP-2400 and
https://kubernetes.io/docs/concepts/cluster-administration/swap-memory-management/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiphys.api.pods.qos import BURSTABLE, qos_of
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import exact, value

NO_SWAP, LIMITED_SWAP = "NoSwap", "LimitedSwap"
BEHAVIORS = ("", NO_SWAP, LIMITED_SWAP)
"""Empty stands for ``NoSwap``."""


@dataclass(frozen=True, slots=True)
class SwapControl:
    """The node's cgroups can limit swap. ``unified``: they are version 2. ``capacity`` and ``memory``: the node's swap
    and memory in bytes."""

    behavior: str
    unified: bool
    capacity: int
    memory: int


def swap_resources(control: SwapControl, pod: Pod, container: ContainerSpec, memory_limit: int) -> dict[str, Any]:
    """What ``LinuxContainerResources`` says of swap."""
    if not control.unified:  # the limit of both together: with that of memory alone nothing is left for swap
        return {"memory_swap_limit_in_bytes": memory_limit} if memory_limit else {}
    return {"unified": {"memory.swap.max": str(_limit(control, pod, container))}}


def _limit(control: SwapControl, pod: Pod, container: ContainerSpec) -> int:
    resources = container.get("resources") or {}
    request, limit = ((resources.get(side) or {}).get("memory") for side in ("requests", "limits"))
    asks = exact(request) or exact(limit)
    may_swap = control.behavior == LIMITED_SWAP and not pods.is_critical(pod) and qos_of(pod) == BURSTABLE
    if not may_swap or not asks or exact(request) == exact(limit):
        return 0
    requested = value(request)
    if control.memory <= 0 or requested > control.memory:
        return 0
    return int(requested / control.memory * control.capacity)

"""How large a volume in memory may grow. Pure.

Source: https://kubernetes.io/docs/concepts/storage/volumes/#emptydir (KEP-1967)
"""

from __future__ import annotations

from tiphys.kubelet.cgroups.limits import pod_limits
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import value


def memory_size(pod: Pod, size_limit: str | None, allocatable: str | None) -> int:
    """Bytes: the least of what the node gives pods, the pod's memory limit and the volume's own; 0 for no limit."""
    bounds = (value(allocatable), pod_limits(pod).memory, value(size_limit))
    return min((bound for bound in bounds if bound > 0), default=0)

"""Quality of service: the class of a pod, and how likely the kernel is to pick its processes when memory runs out.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import exact, value

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"
_SUPPORTED = ("cpu", "memory")
_GUARANTEED_SCORE = -997
_BEST_EFFORT_SCORE = 1000


def qos_class(pod: Pod) -> str:
    """The class in the pod's status where it is set (it never changes), else what its requests and limits say."""
    return str((pod.get("status") or {}).get("qosClass") or "") or compute_qos_class(pod)


def compute_qos_class(pod: Pod) -> str:
    if pod_level := pod["spec"].get("resources"):
        return _class_of([pod_level])
    holders = [c.get("resources") or {} for c in (*pods.containers(pod), *pods.init_containers(pod))]
    return _class_of(holders)


def _class_of(holders: list[dict[str, Any]]) -> str:
    anything, guaranteed = False, True
    for resources in holders:
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        anything = anything or any(exact(side.get(name)) > 0 for side in (requests, limits) for name in _SUPPORTED)
        for name in _SUPPORTED:
            limit = exact(limits.get(name))
            if limit == 0 or exact(requests.get(name, limits.get(name))) != limit:
                guaranteed = False
    if not anything:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def oom_score_adjust(pod: Pod, container: ContainerSpec, memory_capacity: int) -> int:
    """-997 (guaranteed, killed last) to 1000 (best effort, killed first).

    Between them the score falls with the share of the node's memory that the container asked for, and stays above the
    guaranteed and below the best-effort containers'.
    """
    if pods.is_node_critical(pod):
        return _GUARANTEED_SCORE
    quality = qos_class(pod)
    if quality == GUARANTEED:
        return _GUARANTEED_SCORE
    if quality == BEST_EFFORT:
        return _BEST_EFFORT_SCORE
    requested = value(((container.get("resources") or {}).get("requests") or {}).get("memory"))
    score = 1000 - 1000 * requested // max(memory_capacity, 1)
    if score < 1000 + _GUARANTEED_SCORE:
        return 1000 + _GUARANTEED_SCORE
    return _BEST_EFFORT_SCORE - 1 if score == _BEST_EFFORT_SCORE else score

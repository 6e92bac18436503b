"""How likely the kernel is to pick a pod's processes when memory runs out.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from tiphys.api.pods.qos import BEST_EFFORT, GUARANTEED, qos_of
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import value

_GUARANTEED_SCORE = -997
_BEST_EFFORT_SCORE = 1000


def oom_score_adjust(pod: Pod, container: ContainerSpec, memory_capacity: int) -> int:
    """-997 (guaranteed, killed last) to 1000 (best effort, killed first).

    Between them the score falls with the share of the node's memory that the container requested, and stays above the
    guaranteed and below the best-effort containers'.
    """
    if pods.is_node_critical(pod):
        return _GUARANTEED_SCORE
    quality = qos_of(pod)
    if quality == GUARANTEED:
        return _GUARANTEED_SCORE
    if quality == BEST_EFFORT:
        return _BEST_EFFORT_SCORE
    requested = value(((container.get("resources") or {}).get("requests") or {}).get("memory"))
    score = 1000 - 1000 * requested // max(memory_capacity, 1)
    if score < 1000 + _GUARANTEED_SCORE:
        return 1000 + _GUARANTEED_SCORE
    return _BEST_EFFORT_SCORE - 1 if score == _BEST_EFFORT_SCORE else score

"""Which pods make room for a critical one that the node cannot take otherwise. Pure.

The cheapest are evicted: those of the lowest quality of service, and of these as few as free what is short. Source:
https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tiphys.api.pods.qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_of
from tiphys.api.pods.resources import pod_requests, whole
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

Shortage = Mapping[str, int]
"""What is missing by resource: processors in thousandths, all else in units; ``pods`` counts pods."""


class NoRoom(Exception):
    """No set of evictable pods frees enough; the message is upstream's."""


def pods_to_preempt(wanted: Pod, running: Sequence[Pod], shortage: Shortage) -> list[Pod]:
    """The pods to end. Raises ``NoRoom``."""
    groups = {
        quality: [pod for pod in running if _may_go(wanted, pod) and qos_of(pod) == quality]
        for quality in (BEST_EFFORT, BURSTABLE, GUARANTEED)
    }
    best, burst, guaranteed = groups.values()
    if left := _without(shortage, [*best, *burst, *guaranteed]):
        raise _no_room(left)
    from_guaranteed = _closest(guaranteed, _without(shortage, [*best, *burst]))
    from_burstable = _closest(burst, _without(shortage, [*best, *from_guaranteed]))
    from_best = _closest(best, _without(shortage, [*from_burstable, *from_guaranteed]))
    return [*from_best, *from_burstable, *from_guaranteed]


def _may_go(wanted: Pod, pod: Pod) -> bool:
    if pods.is_critical(wanted) and not pods.is_critical(pod):
        return True
    ours, theirs = (p["spec"].get("priority") for p in (wanted, pod))
    return ours is not None and theirs is not None and ours > theirs


def _request(pod: Pod, name: str) -> int:
    return 1 if name == "pods" else whole(pod_requests(pod)).get(name, 0)


def _without(shortage: Shortage, gone: Sequence[Pod]) -> dict[str, int]:
    """What is still missing once these pods have gone."""
    left = {name: amount - sum(_request(pod, name) for pod in gone) for name, amount in shortage.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def _closest(candidates: Sequence[Pod], shortage: Shortage) -> list[Pod]:
    """Of these pods, one after another the one that leaves the least missing; of equals the smaller one."""
    left, chosen, missing = list(candidates), list[Pod](), dict(shortage)
    while missing:
        if not left:
            raise _no_room(missing)
        best = min(left, key=lambda pod: (_distance(pod, missing), _request(pod, "memory"), _request(pod, "cpu")))
        left.remove(best)
        chosen.append(best)
        missing = _without(missing, [best])
    return chosen


def _distance(pod: Pod, missing: Shortage) -> float:
    shares = ((amount - _request(pod, name)) / amount for name, amount in missing.items())
    return sum(share**2 for share in shares if share > 0)


def _no_room(missing: Shortage) -> NoRoom:
    parts = "".join(f"(res: {name}, q: {amount}), " for name, amount in missing.items())
    return NoRoom(f"no set of running pods found to reclaim resources: [{parts}]")

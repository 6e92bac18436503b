"""Which pods belong together with a pod: those of the Services that select it, and of its controller.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/#internal-default-constraints
"""

from __future__ import annotations

from tiphys.api.meta.owners import controller_of
from tiphys.api.meta.selectors import Requirement, Selector
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.terms import selector_of
from tiphys.scheduler.handle import Handle

_CONTROLLERS = {
    ("v1", "ReplicationController"): "replicationcontrollers",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("apps/v1", "StatefulSet"): "statefulsets",
}


def default_selector(pod: PodInfo, handle: Handle) -> Selector:
    """All of their selectors together; an empty one if the pod belongs to nothing."""
    labels: dict[str, str] = {}
    for service in handle.store("services").list(pod.namespace):
        wanted = (service.get("spec") or {}).get("selector")
        if wanted and all(pod.labels.get(key) == value for key, value in wanted.items()):
            labels |= wanted
    more: tuple[Requirement, ...] = ()
    owner = controller_of(pod.obj)
    plural = _CONTROLLERS.get((owner["apiVersion"], owner["kind"])) if owner is not None else None
    if owner is not None and plural is not None:
        controller = handle.store(plural).get(pod.namespace, owner["name"])
        selector = ((controller or {}).get("spec") or {}).get("selector") or {}
        if plural == "replicationcontrollers":
            labels |= selector
        elif selector:
            more = selector_of(selector).requirements
    return Selector((*(Requirement(key, "=", (value,)) for key, value in sorted(labels.items())), *more))

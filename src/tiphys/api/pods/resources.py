"""What a whole pod requests, and is limited to.

A pod needs the larger of what its containers need together (sidecars included) and what each init container needs
beside the sidecars started before it. Requests and limits of the pod itself replace the sum, resource by resource, and
overhead is added. Sources:
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers, KEP-753
(sidecars), KEP-1287 (in-place resize), KEP-2837 (pod-level resources), KEP-688 (overhead).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.object import Object

Amounts = dict[str, Quantity]

HUGE_PAGES = "hugepages-"
DEVICE_CLASS_PREFIX = "deviceclass.resource.kubernetes.io/"
REQUESTS = "requests."
_POD_LEVEL = ("cpu", "memory")
_ZERO = Quantity.of(0)
_NONE: Mapping[str, Any] = {}


def is_native(name: str) -> bool:
    """Whether a resource is of Kubernetes itself."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Whether a resource may be one that a device plugin or an administrator offers."""
    if is_native(name) or name.startswith(REQUESTS):
        return False
    return not names.qualified_name(REQUESTS + name)


def may_be_of_a_class(name: str) -> bool:
    """Whether a resource may be one behind which a DeviceClass stands, by the class's word or by its name."""
    return is_extended(name) or name.startswith(DEVICE_CLASS_PREFIX)


def is_pod_level(name: str) -> bool:
    """Whether a resource can be requested for the pod as a whole."""
    return name in _POD_LEVEL or name.startswith(HUGE_PAGES)


def has_pod_level_requests(spec: Object) -> bool:
    """Whether a pod itself requests some resource that it can."""
    return any(map(is_pod_level, (spec.get("resources") or _NONE).get("requests") or ()))


def has_pod_level(spec: Object) -> bool:
    """Whether a pod itself requests, or is limited to, some resource that it can."""
    return has_pod_level_requests(spec) or any(map(is_pod_level, (spec.get("resources") or _NONE).get("limits") or ()))


def amounts(described: Mapping[str, Any] | None) -> Amounts:
    """A ``ResourceList`` of the API. Raises ``QuantityError``."""
    return {name: parse(str(text)) for name, text in (described or _NONE).items()}


def whole(total: Amounts) -> dict[str, int]:
    """Processors in thousandths, everything else in units (bytes, pieces), rounded up."""
    return {name: q.milli_value() if name == "cpu" else q.value() for name, q in total.items()}


def pod_requests(
    pod: Object,
    *,
    overhead: bool = True,
    resizing: bool = False,
    pod_level_resizing: bool = False,
    missing: Mapping[str, Quantity] = _NONE,
) -> Amounts:
    """What a pod requests, by resource.

    ``resizing``: a container being resized counts for the larger of what it asks for, was granted and has;
    ``pod_level_resizing``: so does the pod as a whole. ``missing`` is what a container counts for that does not
    request the resource at all.
    """
    spec = pod.get("spec") or {}
    status = (pod.get("status") or _NONE) if resizing else _NONE
    total = _containers(spec, "requests", status, missing)
    own = amounts((spec.get("resources") or _NONE).get("requests"))
    granted = status.get("resources") if pod_level_resizing else None
    in_force = _in_force(own, granted, status.get("allocatedResources"), status) if granted is not None else own
    total |= {name: in_force.get(name, _ZERO) for name in own if is_pod_level(name)}
    if overhead:
        _add(total, amounts(spec.get("overhead")))
    return total


def pod_limits(
    pod: Object, *, overhead: bool = True, resizing: bool = False, each: Callable[[Amounts], None] | None = None
) -> Amounts:
    """What a pod is limited to, by resource; overhead is added to limits that are not zero.

    ``each`` is called with the limits of each container, for an init container with those of the sidecars before it.
    """
    spec = pod.get("spec") or {}
    total = _containers(spec, "limits", (pod.get("status") or _NONE) if resizing else _NONE, _NONE, each)
    own = amounts((spec.get("resources") or _NONE).get("limits"))
    total |= {name: limit for name, limit in own.items() if is_pod_level(name)}
    for name, more in amounts(spec.get("overhead")).items() if overhead else ():
        if total.get(name):
            total[name] += more
    return total


def container_sum(spec: Object, side: str) -> Amounts:
    """What all containers need together: ``side`` is ``requests`` or ``limits``."""
    return _containers(spec, side, _NONE, _NONE)


def request_for(pod: Object, name: str) -> int:
    """One resource as eviction ranks by it: what the pod itself requests, if it does, and overhead only on top of some
    request. Processors in thousandths, everything else in units."""
    spec = pod.get("spec") or {}
    own = {"spec": {"resources": spec["resources"]}} if has_pod_level(spec) else pod
    total = pod_requests(own, overhead=False).get(name, _ZERO)
    if total:
        total += amounts(spec.get("overhead")).get(name, _ZERO)
    return whole({name: total})[name]


def _containers(
    spec: Object,
    side: str,
    status: Mapping[str, Any],
    missing: Mapping[str, Quantity],
    each: Callable[[Amounts], None] | None = None,
) -> Amounts:
    """The sum over containers and sidecars, or the largest init container if that is more; ``each`` sees every one."""
    statuses = _resized(status)

    def needs(container: Object, *, resizable: bool) -> Amounts:
        requests = amounts((container.get("resources") or _NONE).get(side))
        state = statuses.get(container.get("name", "")) if resizable else None
        if state is not None:
            allocated = state.get("allocatedResources") if side == "requests" else None
            requests = _in_force(requests, state["resources"], allocated, status, side)
        return {**missing, **requests} if missing else requests

    total: Amounts = {}
    for container in spec.get("containers") or ():
        needed = needs(container, resizable=True)
        if each is not None:
            each(needed)
        _add(total, needed)
    sidecars: Amounts = {}
    largest: Amounts = {}
    for container in spec.get("initContainers") or ():
        is_sidecar = container.get("restartPolicy") == "Always"
        needed = needs(container, resizable=is_sidecar)
        if is_sidecar:
            _add(total, needed)
            _add(sidecars, needed)
            needed = dict(sidecars)
        else:
            _add(needed, sidecars)
        if each is not None:
            each(needed)
        _raise(largest, needed)
    _raise(total, largest)
    return total


def _resized(status: Mapping[str, Any]) -> dict[str, Object]:
    """The statuses, by container, that say what a container has."""
    entries = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return {entry["name"]: entry for entry in entries if entry.get("resources") is not None}


def _in_force(
    wanted: Amounts,
    granted: Object,
    allocated: Mapping[str, Any] | None,
    status: Mapping[str, Any],
    side: str = "requests",
) -> Amounts:
    """What counts during a resize: the largest of all; if the node can never do it, what is wanted does not count."""
    in_force = {} if _infeasible(status.get("conditions") or ()) else dict(wanted)
    _raise(in_force, amounts(granted.get(side)))
    _raise(in_force, amounts(allocated))
    return in_force


def _infeasible(conditions: Iterable[Object]) -> bool:
    pending = next((c for c in conditions if c.get("type") == "PodResizePending"), None)
    return pending is not None and pending.get("reason") == "Infeasible"


def _add(total: Amounts, more: Amounts) -> None:
    for name, quantity in more.items():
        total[name] = total[name] + quantity if name in total else quantity


def _raise(total: Amounts, other: Amounts) -> None:
    for name, quantity in other.items():
        if name not in total or total[name] < quantity:
            total[name] = quantity

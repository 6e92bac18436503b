"""Extended resources behind which a DeviceClass stands: what a pod asks for so, as requests of one special claim. Pure.

A class stands behind ``spec.extendedResourceName`` and behind ``deviceclass.resource.kubernetes.io/NAME``. A node that
offers the resource by a device plugin gives it so; only on the others devices are allocated. So what the claim requests
depends on the node. Source: KEP-5004, https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.objects import name_of, uid_of
from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.api.pods.claimquota import SPECIAL_CLAIM, special_owner
from tiphys.api.pods.resources import DEVICE_CLASS_PREFIX, may_be_of_a_class
from tiphys.client.informer import Store

_BY_RESOURCE, _BY_POD = "extended-resource", "extended-resource-pod"

ClassOf = Callable[[str], Object | None]
"""The class that stands behind a resource, if one does."""


class CannotFit(Exception):
    """A node does not offer what a pod asks for, nor does a class; or the claim is of an earlier attempt."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The special claim as it is for one node, and which container has which of its requests."""

    claim: Object
    mappings: Sequence[Object]


@dataclass(frozen=True, slots=True)
class Special:
    """What a pod needs a special claim for: ``wanted`` has the pod's amounts of resources that may have a class.

    ``claim`` has no requests yet, unless it is ``earlier``: one that was made in an attempt that failed.
    """

    claim: Object
    wanted: Mapping[str, int]
    earlier: bool = False

    def on(self, pod: Object, allocatable: Mapping[str, int], class_of: ClassOf) -> Variant | None:
        """What is to be allocated on a node; None if its device plugins have it all. Raises ``CannotFit``."""
        if self.earlier:
            raise CannotFit("cannot schedule extended resource claim")
        backed = []
        for name in self.wanted:
            if class_of(name) is not None and not allocatable.get(name):
                backed.append(name)
            elif name not in allocatable:
                raise CannotFit("cannot fit resource")
        if not backed:
            return None
        requests, mappings = requests_and_mappings(pod, backed, class_of)
        return Variant({**self.claim, "spec": {"devices": {"requests": requests}}}, mappings)


def class_behind(classes: Store, resource: str) -> Object | None:
    """Of several the newest; made in the same second, the first by name."""
    if not classes.has_index(_BY_RESOURCE):
        classes.add_index(_BY_RESOURCE, _names)
    named = classes.by_index(_BY_RESOURCE, resource)
    if len(named) > 1:
        named.sort(key=name_of)
        named.sort(key=lambda one: str(one["metadata"].get("creationTimestamp") or ""), reverse=True)
    return named[0] if named else None


def _names(device_class: Object) -> Iterable[str]:
    explicit = device_class["spec"].get("extendedResourceName")
    return filter(None, (explicit, DEVICE_CLASS_PREFIX + name_of(device_class)))


def special_for(
    pod: Object, requested: Mapping[str, int], claims: Store, class_of: ClassOf, new_id: Callable[[], str]
) -> Special | None:
    """None if no class stands behind what the pod asks for. ``new_id`` makes the uid that a claim has in memory."""
    wanted = {name: amount for name, amount in requested.items() if amount and may_be_of_a_class(name)}
    if not any(class_of(name) is not None for name in wanted):
        return None
    if (earlier := claim_of(claims, uid_of(pod))) is not None:
        return Special(earlier, wanted, earlier=True)
    return Special(_unnamed(pod, new_id()), wanted)


def claim_of(claims: Store, pod_uid: str) -> Object | None:
    """The special claim that was made for a pod."""
    if not claims.has_index(_BY_POD):
        claims.add_index(_BY_POD, pods_of)
    return next(iter(claims.by_index(_BY_POD, pod_uid)), None)


def pods_of(claim: Object) -> list[str]:
    """The uid of the pod that a special claim was made for, if it is one."""
    owner = special_owner(claim)
    return [] if owner is None else [owner["uid"]]


def _unnamed(pod: Object, uid: str) -> Object:
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "namespace": meta["namespace"],
            "name": "<extended-resources>",
            "generateName": f"{meta['name']}-extended-resources-",
            "uid": uid,
            "annotations": {SPECIAL_CLAIM: "true"},
            "ownerReferences": [owner],
        },
        "spec": {},
    }


# -- the requests of a claim ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Requests:
    """What one resource comes to: requests by the container's index, and what containers use."""

    by_container: dict[int, Object] = field(default_factory=dict)
    shared: Object | None = None
    """The largest request of an init container that ends, which all of these use, one after the other."""
    mappings: list[Object] = field(default_factory=list)


def requests_and_mappings(
    pod: Object, resources: Iterable[str], class_of: ClassOf
) -> tuple[list[Object], list[Object]]:
    """Requests by name, and for each container which of them are its own, for resources that are allocated as devices.

    Containers that run on have a request each. An init container that ends uses those of the containers after it first,
    and asks only for what is missing; of such requests the largest is made, and shared.
    """
    spec = pod["spec"]
    init = spec.get("initContainers") or []
    containers: list[Object] = [*init, *spec["containers"]]
    ending = [i for i, container in enumerate(init) if container.get("restartPolicy") != "Always"]
    requests: list[Object] = []
    mappings: list[Object] = []
    for resource in sorted(resources):
        if (behind := class_of(resource)) is None:
            continue
        of = _of_resource(containers, ending, resource, name_of(behind))
        requests += [*filter(None, (of.shared,)), *of.by_container.values()]
        mappings += of.mappings
    return sorted(requests, key=lambda request: str(request["name"])), mappings


def _of_resource(containers: Sequence[Object], ending: Sequence[int], resource: str, device_class: str) -> _Requests:
    result = _Requests()
    for index, container in enumerate(containers):
        if index not in ending:
            request, mappings = _of_container(index, container, resource, device_class, ())
            result.mappings += mappings
            if request is not None:
                result.by_container[index] = request
    short: list[Object] = []
    names = set()
    for index in ending:
        later = [request for i, request in result.by_container.items() if i >= index]
        request, mappings = _of_container(index, containers[index], resource, device_class, later)
        short += mappings
        if request is not None:
            names.add(request["name"])
            if result.shared is None or result.shared["exactly"]["count"] < request["exactly"]["count"]:
                result.shared = request
    for mapping in short:
        if mapping["requestName"] in names:
            assert result.shared is not None
            mapping["requestName"] = result.shared["name"]
    result.mappings += short
    return result


def _of_container(
    index: int, container: Object, resource: str, device_class: str, reusable: Sequence[Object]
) -> tuple[Object | None, list[Object]]:
    """What a container has to request beside ``reusable``, if that is not enough, and all that it uses."""
    asked = (container.get("resources") or {}).get("requests") or {}
    wanted = parse(str(asked.get(resource, "0"))).value()
    if not wanted:
        return None, []
    used: list[str] = []
    for request in reusable:
        used.append(request["name"])
        wanted -= request["exactly"]["count"]
        if wanted <= 0:
            return None, _mappings(container, resource, used)
    name = f"container-{index}-request-{sorted(asked).index(resource)}"
    exactly = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": wanted}
    return {"name": name, "exactly": exactly}, _mappings(container, resource, [*used, name])


def _mappings(container: Object, resource: str, requests: Iterable[str]) -> list[Object]:
    own = {"containerName": container["name"], "resourceName": resource}
    return [{**own, "requestName": request} for request in requests]

"""How much of a quota a ResourceClaim uses: devices of each class, under each name that a quota may give them. Pure.

A class's devices are ``CLASS.deviceclass.resource.k8s.io/devices``. They count as the extended resources behind which
the class stands, too; what a pod has asked for so is counted of the pod, and not again of the claim that the scheduler
makes for it. Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-on-extended-resources (KEP-4381,
KEP-5004).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tiphys.api.meta.objects import name_of, uid_of
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import DEVICE_CLASS_PREFIX, REQUESTS, is_extended

GROUP, PLURAL = "resource.k8s.io", "resourceclaims"
SPECIAL_CLAIM = "resource.kubernetes.io/extended-resource-claim"
"""The annotation of a claim that the scheduler has made for a pod's extended resources."""

_OF_CLASS = ".deviceclass.resource.k8s.io/devices"
_IMPLICIT = REQUESTS + DEVICE_CLASS_PREFIX
_MOST_DEVICES = 32
"""As many as one claim can be given."""


def _no_claims(namespace: str, uid: str) -> Iterable[Object]:
    return ()


def _no_pod(namespace: str, name: str) -> Object | None:
    return None


@dataclass(frozen=True, slots=True)
class DeviceNames:
    """What a claim is counted with. ``resources`` has the extended resource by class: empty if a class names none.

    ``pod`` gives a pod by namespace and name, ``claims`` the special claims of one by namespace and uid.
    """

    resources: Mapping[str, str]
    pod: Callable[[str, str], Object | None] = _no_pod
    claims: Callable[[str, str], Iterable[Object]] = _no_claims

    def stands_behind(self, resource: str) -> bool:
        """Whether any class does."""
        if resource.startswith(DEVICE_CLASS_PREFIX):
            return resource.removeprefix(DEVICE_CLASS_PREFIX) in self.resources
        return is_extended(resource) and resource in self.resources.values()


NO_CLASSES = DeviceNames({})


def names_of_classes(classes: Iterable[Object]) -> dict[str, str]:
    return {name_of(one): (one.get("spec") or {}).get("extendedResourceName") or "" for one in classes}


def may_count_claims(name: str) -> bool:
    """Whether a quota's constraint may be one on claims, by its name alone."""
    return name.endswith(_OF_CLASS) or (name.startswith(REQUESTS) and "/" in name)


def counts_claims(name: str, devices: DeviceNames) -> bool:
    """Whether a quota's constraint is one on what claims ask for."""
    if name.endswith(_OF_CLASS):
        return True
    return name.startswith(REQUESTS) and devices.stands_behind(name.removeprefix(REQUESTS))


def claim_usage(
    claim: Object, devices: DeviceNames, of_pod: Callable[[Object], Mapping[str, Quantity]]
) -> dict[str, Quantity]:
    """``of_pod`` gives what a pod uses."""
    amounts: dict[str, int] = {}
    for request in ((claim["spec"].get("devices") or {}).get("requests")) or ():
        for device_class, amount in _asked(request).items():
            amounts[device_class] = amounts.get(device_class, 0) + amount
    usage = {name + _OF_CLASS: Quantity.of(amount) for name, amount in amounts.items()}
    if any(amounts.values()):
        pod = _pod_of(claim, devices)
        counted = of_pod(pod) if pod is not None else {}
        usage |= _as_extended(amounts, devices, counted)
    return usage


def _asked(request: Object) -> dict[str, int]:
    """Devices by class; of alternatives the most that could be allocated."""
    if alternatives := request.get("firstAvailable"):
        most: dict[str, int] = {}
        for one in alternatives:
            name = one["deviceClassName"]
            most[name] = max(most.get(name, 0), _count(one))
        return most
    exactly = request.get("exactly")
    return {exactly["deviceClassName"]: _count(exactly)} if exactly else {}


def _count(asked: Object) -> int:
    match asked.get("allocationMode") or "ExactCount":
        case "ExactCount":
            return int(asked.get("count") or 1)
        case "All":
            return _MOST_DEVICES
    return 0  # of a later version: not counted


def _as_extended(
    amounts: Mapping[str, int], devices: DeviceNames, counted: Mapping[str, Quantity]
) -> dict[str, Quantity]:
    usage = {}
    for device_class, amount in amounts.items():
        explicit = devices.resources.get(device_class)
        for name in (_IMPLICIT + device_class, REQUESTS + explicit if explicit else ""):
            left = Quantity.of(amount) - counted.get(name, Quantity.of(0))
            if name and left.sign > 0:
                usage[name] = left
    return usage


def _pod_of(claim: Object, devices: DeviceNames) -> Object | None:
    """The pod whose extended resources the claim is for, if it is the pod's one such claim."""
    owner = special_owner(claim)
    if owner is None:
        return None
    namespace = claim["metadata"].get("namespace") or ""
    pod = devices.pod(namespace, owner["name"])
    if pod is None or uid_of(pod) != owner["uid"]:
        return None
    known = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    if known is not None:
        return pod if known.get("resourceClaimName") == name_of(claim) else None
    # Until the pod says which it is, it is the first; one that is only being made has no time yet.
    first = min((*devices.claims(namespace, owner["uid"]), claim), key=_age)
    return pod if _age(first) == _age(claim) else None


def special_owner(claim: Object) -> Object | None:
    """The reference to the pod that a special claim belongs to."""
    meta = claim["metadata"]
    if (meta.get("annotations") or {}).get(SPECIAL_CLAIM) != "true":
        return None
    controllers = (owner for owner in meta.get("ownerReferences") or () if owner.get("controller"))
    owner = next(controllers, None)
    return owner if owner is not None and (owner.get("kind"), owner.get("apiVersion")) == ("Pod", "v1") else None


def _age(claim: Object) -> tuple[str, str]:
    return claim["metadata"].get("creationTimestamp") or "9", name_of(claim)

"""Defaults of the resource.k8s.io group (dynamic resource allocation), v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#resourceclaim-v1-resource-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.object import Object


def resource_claim(obj: Object) -> None:
    _claim_spec(child(obj, "spec"))
    allocation = (obj.get("status") or {}).get("allocation") or {}
    for result in items(allocation.get("devices") or {}, "results"):
        _tolerations(result)


def resource_claim_template(obj: Object) -> None:
    _claim_spec(child(child(obj, "spec"), "spec"))


def resource_slice(obj: Object, now: str) -> None:
    """A taint carries the time it was added at: the one default that depends on the clock."""
    for device in items(obj.get("spec") or {}, "devices"):
        for mapping in (device.get("nodeAllocatableResourceMappings") or {}).values():
            if_missing(mapping, allocationMultiplier="1")
        for taint in items(device, "taints"):
            if now:
                if_missing(taint, timeAdded=now)


def _claim_spec(spec: Object) -> None:
    for request in items(spec.get("devices") or {}, "requests"):
        if request.get("exactly") is not None:
            _device_request(request["exactly"])
        for alternative in items(request, "firstAvailable"):
            _device_request(alternative)


def _device_request(request: Object) -> None:
    if_empty(request, allocationMode="ExactCount")
    if request["allocationMode"] == "ExactCount":
        if_empty(request, count=1)
    _tolerations(request)


def _tolerations(holder: Object) -> None:
    for toleration in items(holder, "tolerations"):
        if_empty(toleration, operator="Equal")

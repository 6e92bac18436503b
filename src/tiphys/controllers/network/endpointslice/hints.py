"""Hints for which zone or node an endpoint is, by a service's ``trafficDistribution``; by processors: ``topology``.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution
"""

from __future__ import annotations

from tiphys.api.object import Object

CLOSE = frozenset(("PreferClose", "PreferSameZone", "PreferSameNode"))


def is_ready(endpoint: Object) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready"))


def hints_for(endpoint: Object, distribution: str | None) -> Object | None:
    """The hints that a ready endpoint is to have."""
    if distribution not in CLOSE:
        return None
    hints: Object = {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if endpoint.get("nodeName") and distribution == "PreferSameNode":
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints or None


def stale(endpoint_slice: Object, distribution: str | None) -> bool:
    """Whether an endpoint of the slice has other hints than it is to have."""
    endpoints = endpoint_slice.get("endpoints") or ()
    if distribution not in CLOSE:
        return any(endpoint.get("hints") for endpoint in endpoints)
    return any(
        (endpoint.get("hints") or None) != hints_for(endpoint, distribution)
        for endpoint in endpoints
        if is_ready(endpoint)
    )


def apply(endpoint_slice: Object, distribution: str | None) -> None:
    """Set the hints of the slice's endpoints, in place; those of endpoints that are not ready stay."""
    for endpoint in endpoint_slice.get("endpoints") or ():
        if distribution in CLOSE and not is_ready(endpoint):
            continue
        hints = hints_for(endpoint, distribution)
        if hints is None:
            endpoint.pop("hints", None)
        else:
            endpoint["hints"] = hints

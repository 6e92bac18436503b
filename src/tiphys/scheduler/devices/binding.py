"""Devices that have to be made ready before a pod can be bound: the conditions that the claim's status must show. Pure.

Source: KEP-5007 and https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

from tiphys.api.meta.conditions import find_condition
from tiphys.api.meta.objects import name_of, status_of
from tiphys.api.object import Object
from tiphys.controlkit.objects import parse_time


class BindingFailed(Exception):
    """A device's driver says that it will not become ready."""


def waits_for_conditions(allocation: Object) -> bool:
    """Whether some device of an allocation has conditions."""
    results = (allocation.get("devices") or {}).get("results") or ()
    return any(result.get("bindingConditions") for result in results)


def is_ready(claim: Object) -> bool:
    """Whether all conditions of all devices are true. Raises ``BindingFailed``."""
    status = status_of(claim)
    if status.get("allocation") is None:
        return False
    for result in (status["allocation"].get("devices") or {}).get("results") or ():
        wanted = result.get("bindingConditions") or ()
        if not wanted:
            continue
        conditions = _conditions(status, result)
        for kind in result.get("bindingFailureConditions") or ():
            failed = find_condition(conditions, kind)
            if failed is not None and failed.get("status") == "True":
                about = f'reason={failed.get("reason", "")}, message="{failed.get("message", "")}"'
                raise BindingFailed(f"device binding failed: claim={name_of(claim)}, {about}")
        for kind in wanted:
            condition = find_condition(conditions, kind)
            if condition is None or condition.get("status") != "True":
                return False
    return True


def is_overdue(claim: Object, now: float, seconds: float) -> bool:
    """Whether devices with conditions have been allocated for longer than ``seconds``; ``now`` since the epoch."""
    allocation = status_of(claim).get("allocation") or {}
    since = parse_time(allocation.get("allocationTimestamp"))
    return since is not None and waits_for_conditions(allocation) and now - since > seconds


def _conditions(status: Object, result: Object) -> list[Object]:
    """What the driver says of a device."""
    own = ("driver", "pool", "device", "shareID")
    for device in status.get("devices") or ():
        if all(device.get(name) == result.get(name) for name in own):
            return list(device.get("conditions") or ())
    return []

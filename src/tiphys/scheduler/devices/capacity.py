"""How much of a device a request uses that shares it with others. Amounts in billionths. Pure.

Source: KEP-5075 and https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#consumable-capacity
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.meta.quantity import Format, Quantity, parse
from tiphys.api.object import Object


def consumed(requests: Mapping[str, str], device: Object) -> dict[str, Quantity]:
    """What a request uses of each of a device's capacities: what it asks for, rounded up as the device wants it."""
    return {
        name: _consumed(None if name not in requests else parse(requests[name]), capacity)
        for name, capacity in (device.get("capacity") or {}).items()
    }


def _consumed(asked: Quantity | None, capacity: Object) -> Quantity:
    policy = capacity.get("requestPolicy") or {}
    if asked is None:
        return parse(policy["default"] if policy.get("default") is not None else capacity["value"])
    span = policy.get("validRange") or {}
    if span.get("min") is not None:
        return _in_range(asked, parse(span["min"]), span.get("step"))
    values = [parse(text) for text in policy.get("validValues") or ()]
    return next((value for value in values if asked.nano <= value.nano), asked)


def _in_range(asked: Quantity, least: Quantity, step: str | None) -> Quantity:
    if asked.nano < least.nano:
        return least
    if step is None:
        return asked
    size = parse(step).value()
    steps = -(-(asked.value() - least.value()) // size)
    return Quantity.of(least.value() + size * steps, Format.BINARY_SI)


def fits(requests: Mapping[str, str], device: Object, used: Mapping[str, int]) -> bool:
    """Whether a device has what a request wants of it, beside what is used. One without such a capacity has not."""
    capacities = device.get("capacity") or {}
    if not capacities.keys() >= requests.keys():
        return False
    wanted = consumed(requests, device)
    return all(
        _allowed(wanted[name], capacity.get("requestPolicy") or {})
        and wanted[name].nano + used.get(name, 0) <= parse(capacity["value"]).nano
        for name, capacity in capacities.items()
    )


def _allowed(wanted: Quantity, policy: Object) -> bool:
    if policy.get("default") is not None and wanted.nano == parse(policy["default"]).nano:
        return True
    if (span := policy.get("validRange")) is not None:
        if span.get("max") is not None and wanted.nano > parse(span["max"]).nano:
            return False
        if span.get("step") is None:
            return True
        least = parse(span["min"]).value() if span.get("min") is not None else 0
        return (wanted.value() - least) % parse(span["step"]).value() == 0
    values = policy.get("validValues") or ()
    return not values or any(wanted.nano == parse(text).nano for text in values)

"""Whether a device is as a selector wants it: the expression over its attributes and capacities.

It brings the expression language with it, so the allocator imports it with the first selector that there is.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/resource-slice-v1/ and KEP-4381
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.cel import uses
from tiphys.cel.environments import MAX_DEVICE_SELECTOR_COST
from tiphys.cel.evaluator import Program
from tiphys.cel.expression import Expression, Use
from tiphys.cel.library.quantity import Quantity
from tiphys.cel.library.semver import Semver
from tiphys.cel.limits import CostExceeded
from tiphys.cel.uses import UnfitExpression
from tiphys.cel.values import CelError
from tiphys.scheduler.devices.attributes import SelectorError

_KEPT = 512
"""How many compiled expressions are kept; a cluster has a handful of them."""


class _Domains(dict[str, Any]):
    """By domain. One that a device has nothing of is empty, so that asking for an attribute of it is no error."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, {})


@lru_cache(_KEPT)
def _program(text: str) -> Program | UnfitExpression:
    try:
        return Program(uses.compile(Expression(text, Use.DEVICE_SELECTOR)))
    except UnfitExpression as error:
        return error


def matches(text: str, driver: str, device: Object) -> bool:
    """Raises ``SelectorError``."""
    program = _program(text)
    if isinstance(program, UnfitExpression):
        raise SelectorError(f"CEL compile error: {program}")
    try:
        value, _ = program.run({"device": _described(driver, device)}, MAX_DEVICE_SELECTOR_COST)
    except (CelError, CostExceeded, ValueError) as error:
        raise SelectorError(f"CEL runtime error: {error}") from error
    if not isinstance(value, bool):
        raise SelectorError("CEL runtime error: CEL result could not be converted to bool")
    return value


def _described(driver: str, device: Object) -> dict[str, Any]:
    attributes, capacity = _Domains(), _Domains()
    for name, attribute in (device.get("attributes") or {}).items():
        domain, identity = _qualified(name, driver)
        attributes.setdefault(domain, {})[identity] = _value(name, attribute)
    for name, amount in (device.get("capacity") or {}).items():
        domain, identity = _qualified(name, driver)
        capacity.setdefault(domain, {})[identity] = Quantity(parse(amount["value"]))
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
        "attributes": attributes,
        "capacity": capacity,
    }


def _qualified(name: str, driver: str) -> tuple[str, str]:
    """Domain and identifier; a name without a domain is of the driver's."""
    domain, slash, identity = name.partition("/")
    return (domain, identity) if slash else (driver, name)


def _value(name: str, attribute: Object) -> Any:
    """Raises ``ValueError``."""
    for kind in ("int", "bool", "string"):
        if attribute.get(kind) is not None:
            return attribute[kind]
    if attribute.get("version") is not None:
        try:
            return Semver(attribute["version"])
        except ValueError as error:
            raise ValueError(f"attribute {name}: parse semantic version: {error}") from error
    raise ValueError(f"attribute {name}: unsupported attribute value")

"""What a whole pod requests, and is limited to: the sum of its containers, or what its greediest init container needs.

Source: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
"""

from __future__ import annotations

from typing import Any

from tiphys.api.meta.quantity import Quantity, parse

Object = dict[str, Any]
Amounts = dict[str, Quantity]

_POD_LEVEL = ("cpu", "memory")


def pod_requests(spec: Object) -> dict[str, Any]:
    return _total(spec, "requests")


def pod_limits(spec: Object) -> dict[str, Any]:
    return _total(spec, "limits")


def _total(spec: Object, kind: str) -> dict[str, Any]:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = _plus(total, _amounts(container, kind))
    sidecars: Amounts = {}
    start: Amounts = {}
    for container in spec.get("initContainers") or ():
        amounts = _amounts(container, kind)
        if container.get("restartPolicy") == "Always":
            total = _plus(total, amounts)
            sidecars = _plus(sidecars, amounts)
            start = _larger(start, sidecars)
        else:
            start = _larger(start, _plus(amounts, sidecars))
    total = _larger(total, start)
    own = (spec.get("resources") or {}).get(kind) or {}
    total |= {name: parse(str(own[name])) for name in own if name in _POD_LEVEL or name.startswith("hugepages-")}
    return {name: str(quantity) for name, quantity in total.items()}


def _amounts(container: Object, kind: str) -> Amounts:
    found = (container.get("resources") or {}).get(kind) or {}
    return {name: parse(str(value)) for name, value in found.items()}


def _plus(left: Amounts, right: Amounts) -> Amounts:
    return left | {name: left[name] + value if name in left else value for name, value in right.items()}


def _larger(left: Amounts, right: Amounts) -> Amounts:
    return left | {name: value for name, value in right.items() if name not in left or left[name] < value}

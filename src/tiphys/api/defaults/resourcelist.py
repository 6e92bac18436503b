"""Defaults of resource lists: rounding, and what a pod asks for as a whole (KEP-2837, pod level resources)."""

from __future__ import annotations

from typing import Any

from tiphys.api.meta.quantity import Quantity

Object = dict[str, Any]

HUGE_PAGES = "hugepages-"
POD_LEVEL = ("cpu", "memory")


def round_up(holder: Object | None, *keys: str) -> None:
    """Round each amount of the named resource lists up to thousandths, the finest step that the API keeps."""
    if not holder:
        return
    for key in keys:
        amounts = holder.get(key)
        if amounts:
            for name, amount in amounts.items():
                # Canonical whole numbers, milli and larger units are already on the grid.
                if isinstance(amount, str) and (amount[-1:] in ("n", "u") or "." in amount or "e-" in amount.lower()):
                    amounts[name] = str(Quantity(amount).round_up(-3))


def requests_from_limits(container: Object) -> None:
    """What is limited and not requested is requested to its limit."""
    resources = container.get("resources")
    limits = resources.get("limits") if resources else None
    if resources is None or not limits:
        return
    requests = resources.get("requests")
    if requests is None:
        resources["requests"] = dict(limits)
        return
    for name, amount in limits.items():
        requests.setdefault(name, amount)


def pod_level_resource(name: str) -> bool:
    return name in POD_LEVEL or name.startswith(HUGE_PAGES)


def default_pod_level(spec: Object) -> None:
    """Complete ``spec.resources`` from the containers; only where the author wrote some of it."""
    resources = spec.get("resources")
    if resources is None:
        return
    _huge_page_limits(spec, resources)
    _requests(spec, resources)


def _huge_page_limits(spec: Object, resources: Object) -> None:
    if not resources.get("limits") and not resources.get("requests"):
        return
    limits = resources.get("limits") or {}
    requested = resources.get("requests") or {}
    for name, amount in aggregate(spec, "limits").items():
        if name.startswith(HUGE_PAGES) and name not in requested:
            limits.setdefault(name, str(amount))
    if limits:
        resources["limits"] = limits


def _requests(spec: Object, resources: Object) -> None:
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.get("requests") or {}
    for name, amount in aggregate(spec, "requests").items():
        # Huge pages cannot be overcommitted, so their request always comes from the limit.
        if name in POD_LEVEL:
            requests.setdefault(name, str(amount))
    for name, amount in limits.items():
        if pod_level_resource(name):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests


def aggregate(spec: Object, which: str) -> dict[str, Quantity]:
    """What all containers need together: the running ones' sum, or the most that any init container needs.

    A restartable init container (a sidecar) runs on, so it counts with those that start after it.
    """
    total: dict[str, Quantity] = {}
    for container in spec.get("containers") or []:
        _add(total, _amounts(container, which))
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in spec.get("initContainers") or []:
        amounts = _amounts(container, which)
        if container.get("restartPolicy") == "Always":
            _add(total, amounts)
            _add(sidecars, amounts)
            amounts = dict(sidecars)
        else:
            _add(amounts, sidecars)
        _raise_to(peak, amounts)
    _raise_to(total, peak)
    return total


def _amounts(container: Object, which: str) -> dict[str, Quantity]:
    amounts = (container.get("resources") or {}).get(which) or {}
    return {name: Quantity(amount) for name, amount in amounts.items()}


def _add(total: dict[str, Quantity], more: dict[str, Quantity]) -> None:
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def _raise_to(total: dict[str, Quantity], floor: dict[str, Quantity]) -> None:
    for name, amount in floor.items():
        if name not in total or amount > total[name]:
            total[name] = amount

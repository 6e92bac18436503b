"""Defaults of resource lists: rounding, and what a pod asks for as a whole (KEP-2837, pod level resources)."""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import HUGE_PAGES, container_sum, is_pod_level


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


def default_pod_level(spec: Object) -> None:
    """Complete ``spec.resources`` from the containers; only if the author wrote some of it."""
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
    for name, amount in container_sum(spec, "limits").items():
        if name.startswith(HUGE_PAGES) and name not in requested:
            limits.setdefault(name, str(amount))
    if limits:
        resources["limits"] = limits


def _requests(spec: Object, resources: Object) -> None:
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.get("requests") or {}
    for name, amount in container_sum(spec, "requests").items():
        # Huge pages cannot be overcommitted, so their request always equals the limit.
        if is_pod_level(name) and not name.startswith(HUGE_PAGES):
            requests.setdefault(name, str(amount))
    for name, amount in limits.items():
        if is_pod_level(name):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests

"""LimitRanger: defaults for the resources of containers, and their bounds, per namespace.

Source: https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from tiphys.api.fielderrors import MOST
from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.object import Object
from tiphys.api.pods.resources import pod_limits, pod_requests
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.registries import Registries

Amounts = dict[str, Any]

_ANNOTATION = "kubernetes.io/limit-ranger"
_MOST_ADDED = 250_000
"""Resources; a pod with a tenth of them is longer than the store takes."""


class LimitRanger(Plugin):
    resources = frozenset((("", "pods"), ("", "persistentvolumeclaims")))
    operations = frozenset((CREATE, UPDATE))
    subresources = frozenset(("", "resize"))

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def _ranges(self, attributes: Attributes) -> list[list[Object]]:
        """The limits of each range that counts for the request."""
        is_pod = attributes.plural == "pods"
        if is_pod and attributes.operation == UPDATE and attributes.subresource != "resize":
            return []
        if attributes.old is not None and "deletionTimestamp" in attributes.old["metadata"]:
            return []
        ranges = self._registries.get("", "limitranges")
        limit_ranges = [ranges.shared_object(entry) for entry in await ranges.every(attributes.namespace)]
        return [item["spec"].get("limits") or [] for item in limit_ranges]

    async def admit(self, attributes: Attributes) -> None:
        if attributes.plural == "pods":
            for limits in await self._ranges(attributes):
                if not await attributes.work(partial(set_defaults, attributes.new(), limits)):
                    raise forbid(
                        attributes, f"limit ranges would add more than {_MOST_ADDED} resources to its containers"
                    )

    async def validate(self, attributes: Attributes) -> None:
        limits = [limit for limits in await self._ranges(attributes) for limit in limits]
        if not limits:
            return
        check = _check_pod if attributes.plural == "pods" else _check_claim
        complaints = check(attributes.new(), limits)
        problems = await attributes.work(lambda: list(islice(complaints, MOST)))
        if problems:
            text = problems[0] if len(set(problems)) == 1 else f"[{', '.join(dict.fromkeys(problems))}]"
            raise forbid(attributes, text)


def set_defaults(pod: Object, limits: list[Object]) -> bool:
    """Set resources that containers leave out, from a range's limits of type Container.

    Returns False, and sets none, if so many containers times so many resources are more than a pod can have.
    """
    requests: Amounts = {}
    bounds: Amounts = {}
    for limit in limits:
        if limit.get("type") == "Container":
            requests |= limit.get("defaultRequest") or {}
            bounds |= limit.get("default") or {}
    spec = pod["spec"]
    containers = len(spec.get("containers") or ()) + len(spec.get("initContainers") or ())
    if containers * (len(requests) + len(bounds)) > _MOST_ADDED:
        return False
    changes: list[str] = []
    for kind, word in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(kind) or ():
            changes += _merge(container, "requests", requests, f" request for {word} {container['name']}")
            changes += _merge(container, "limits", bounds, f" limit for {word} {container['name']}")
    if changes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = f"LimitRanger plugin set: {'; '.join(changes)}"
    return True


def _merge(container: Object, kind: str, defaults: Amounts, text: str) -> list[str]:
    resources = container.setdefault("resources", {})
    given = resources.get(kind) or {}
    missing = sorted(defaults.keys() - given.keys())
    if not missing:
        return []
    resources[kind] = {**given, **{name: defaults[name] for name in missing}}
    return [", ".join(missing) + text]


# -- bounds

Check = Callable[[str, str, Quantity, Amounts, Amounts], str]


def _check_pod(pod: Object, limits: list[Object]) -> Iterator[str]:
    spec = pod["spec"]
    for limit in limits:
        if limit["type"] == "Container":
            for container in [*(spec["containers"] or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                yield from _bounds(limit, resources.get("requests") or {}, resources.get("limits") or {})
        elif limit["type"] == "Pod":
            yield from _bounds(limit, pod_requests(pod, overhead=False), pod_limits(pod, overhead=False))


def _bounds(limit: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    """What is missing, or out of bounds; a container that misses none has as many resources as there are bounds."""
    checks: tuple[tuple[str, Check], ...] = (("min", _minimum), ("max", _maximum), ("maxLimitRequestRatio", _ratio))
    for kind, check in checks:
        for name, text in (limit.get(kind) or {}).items():
            if problem := check(limit["type"], name, parse(text), requests, limits):
                yield problem


def _check_claim(claim: Object, limits: list[Object]) -> Iterator[str]:
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    for limit in limits:
        if limit["type"] != "PersistentVolumeClaim":
            continue
        for name, text in (limit.get("min") or {}).items():
            if problem := _minimum(limit["type"], name, parse(text), requests, {}):
                yield problem
        for name, text in (limit.get("max") or {}).items():
            if problem := _maximum_request(limit["type"], name, parse(text), requests):
                yield problem


def _quantity(amounts: Amounts, name: str) -> Quantity | None:
    value = amounts.get(name)
    return None if value is None else parse(str(value))


def _minimum(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    request, limit = _quantity(requests, name), _quantity(limits, name)
    start = f"minimum {name} usage per {kind} is {bound}"
    if request is None:
        return f"{start}.  No request is specified"
    if request < bound:
        return f"{start}, but request is {request}"
    if limit is not None and limit < bound:
        return f"{start}, but limit is {limit}"
    return ""


def _maximum(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    request, limit = _quantity(requests, name), _quantity(limits, name)
    start = f"maximum {name} usage per {kind} is {bound}"
    if limit is None:
        return f"{start}.  No limit is specified"
    if bound < limit:
        return f"{start}, but limit is {limit}"
    if request is not None and bound < request:
        return f"{start}, but request is {request}"
    return ""


def _maximum_request(kind: str, name: str, bound: Quantity, requests: Amounts) -> str:
    request = _quantity(requests, name)
    start = f"maximum {name} usage per {kind} is {bound}"
    if request is None:
        return f"{start}.  No request is specified"
    return f"{start}, but request is {request}" if bound < request else ""


def _ratio(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    request, limit = _quantity(requests, name), _quantity(limits, name)
    start = f"{name} max limit to request ratio per {kind} is {bound}"
    if request is None or not request:
        return f"{start}, but no request is specified or request is 0"
    if limit is None or not limit:
        return f"{start}, but no limit is specified or limit is 0"
    ratio = limit.as_float() / request.as_float()
    return f"{start}, but provided ratio is {ratio:f}" if ratio > bound.as_float() else ""

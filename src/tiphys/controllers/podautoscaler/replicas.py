"""How many replicas a metric asks for. Amounts are integers, in thousandths.

Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import has_pod_level_requests, pod_requests
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    condition,
    is_deleting,
    name_of,
    parse_time,
    status_of,
)

_MOST = 2**31 - 1
_NO_PODS = "no pods returned by selector while calculating replica count"
_NO_METRICS = "did not receive metrics for targeted pods (pods might be unready)"


class CannotCompute(Exception):
    """Why a metric gives no number of replicas."""


@dataclass(frozen=True, slots=True)
class PodMetric:
    """What a pod used on average in the ``window`` seconds before ``time``."""

    value: int
    time: float = 0.0
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Deviations of the ratio from 1 that are let be."""

    down: float = 0.1
    up: float = 0.1

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Startup:
    """How the use of CPU by pods that have just started is judged, in seconds."""

    cpu_initialization: float = 300.0
    initial_readiness_delay: float = 30.0


@dataclass(frozen=True, slots=True)
class Groups:
    """``ready`` counts pods with a usable metric; ``ignored`` are being deleted."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """``average`` is the use per pod; ``utilization`` that in percent of the request, if it was requested."""

    replicas: int
    average: int
    utilization: int | None = None


def group(
    pods: Iterable[Object], metrics: Mapping[str, PodMetric], resource: str, startup: Startup, now: float
) -> Groups:
    """Sort pods by what their metrics are good for; ``now`` in seconds since the epoch."""
    ready, unready, missing, ignored = 0, set(), set(), set()
    for pod in pods:
        name, phase = name_of(pod), podkit.phase_of(pod)
        if is_deleting(pod) or phase == "Failed":
            ignored.add(name)
        elif phase == "Pending":
            unready.add(name)
        elif name not in metrics:
            missing.add(name)
        elif resource == "cpu" and _is_starting(pod, metrics[name], startup, now):
            unready.add(name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_starting(pod: Object, metric: PodMetric, startup: Startup, now: float) -> bool:
    """Whether the pod's use of CPU is that of its start, which says nothing about its load."""
    ready, started = condition(pod, "Ready"), parse_time(status_of(pod).get("startTime"))
    if ready is None or started is None:
        return True
    since = parse_time(ready.get("lastTransitionTime")) or 0.0
    not_ready = bool(ready["status"] == "False")
    if started + startup.cpu_initialization > now:
        return not_ready or metric.time < since + metric.window
    return not_ready and started + startup.initial_readiness_delay > since


def requests_of(pods: Iterable[Object], container: str, resource: str) -> dict[str, int]:
    """What each pod, or that container of it, requests. Raises ``CannotCompute`` if one requests nothing."""
    return {name_of(pod): _request(pod, container, resource) for pod in pods}


def _request(pod: Object, container: str, resource: str) -> int:
    spec = pod["spec"]
    if not container and has_pod_level_requests(spec):
        request = pod_requests(pod).get(resource)
        if request is None:
            raise CannotCompute(f"missing pod-level request for {resource} in Pod {name_of(pod)}")
        return request.milli_value()
    sidecars = [init for init in spec.get("initContainers") or () if init.get("restartPolicy") == "Always"]
    chosen = [one for one in [*spec["containers"], *sidecars] if container in ("", one["name"])]
    if not chosen and container:
        raise CannotCompute(f"container {container} not found in Pod {name_of(pod)}")
    total = 0
    for one in chosen:
        amount = ((one.get("resources") or {}).get("requests") or {}).get(resource)
        if amount is None:
            raise CannotCompute(f"missing request for {resource} in container {one['name']} of Pod {name_of(pod)}")
        total += Quantity(str(amount)).milli_value()
    return total


def by_utilization(
    current: int,
    metrics: Mapping[str, PodMetric],
    groups: Groups,
    requests: Mapping[str, int],
    target: int,
    tolerance: Tolerance,
) -> Proposal:
    """To bring the use to ``target`` percent of the request."""

    def utilization(values: Mapping[str, int]) -> tuple[int, int]:
        known = [name for name in values if name in requests]
        total, requested = sum(values[name] for name in known), sum(requests[name] for name in known)
        if requested == 0:
            raise CannotCompute("no metrics returned matched known pods")
        return total * 100 // requested, total // len(known)

    values = _usable(metrics, groups)
    percentage, average = utilization(values)
    replicas = _replicas(
        current,
        values,
        groups,
        tolerance,
        ratio_of=lambda values: utilization(values)[0] / target,
        assumed=lambda name: requests[name] * max(100, target) // 100,
    )
    return Proposal(replicas, average, percentage)


def by_average(
    current: int, metrics: Mapping[str, PodMetric], groups: Groups, target: int, tolerance: Tolerance
) -> Proposal:
    """To bring the average to ``target``."""

    def average(values: Mapping[str, int]) -> int:
        return sum(values.values()) // len(values)

    values = _usable(metrics, groups)
    replicas = _replicas(
        current,
        values,
        groups,
        tolerance,
        ratio_of=lambda values: average(values) / target,
        assumed=lambda name: target,
    )
    return Proposal(replicas, average(values))


def _usable(metrics: Mapping[str, PodMetric], groups: Groups) -> dict[str, int]:
    left_out = groups.ignored | groups.unready
    values = {name: metric.value for name, metric in metrics.items() if name not in left_out}
    if not values:
        raise CannotCompute(_NO_METRICS)
    return values


def _replicas(
    current: int,
    values: Mapping[str, int],
    groups: Groups,
    tolerance: Tolerance,
    ratio_of: Callable[[Mapping[str, int]], float],
    assumed: Callable[[str], int],
) -> int:
    """Pods of which nothing is known count against the change that the others ask for.

    On scaling down they are taken to use ``assumed``, on scaling up nothing.
    """
    ratio = ratio_of(values)
    unready_matter = bool(groups.unready) and ratio > 1.0
    if not unready_matter and not groups.missing:
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.ready)
    filled = dict(values)
    if ratio < 1.0:
        filled |= {name: assumed(name) for name in groups.missing}
    elif ratio > 1.0:
        filled |= dict.fromkeys(groups.missing, 0)
    if unready_matter:
        filled |= dict.fromkeys(groups.unready, 0)
    careful = ratio_of(filled)
    if tolerance.covers(careful) or (ratio < 1.0 < careful) or (careful < 1.0 < ratio):
        return current
    proposal = math.ceil(careful * len(filled))
    turned = (careful < 1.0 and proposal > current) or (careful > 1.0 and proposal < current)
    return current if turned else proposal


def by_total(current: int, usage: int, target: int, tolerance: Tolerance, pods: Iterable[Object]) -> Proposal:
    """To bring a value that all pods serve together to ``target``."""
    ratio = usage / target
    if current == 0:
        return Proposal(math.ceil(ratio), usage)
    if tolerance.covers(ratio):
        return Proposal(current, usage)
    listed = list(pods)
    if not listed:
        raise CannotCompute(f"unable to calculate ready pods: {_NO_PODS}")
    ready = sum(podkit.phase_of(pod) == "Running" and podkit.is_ready(pod) for pod in listed)
    return Proposal(min(math.ceil(ratio * ready), _MOST), usage)


def by_total_per_pod(current: int, usage: int, target: int, tolerance: Tolerance) -> Proposal:
    """To bring such a value, divided among the pods, to ``target``."""
    if current == 0:
        return Proposal(min(math.ceil(usage / target), _MOST), 0)
    replicas = current
    if not tolerance.covers(usage / (target * current)):
        replicas = min(math.ceil(usage / target), _MOST)
    return Proposal(replicas, math.ceil(usage / current))


def require_pods(pods: list[Object]) -> list[Object]:
    if not pods:
        raise CannotCompute(_NO_PODS)
    return pods

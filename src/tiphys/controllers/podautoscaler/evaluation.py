"""One metric of an autoscaler's spec: what it reads, what it asks for, and how the status shows it.

Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tiphys.api import gotext
from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.object import Object
from tiphys.controlkit.discovery import Discovered
from tiphys.controlkit.objects import (
    namespace_of,
)
from tiphys.controllers.podautoscaler import replicas
from tiphys.controllers.podautoscaler.metrics import MetricsReader
from tiphys.controllers.podautoscaler.replicas import CannotCompute, Proposal, Startup, Tolerance


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """What is scaled: its present numbers in spec and status, its selector, and the pods that this chooses."""

    spec_replicas: int
    status_replicas: int
    selector: str
    pods: list[Object]


@dataclass(frozen=True, slots=True)
class Evaluated:
    replicas: int
    name: str
    """As reasons of events call the metric."""
    status: Object


class Failed(Exception):
    """The metric cannot be evaluated. ``reason`` and ``text`` are for the event and the condition."""

    def __init__(self, reason: str, text: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.text = reason, text


@dataclass(frozen=True, slots=True)
class Evaluation:
    metrics: MetricsReader
    startup: Startup
    tolerance: Tolerance
    kinds: Discovered
    hpa: Object
    target: ScaledObject
    now: float

    async def evaluate(self, spec: Object) -> Evaluated:
        type_ = spec["type"]
        if type_ not in _SOURCES:
            message = f'unknown metric source type "{type_}"'
            raise Failed("InvalidMetricSourceType", message, message)
        field, source, prefix = _SOURCES[type_]
        try:
            return await source(self, spec[field])
        except CannotCompute as error:
            raise Failed(f"FailedGet{type_}Metric", str(error), f"{prefix(spec)}: {error}") from error

    async def _resource(self, source: Object) -> Evaluated:
        name, proposal = await self._usage(source, "")
        average = "averageValue" in source["target"]
        title = f"{name} resource" if average else f"{name} resource utilization (percentage of request)"
        status = {"type": "Resource", "resource": {"name": name, "current": _usage_status(name, proposal)}}
        return Evaluated(proposal.replicas, title, status)

    async def _container_resource(self, source: Object) -> Evaluated:
        container = source["container"]
        name, proposal = await self._usage(source, container)
        average = "averageValue" in source["target"]
        title = f"{name} resource" if average else f"{name} container resource utilization (percentage of request)"
        current = {"name": name, "container": container, "current": _usage_status(name, proposal)}
        return Evaluated(proposal.replicas, title, {"type": "ContainerResource", "containerResource": current})

    async def _usage(self, source: Object, container: str) -> tuple[str, Proposal]:
        name, target = source["name"], source["target"]
        if target.get("averageValue") is None and target.get("averageUtilization") is None:
            message = "neither an average utilization target nor an average value (usage) target was set"
            raise CannotCompute(f"invalid resource metric source: {message}")
        sort = "usage" if target.get("averageValue") is not None else "utilization"
        try:
            return name, await self._usage_proposal(name, target, container)
        except CannotCompute as error:
            raise CannotCompute(f"failed to get {name} {sort}: {error}") from error

    async def _usage_proposal(self, name: str, target: Object, container: str) -> Proposal:
        metrics = await self.metrics.of_pods(namespace_of(self.hpa), self.target.selector, name, container)
        pods = replicas.require_pods(self.target.pods)
        groups = replicas.group(pods, metrics, name, self.startup, self.now)
        current = self.target.spec_replicas
        if target.get("averageValue") is not None:
            return replicas.by_average(current, metrics, groups, _milli(target["averageValue"]), self.tolerance)
        if not metrics.keys() - groups.ignored - groups.unready:
            raise CannotCompute("did not receive metrics for targeted pods (pods might be unready)")
        requests = replicas.requests_of(pods, container, name)
        wanted = target["averageUtilization"]
        return replicas.by_utilization(current, metrics, groups, requests, wanted, self.tolerance)

    async def _pods(self, source: Object) -> Evaluated:
        metric = source["metric"]
        metrics = await self.metrics.custom_of_pods(namespace_of(self.hpa), self.target.selector, metric)
        groups = replicas.group(replicas.require_pods(self.target.pods), metrics, "", self.startup, self.now)
        wanted = _milli(source["target"]["averageValue"])
        proposal = replicas.by_average(self.target.spec_replicas, metrics, groups, wanted, self.tolerance)
        current = {"averageValue": _quantity(proposal.average)}
        status = {"type": "Pods", "pods": {"metric": metric, "current": current}}
        return Evaluated(proposal.replicas, f"pods metric {metric['name']}", status)

    async def _object(self, source: Object) -> Evaluated:
        metric, target, thing = source["metric"], source["target"], source["describedObject"]
        if target["type"] not in ("Value", "AverageValue"):
            raise CannotCompute(
                "invalid object metric source: neither a value target nor an average value target was set"
            )

        async def read() -> int:
            return await self.metrics.custom_of_object(self.kinds, namespace_of(self.hpa), thing, metric)

        if target["type"] == "Value":
            proposal, current = await self._total(read, target)
            title = f"{thing['kind']} metric {metric['name']}"
        else:
            try:
                proposal, current = await self._total(read, target)
            except CannotCompute as error:
                raise CannotCompute(f"failed to get {metric['name']} object metric: {error}") from error
            title = f"external metric {metric['name']}({gotext.label_selector(metric.get('selector'))})"
        status = {"type": "Object", "object": {"metric": metric, "describedObject": thing, "current": current}}
        return Evaluated(proposal.replicas, title, status)

    async def _external(self, source: Object) -> Evaluated:
        """Evaluate an external metric. Raises ``CannotCompute``."""
        metric, target = source["metric"], source["target"]
        average = target.get("averageValue") is not None
        if not average and target.get("value") is None:
            raise CannotCompute(
                "invalid external metric source: neither a value target nor an average value target was set"
            )

        async def read() -> int:
            return await self.metrics.external(namespace_of(self.hpa), metric)

        try:
            proposal, current = await self._total(read, target)
        except CannotCompute as error:
            what = f"{metric['name']} external metric" if average else f"external metric {metric['name']}"
            raise CannotCompute(f"failed to get {what}: {error}") from error
        status = {"type": "External", "external": {"metric": metric, "current": current}}
        return Evaluated(
            proposal.replicas,
            f"external metric {metric['name']}({gotext.label_selector(metric.get('selector'))})",
            status,
        )

    async def _total(self, read: Callable[[], Awaitable[int]], target: Object) -> tuple[Proposal, Object]:
        """The proposal for a value that all pods serve together, and how the status shows the value."""
        usage = await read()
        if target.get("averageValue") is not None:
            wanted = _milli(target["averageValue"])
            proposal = replicas.by_total_per_pod(self.target.status_replicas, usage, wanted, self.tolerance)
            return proposal, {"averageValue": _quantity(proposal.average)}
        wanted = _milli(target["value"])
        proposal = replicas.by_total(self.target.spec_replicas, usage, wanted, self.tolerance, self.target.pods)
        return proposal, {"value": _quantity(proposal.average)}


_Source = tuple[str, Callable[[Evaluation, Object], Awaitable[Evaluated]], Callable[[Object], str]]

_SOURCES: dict[str, _Source] = {
    "Resource": (
        "resource",
        Evaluation._resource,
        lambda spec: f"failed to get {spec['resource']['name']} resource metric value",
    ),
    "ContainerResource": (
        "containerResource",
        Evaluation._container_resource,
        lambda spec: f"failed to get {spec['containerResource']['container']} container metric value",
    ),
    "Pods": ("pods", Evaluation._pods, lambda spec: "failed to get pods metric value"),
    "Object": ("object", Evaluation._object, lambda spec: "failed to get object metric value"),
    "External": (
        "external",
        Evaluation._external,
        lambda spec: f"failed to get {spec['external']['metric']['name']} external metric value",
    ),
}
"""By type: the field of the spec, how it is evaluated, and how a failure's message begins."""


def _milli(text: str) -> int:
    return Quantity(str(text)).milli_value()


def _quantity(milli: int, format_: Format = Format.DECIMAL_SI) -> str:
    return str(Quantity.of_milli(milli, format_))


def _usage_status(name: str, proposal: Proposal) -> Object:
    format_ = Format.BINARY_SI if name == "memory" else Format.DECIMAL_SI
    current: Object = {"averageValue": _quantity(proposal.average, format_)}
    if proposal.utilization is not None:
        current["averageUtilization"] = proposal.utilization
    return current

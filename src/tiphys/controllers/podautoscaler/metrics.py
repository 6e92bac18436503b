"""The metrics APIs, which others serve behind the API server: resource, custom and external metrics.

Source: https://github.com/kubernetes/metrics
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from tiphys.api import gotext
from tiphys.api.meta.quantity import Quantity
from tiphys.api.meta.selectors import SelectorError, selector_from_object
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.controlkit.discovery import Discovered
from tiphys.controlkit.objects import (
    parse_time,
)
from tiphys.controllers.podautoscaler.replicas import CannotCompute, PodMetric

_POD_METRICS = ResourcePath("metrics.k8s.io", "v1beta1", "pods")
_CUSTOM = "custom.metrics.k8s.io"
_EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
_DEFAULT_WINDOW = 60.0
_DURATION = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_NOT_SERVED = "the server could not find the requested resource"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class MetricsReader:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def of_pods(self, namespace: str, selector: str, resource: str, container: str) -> dict[str, PodMetric]:
        """What pods use of ``resource``, or that one container of each if ``container`` is not empty."""
        try:
            answer = await self._client.list(_POD_METRICS, namespace, label_selector=selector)
        except errors.ApiError as error:
            message = f"unable to fetch metrics from resource metrics API: {_message(error, 'pods.metrics.k8s.io')}"
            raise CannotCompute(f"unable to get metrics for resource {resource}: {message}") from error
        items = answer.get("items") or ()
        if not items:
            message = "no metrics returned from resource metrics API"
            raise CannotCompute(f"unable to get metrics for resource {resource}: {message}")
        metrics = {}
        for item in items:
            value = used(item, resource, container)
            if value is not None:
                window = seconds(item.get("window") or "")
                metrics[item["metadata"]["name"]] = PodMetric(value, parse_time(item.get("timestamp")) or 0.0, window)
        return metrics

    async def custom_of_pods(self, namespace: str, selector: str, metric: Object) -> dict[str, PodMetric]:
        trouble = f"unable to get metric {metric['name']}"
        items = await self._custom(f"namespaces/{namespace}/pods/*", metric, selector, trouble)
        metrics = {}
        for item in items:
            value, at = Quantity(str(item["value"])).milli_value(), parse_time(item.get("timestamp")) or 0.0
            window = item.get("windowSeconds")
            metrics[item["describedObject"]["name"]] = PodMetric(
                value, at, _DEFAULT_WINDOW if window is None else window
            )
        return metrics

    async def custom_of_object(self, kinds: Discovered, namespace: str, target: Object, metric: Object) -> int:
        """A custom metric of one object, in thousandths. Raises ``CannotCompute``."""
        kind, name = target["kind"], target["name"]
        group = target.get("apiVersion", "").rpartition("/")[0]
        trouble = f"unable to get metric {metric['name']}"
        ending = f" on {kind} {namespace}/{name}"
        if (group, kind) == ("", "Namespace"):
            place = f"namespaces/{namespace}/metrics"
        else:
            served = kinds.find(group, kind)
            if served is None:
                raise CannotCompute(f"{trouble}: {no_match(group, kind)}{ending}")
            plural = f"{served.path.plural}.{group}" if group else served.path.plural
            place = f"namespaces/{namespace}/{plural}/{name}"
        items = await self._custom(place, metric, "", trouble, ending)
        return Quantity(str(items[0]["value"])).milli_value()

    async def _custom(self, place: str, metric: Object, selector: str, trouble: str, ending: str = "") -> list[Object]:
        asked = {"metricLabelSelector": _selector(metric)} if metric.get("selector") else {}
        if selector:
            asked["labelSelector"] = selector
        try:
            items = await self._newest(f"{place}/{metric['name']}", asked)
        except errors.ApiError as error:
            why = f"no custom metric API ({_CUSTOM}) registered" if _is_not_served(error) else error.message
            message = f"unable to fetch metrics from custom metrics API: {why}"
            raise CannotCompute(f"{trouble}: {message}{ending}") from error
        if not items:
            raise CannotCompute(f"{trouble}: no metrics returned from custom metrics API{ending}")
        return items

    async def external(self, namespace: str, metric: Object) -> int:
        """The sum of all series that match."""
        asked = {"labelSelector": _selector(metric)} if metric.get("selector") else {}
        selector = gotext.label_selector(metric.get("selector"))
        trouble = f"unable to get external metric {namespace}/{metric['name']}/{selector}"
        try:
            items = await self._items(f"{_EXTERNAL}/namespaces/{namespace}/{metric['name']}", asked)
        except errors.ApiError as error:
            why = _message(error, f"{metric['name']}.external.metrics.k8s.io")
            message = f"unable to fetch metrics from external metrics API: {why}"
            raise CannotCompute(f"{trouble}: {message}") from error
        if not items:
            raise CannotCompute(f"{trouble}: no metrics returned from external metrics API")
        return sum(Quantity(str(item["value"])).milli_value() for item in items)

    async def _newest(self, place: str, params: dict[str, str]) -> list[Object]:
        try:
            return await self._items(f"/apis/{_CUSTOM}/v1beta2/{place}", params)
        except errors.NotFound as error:
            if not _is_not_served(error):
                raise
            return await self._items(f"/apis/{_CUSTOM}/v1beta1/{place}", params)

    async def _items(self, path: str, params: dict[str, str]) -> list[Object]:
        response = await self._client.request("GET", path, params=params)
        answer: dict[str, Any] = orjson.loads(await response.read())
        return answer.get("items") or []


def used(item: Object, resource: str, container: str) -> int | None:
    """What a PodMetrics object reports; None if a container's part is missing."""
    containers = [one for one in item.get("containers") or () if container in ("", one["name"])]
    amounts = [(one.get("usage") or {}).get(resource) for one in containers]
    if not amounts or None in amounts:
        return None
    return sum(Quantity(str(amount)).milli_value() for amount in amounts)


def seconds(text: str) -> float:
    """Of a duration such as ``1m30s``."""
    parts: Iterable[tuple[str, str]] = _DURATION.findall(text)
    return sum(float(amount) * _UNITS[unit] for amount, unit in parts)


def no_match(group: str, kind: str) -> str:
    return f'no matches for kind "{kind}" in group "{group}"'


def _is_not_served(error: errors.ApiError) -> bool:
    """Whether there is no such API, rather than no such object in it."""
    return isinstance(error, errors.NotFound) and (not error.reason or error.message == _NOT_SERVED)


def _message(error: errors.ApiError, resource: str) -> str:
    """In client-go's words, which name the resource if nobody serves the API, or who does is away."""
    if _is_not_served(error):
        return f"{_NOT_SERVED} (get {resource})"
    if error.code == 503 and not error.reason:
        return f"the server is currently unable to handle the request (get {resource})"
    return error.message


def _selector(metric: Object) -> str:
    try:
        return str(selector_from_object(metric["selector"]))
    except SelectorError as error:
        raise CannotCompute(str(error)) from error

"""NodeMetrics and PodMetrics, and their lists and tables, as the API shows them.

Source: https://github.com/kubernetes/metrics/blob/master/pkg/apis/metrics/v1beta1/types.go
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tiphys.addons.metricsserver.usage import Rate
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object

API_VERSION = "metrics.k8s.io/v1beta1"


def node_metrics(node: Object, rate: Rate, now: float) -> Object:
    return {**_head("NodeMetrics", node, now), **_measured([rate]), "usage": usage(rate)}


def pod_metrics(pod: Object, rates: Mapping[str, Rate], now: float) -> Object:
    """A pod's use; ``rates`` by container."""
    containers = [{"name": name, "usage": usage(rates[name])} for name in sorted(rates)]
    return {**_head("PodMetrics", pod, now), **_measured(rates.values()), "containers": containers}


def _head(kind: str, obj: Object, now: float) -> Object:
    """Names and labels of the object that is measured."""
    meta = {name: obj["metadata"][name] for name in ("name", "namespace") if obj["metadata"].get(name)}
    meta["creationTimestamp"] = format_time(now)
    if labels := obj["metadata"].get("labels"):
        meta["labels"] = labels
    return {"kind": kind, "apiVersion": API_VERSION, "metadata": meta}


def _measured(rates: Iterable[Rate]) -> Object:
    """The oldest of the measurements, and its window."""
    oldest = min(rates, key=lambda rate: rate.timestamp)
    return {"timestamp": format_time(oldest.timestamp), "window": duration(oldest.window)}


def usage(rate: Rate) -> Object:
    """Quantities in the canonical form that upstream's have."""
    return {"cpu": _scaled(rate.cpu), "memory": _binary(rate.memory)}


def _scaled(nanocores: int) -> str:
    for suffix in ("n", "u", "m"):
        if nanocores == 0 or nanocores % 1000:
            return f"{nanocores}{suffix}" if nanocores else "0"
        nanocores //= 1000
    return str(nanocores)


def _binary(size: int) -> str:
    for suffix in ("", "Ki", "Mi", "Gi", "Ti"):
        if size % 1024 or not size:
            return f"{size}{suffix}" if size else "0"
        size //= 1024
    return f"{size}Pi"


def duration(seconds: float) -> str:
    """As Go prints a duration: ``15.02s``, ``1m0s``."""
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{text}s" if minutes else f"{text}s"


def listed(kind: str, items: list[Object]) -> Object:
    """A list of ``kind``; items of a list name no kind."""
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": f"{kind}List", "apiVersion": API_VERSION, "metadata": {}, "items": bare}


_COLUMNS = {
    "NodeMetrics": (("Name", "name"), ("cpu", ""), ("memory", ""), ("Window", "")),
    "PodMetrics": (("Name", "name"), ("cpu", ""), ("memory", ""), ("Window", "")),
}


def table(kind: str, items: list[Object], rates: list[Rate]) -> Object:
    """A table of objects; ``rates`` are the sums that its cells show."""
    columns = [
        {"name": name, "type": "string", "format": format, "description": "", "priority": 0}
        for name, format in _COLUMNS[kind]
    ]
    rows = []
    for item, rate in zip(items, rates, strict=True):
        used = usage(rate)
        cells = [item["metadata"]["name"], used["cpu"], used["memory"], item["window"]]
        shown = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        rows.append({"cells": cells, "object": shown})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    }


_VERBS = ["get", "list"]
RESOURCES: Object = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": API_VERSION,
    "resources": [
        {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": _VERBS},
        {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": _VERBS},
    ],
}
_VERSION = {"groupVersion": API_VERSION, "version": "v1beta1"}
GROUP: Object = {
    "kind": "APIGroup",
    "apiVersion": "v1",
    "name": "metrics.k8s.io",
    "versions": [_VERSION],
    "preferredVersion": _VERSION,
}

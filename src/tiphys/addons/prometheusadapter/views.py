"""MetricValueList and ExternalMetricValueList, and the documents of discovery, as the APIs show them. Pure.

Source: https://github.com/kubernetes/metrics/tree/master/pkg/apis
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tiphys.addons.prometheusadapter.catalog import Catalog
from tiphys.addons.prometheusadapter.prometheus import Sample
from tiphys.api.meta.quantity import Quantity
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.controlkit.discovery import ServedResource

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
VERSIONS = {CUSTOM: ("v1beta2", "v1beta1"), EXTERNAL: ("v1beta1",)}
"""Of each group, the preferred one first."""
_MOST = 2**63 - 1


def quantity(value: float) -> str:
    """In thousandths; what is no number is zero, as upstream's adapter has it."""
    if math.isnan(value):
        return "0"
    return str(Quantity.of_milli(int(max(-_MOST, min(value * 1000, _MOST)))))


def custom_value(
    version: str, resource: ServedResource, namespace: str, name: str, metric: str, sample: Sample
) -> Object:
    about: Object = {"kind": resource.kind, "name": name, "apiVersion": resource.api_version}
    if namespace:
        about["namespace"] = namespace
    named = {"metricName": metric, "selector": None} if version == "v1beta1" else {"metric": {"name": metric}}
    return {
        "describedObject": about,
        **named,
        "timestamp": format_time(sample.at),
        "value": quantity(sample.value),
    }


def custom_list(version: str, items: list[Object]) -> Object:
    return {"kind": "MetricValueList", "apiVersion": f"{CUSTOM}/{version}", "metadata": {}, "items": items}


def external_list(metric: str, samples: Iterable[Sample]) -> Object:
    items = [
        {
            "metricName": metric,
            "metricLabels": sample.labels,
            "timestamp": format_time(sample.at),
            "value": quantity(sample.value),
        }
        for sample in samples
    ]
    return {"kind": "ExternalMetricValueList", "apiVersion": f"{EXTERNAL}/v1beta1", "metadata": {}, "items": items}


def group(name: str) -> Object:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in VERSIONS[name]]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}


def groups() -> Object:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name) for name in VERSIONS]}


def resources(name: str, version: str, catalog: Catalog) -> Object:
    """The APIResourceList of one version: a resource for each metric."""
    rows = _external(catalog) if name == EXTERNAL else _custom(catalog)
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{name}/{version}", "resources": rows}


def _custom(catalog: Catalog) -> list[Object]:
    rows = []
    for (about, metric), source in sorted(catalog.custom.items(), key=lambda row: row[0]):
        prefix = ".".join(filter(None, (about[1], about[0])))
        rows.append(_row(f"{prefix}/{metric}", "MetricValueList", is_namespaced=bool(source.namespace_label)))
    return rows


def _external(catalog: Catalog) -> list[Object]:
    return [_row(metric, "ExternalMetricValueList", is_namespaced=True) for metric in sorted(catalog.external)]


def _row(name: str, kind: str, *, is_namespaced: bool) -> Object:
    return {"name": name, "singularName": "", "namespaced": is_namespaced, "kind": kind, "verbs": ["get"]}

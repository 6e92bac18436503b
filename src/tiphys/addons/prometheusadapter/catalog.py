"""``Catalog``: which metrics there are, of which kinds of objects, and by which rule and series each is read. Pure.

Source: https://github.com/kubernetes-sigs/prometheus-adapter/blob/master/docs/config.md#discovery
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.addons.prometheusadapter.rules import NAMESPACES, MetricRule
from tiphys.controlkit.discovery import ServedResource

GroupResource = tuple[str, str]
"""Group and plural."""


@dataclass(frozen=True, slots=True)
class MetricSource:
    """Where a metric's values are: a series, under a rule; labels name the object and its namespace.

    ``namespace_label`` is empty for what has no namespace, ``label`` for an external metric.
    """

    rule: MetricRule
    series: str
    label: str = ""
    namespace_label: str = ""


@dataclass(slots=True)
class Catalog:
    custom: dict[tuple[GroupResource, str], MetricSource] = field(default_factory=dict)
    """By kind of object and metric."""
    external: dict[str, MetricSource] = field(default_factory=dict)
    resources: dict[GroupResource, ServedResource] = field(default_factory=dict)
    """What of the cluster's kinds was known when this was made."""


class Labels:
    """Which label names which kind of object, under one rule."""

    def __init__(self, rule: MetricRule, resources: Iterable[ServedResource]) -> None:
        self.by_label: dict[str, ServedResource] = {}
        names: dict[tuple[str, str], ServedResource] = {}
        for each in resources:
            group, plural, singular = each.path.group, each.path.plural, each.kind.lower()
            names.setdefault((group, plural), each)
            names.setdefault((group, singular), each)
            if rule.template is not None:
                label = rule.template.render({"Group": group, "Resource": singular}, {})
                self.by_label.setdefault(label, each)
        self.unknown = [about for about in rule.overrides.values() if about not in names]
        for label, about in rule.overrides.items():
            if about in names:
                self.by_label[label] = names[about]
        self.namespace = next((label for label, each in self.by_label.items() if resource_key(each) == NAMESPACES), "")


def resource_key(resource: ServedResource) -> GroupResource:
    return resource.path.group, resource.path.plural


def add_custom(catalog: Catalog, rule: MetricRule, labels: Labels, series: Mapping[str, str]) -> None:
    """Add what one series says: a metric of each object that its labels name.

    An object of a namespace counts only if the series names the namespace too.
    """
    name = series.get("__name__", "")
    if not name or not rule.takes(name):
        return
    metric = rule.name.name_of(name)
    if not metric:
        return
    for label in series:
        resource = labels.by_label.get(label)
        if resource is None:
            continue
        namespace_label = labels.namespace if resource.path.namespaced else ""
        if resource.path.namespaced and namespace_label not in series:
            continue
        catalog.custom[resource_key(resource), metric] = MetricSource(rule, name, label, namespace_label)


def add_external(catalog: Catalog, rule: MetricRule, labels: Labels, series: Mapping[str, str]) -> None:
    """Add an external metric. It is one of the asker's namespace, unless the rule says otherwise or knows no label."""
    name = series.get("__name__", "")
    if name and rule.takes(name) and (metric := rule.name.name_of(name)):
        catalog.external[metric] = MetricSource(rule, name, "", labels.namespace if rule.is_namespaced else "")

"""Affinity terms of pods, parsed once and then asked often.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tiphys.api.meta.selectors import EVERYTHING, NOTHING, Requirement, Selector, selector_from_object
from tiphys.api.object import Object

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """One pod (anti-)affinity term. It matches a pod by its namespace and its labels."""

    namespaces: frozenset[str]
    namespace_selector: Selector
    selector: Selector
    topology_key: str
    weight: int = 0

    def matches(self, namespace: str, labels: Labels, namespace_labels: Labels) -> bool:
        if namespace not in self.namespaces and not self.namespace_selector.matches(namespace_labels):
            return False
        return self.selector.matches(labels)


def affinity_terms(described: list[Object] | None, pod: Object) -> tuple[AffinityTerm, ...]:
    return tuple(_affinity_term(term, pod, 0) for term in described or ())


def weighted_terms(described: list[Object] | None, pod: Object) -> tuple[AffinityTerm, ...]:
    return tuple(_affinity_term(entry["podAffinityTerm"], pod, entry["weight"]) for entry in described or ())


def _affinity_term(term: Object, pod: Object, weight: int) -> AffinityTerm:
    namespaces, selector = term.get("namespaces") or (), term.get("namespaceSelector")
    if not namespaces and selector is None:
        namespaces = (pod["metadata"].get("namespace", ""),)
    return AffinityTerm(
        frozenset(namespaces),
        NOTHING if selector is None else selector_of(selector),
        selector_of(term.get("labelSelector")),
        term["topologyKey"],
        weight,
    )


def selector_of(described: Object | None) -> Selector:
    """A LabelSelector; an absent one matches nothing. Equal ones are parsed once."""
    if described is None:
        return NOTHING
    labels = described.get("matchLabels") or {}
    expressions = described.get("matchExpressions") or ()
    key = tuple((e["key"], e["operator"], tuple(e.get("values") or ())) for e in expressions)
    return _parsed(tuple(sorted(labels.items())), key)


@lru_cache(4096)
def _parsed(labels: tuple[tuple[str, str], ...], expressions: tuple[tuple[str, str, tuple[str, ...]], ...]) -> Selector:
    if not labels and not expressions:
        return EVERYTHING
    described = [{"key": key, "operator": operator, "values": list(values)} for key, operator, values in expressions]
    return selector_from_object({"matchLabels": dict(labels), "matchExpressions": described})


def with_labels(selector: Selector, keys: list[str] | None, labels: Labels) -> Selector:
    """The selector narrowed to pods that have the same values as ``labels`` for ``keys`` (matchLabelKeys)."""
    more = [Requirement(key, "=", (labels[key],)) for key in keys or () if key in labels]
    return Selector((*selector.requirements, *more)) if more else selector

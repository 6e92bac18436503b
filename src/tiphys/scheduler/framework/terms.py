"""Affinity terms and node selectors, parsed once and then asked often.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tiphys.api.meta.selectors import EVERYTHING, NOTHING, Requirement, Selector, selector_from_object

Object = dict[str, Any]
Labels = Mapping[str, str]

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One term of a node selector: all of it must hold. An empty one matches nothing."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: Labels) -> bool:
        if not self.labels and not self.fields:
            return False
        return all(r.matches(labels) for r in self.labels) and all(
            r.matches({"metadata.name": name}) for r in self.fields
        )


def node_term(term: Object) -> NodeTerm:
    return NodeTerm(_requirements(term.get("matchExpressions")), _requirements(term.get("matchFields")))


def _requirements(expressions: list[Object] | None) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(e["key"], _OPERATORS[e["operator"]], tuple(e.get("values") or ())) for e in expressions or ()
    )


@dataclass(frozen=True, slots=True)
class RequiredNodes:
    """What ``nodeSelector`` and required node affinity ask of a node."""

    selector: tuple[tuple[str, str], ...]
    terms: tuple[NodeTerm, ...] | None
    """Any of them; None where the pod has no required node affinity."""

    def matches(self, name: str, labels: Labels) -> bool:
        if any(labels.get(key) != value for key, value in self.selector):
            return False
        return self.terms is None or any(term.matches(name, labels) for term in self.terms)

    @property
    def names(self) -> frozenset[str] | None:
        """The only nodes that can match, where every term names some; None otherwise."""
        if not self.terms:
            return None
        found: set[str] = set()
        for term in self.terms:
            named = [set(r.values) for r in term.fields if r.key == "metadata.name" and r.operator == "in"]
            if not named:
                return None
            found |= set.intersection(*named)
        return frozenset(found)


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

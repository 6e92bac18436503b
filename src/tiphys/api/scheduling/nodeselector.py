"""Which nodes a pod may run on, by its node selector and its required node affinity. Parsed once, matched often.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiphys.api.meta.selectors import Requirement
from tiphys.api.object import Object

Labels = Mapping[str, str]

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}
_COMPARING = ("gt", "lt")


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One term of a node selector: all of it must hold. An empty one matches nothing, nor does a wrong one."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: Labels) -> bool:
        if not self.labels and not self.fields:
            return False
        return all(r.matches(labels) for r in self.labels) and all(
            r.matches({"metadata.name": name}) for r in self.fields
        )


_NOTHING = NodeTerm((), ())


def node_term(term: Object) -> NodeTerm:
    """A ``NodeSelectorTerm`` of the API; one with a wrong operator or number of values matches no node."""
    labels, fields = _requirements(term.get("matchExpressions")), _requirements(term.get("matchFields"))
    return _NOTHING if labels is None or fields is None else NodeTerm(labels, fields)


def _requirements(expressions: list[Object] | None) -> tuple[Requirement, ...] | None:
    requirements = []
    for expression in expressions or ():
        operator, values = _OPERATORS.get(expression["operator"]), tuple(expression.get("values") or ())
        if operator is None or (operator in _COMPARING and len(values) != 1):
            return None
        requirements.append(Requirement(expression["key"], operator, values))
    return tuple(requirements)


@dataclass(frozen=True, slots=True)
class RequiredNodes:
    """What ``nodeSelector`` and required node affinity ask of a node."""

    selector: tuple[tuple[str, str], ...]
    terms: tuple[NodeTerm, ...] | None
    """Any of them; None if the pod has no required node affinity."""

    def matches(self, name: str, labels: Labels) -> bool:
        if any(labels.get(key) != value for key, value in self.selector):
            return False
        return self.terms is None or any(term.matches(name, labels) for term in self.terms)

    @property
    def names(self) -> frozenset[str] | None:
        """The only nodes that can match, if every term names some; None otherwise."""
        if not self.terms:
            return None
        named: set[str] = set()
        for term in self.terms:
            names = [set(r.values) for r in term.fields if r.key == "metadata.name" and r.operator == "in"]
            if not names:
                return None
            named |= set.intersection(*names)
        return frozenset(named)


def required_nodes(pod_spec: Object) -> RequiredNodes | None:
    """None if the pod takes any node."""
    selector = pod_spec.get("nodeSelector") or {}
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not selector and required is None:
        return None
    terms = tuple(map(node_term, required.get("nodeSelectorTerms") or ())) if required is not None else None
    return RequiredNodes(tuple(sorted(selector.items())), terms)


def takes_node(pod_spec: Object, node: Object) -> bool:
    """Whether node selector and required node affinity of a pod allow a node."""
    required = required_nodes(pod_spec)
    meta = node["metadata"]
    return required is None or required.matches(meta["name"], meta.get("labels") or {})

"""Label selectors as predicates.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tiphys.controlkit.objects import Object

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]


def set_selector(wanted: Mapping[str, str] | None) -> Predicate:
    """All of ``wanted`` must be there. An empty mapping matches everything."""
    pairs = tuple((wanted or {}).items())
    return lambda labels: all(labels.get(key) == value for key, value in pairs)


def label_selector(selector: Object | None) -> Predicate:
    """A ``LabelSelector``: an absent one matches nothing, an empty one everything. Raises ``ValueError``."""
    if selector is None:
        return lambda labels: False
    terms: list[Predicate] = [set_selector(selector.get("matchLabels"))]
    terms += [_requirement(expression) for expression in selector.get("matchExpressions") or ()]
    return lambda labels: all(term(labels) for term in terms)


def is_empty(selector: Object | None) -> bool:
    """Whether it is there and selects everything."""
    return selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")


def _requirement(expression: Object) -> Predicate:
    key, operator = expression["key"], expression["operator"]
    values = frozenset(expression.get("values") or ())
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: key not in labels or labels[key] not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    raise ValueError(f'"{operator}" is not a valid label selector operator')

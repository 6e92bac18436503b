"""Label selectors as predicates over labels.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.object import Object

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]


def set_selector(wanted: Mapping[str, str] | None) -> Predicate:
    """All of ``wanted`` must be there. An empty mapping matches everything."""
    pairs = tuple((wanted or {}).items())
    return lambda labels: all(labels.get(key) == value for key, value in pairs)


def label_selector(selector: Object | None) -> Predicate:
    """A ``LabelSelector``: an absent one matches nothing, an empty one everything. Raises ``SelectorError``."""
    return selector_from_object(selector).matches


def is_empty(selector: Object | None) -> bool:
    """Whether it is there and selects everything."""
    return selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")

"""The question for a metric, as PromQL. Pure.

Source: https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tiphys.addons.prometheusadapter.catalog import MetricSource
from tiphys.api.meta import selectors
from tiphys.api.meta.selectors import Selector

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class CannotAsk(ValueError):
    """A selector that Prometheus has no words for."""


def query(source: MetricSource, namespace: str, names: Sequence[str], selector: Selector) -> str:
    """PromQL for the values of objects ``names`` (of an external metric: none), narrowed by a selector of labels.

    Raises ``CannotAsk``.
    """
    matchers, values = [], {}
    if source.namespace_label:
        matchers.append(f"{source.namespace_label}={_quoted(namespace)}")
        values[source.namespace_label] = namespace
    if source.label:
        one_of = "|".join(map(_literal, names))
        matchers.append(
            f"{source.label}=~{_quoted(one_of)}" if len(names) > 1 else f"{source.label}={_quoted(names[0])}"
        )
        values[source.label] = one_of
    matchers += [_matcher(requirement) for requirement in selector.requirements]
    fields = {"Series": source.series, "LabelMatchers": ",".join(matchers), "GroupBy": source.label}
    return source.rule.query.render(fields, values)


def _matcher(requirement: selectors.Requirement) -> str:
    key, values = requirement.key, requirement.values
    if not _LABEL(key):
        raise CannotAsk(f"{key!r} cannot be a label of Prometheus; use letters, digits and underscores")
    match requirement.operator:
        case selectors.EQUALS | selectors.DOUBLE_EQUALS:
            return f"{key}={_quoted(values[0])}"
        case selectors.NOT_EQUALS:
            return f"{key}!={_quoted(values[0])}"
        case selectors.IN:
            return f"{key}=~{_quoted('|'.join(map(_literal, values)))}"
        case selectors.NOT_IN:
            return f"{key}!~{_quoted('|'.join(map(_literal, values)))}"
        case selectors.EXISTS:
            return f'{key}!=""'
        case selectors.DOES_NOT_EXIST:
            return f'{key}=""'
    raise CannotAsk(f"label {key!r}: Prometheus does not compare labels by size; use =, !=, in, notin")


def _literal(value: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", value)


def _quoted(value: str) -> str:
    return f'"{value.translate(_ESCAPES)}"'

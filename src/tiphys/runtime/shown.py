"""Which metrics a process shows, and with which values of labels: ``--disabled-metrics``, ``--allow-metric-labels``.

A label with a list of values shows any other as ``unexpected``, so that somebody else's words cannot make ever more
series; what is shown under one set of labels is added up. It is one choice for the process, as upstream's.

Source: https://kubernetes.io/docs/concepts/cluster-administration/system-metrics/ (metric cardinality enforcement)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from prometheus_client.samples import Sample

UNEXPECTED = "unexpected"
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ADDED_UP = ("counter", "histogram")


@dataclass(slots=True)
class _Choice:
    hidden: frozenset[str] = frozenset()
    values: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    """By metric and label."""


_choice = _Choice()


def choose(hidden: Iterable[str], values: Mapping[str, str]) -> None:
    """From now on ``hidden`` metrics are not shown, and labels, given as ``METRIC,LABEL``, have these values only,
    which commas separate. Raises ``ValueError`` for what is no metric and label."""
    allowed: dict[str, dict[str, frozenset[str]]] = {}
    for key, words in values.items():
        metric, _, label = (part.strip() for part in key.partition(","))
        if not _METRIC.match(metric) or not _LABEL.match(label):
            raise ValueError(f"{key!r} is no METRIC,LABEL")
        allowed.setdefault(metric, {})[label] = frozenset(word.strip() for word in words.split(","))
    _choice.hidden, _choice.values = frozenset(hidden), allowed


def exposition(registry: CollectorRegistry) -> bytes:
    """All metrics that are to be shown, in the text exposition format."""
    from prometheus_client import generate_latest

    if not _choice.hidden and not _choice.values:
        return generate_latest(registry)
    return generate_latest(_Shown(registry))


class _Shown:
    """A registry of another's metrics, as they are chosen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            names = {family.name, f"{family.name}_total"} if family.type == "counter" else {family.name}
            if names & _choice.hidden:
                continue
            for name in names & _choice.values.keys():
                family.samples = _limited(family, _choice.values[name])
            yield family


def _limited(family: Metric, values: Mapping[str, frozenset[str]]) -> list[Sample]:
    """The samples with allowed values only: those that become one are added up or, of a gauge, the last one stays."""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
    for sample in family.samples:
        labels = {
            label: value if value in values.get(label, (value,)) else UNEXPECTED
            for label, value in sample.labels.items()
        }
        key = (sample.name, tuple(sorted(labels.items())))
        before = samples[key].value if key in samples and family.type in _ADDED_UP else 0
        samples[key] = sample._replace(labels=labels, value=sample.value + before)
    return list(samples.values())

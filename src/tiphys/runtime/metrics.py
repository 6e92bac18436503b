"""Metrics in Prometheus' text format, under upstream's names (``apiserver_request_total``, …).

Each component has a ``Registry`` of its own, so that several components in one process do not mix their figures.
prometheus_client writes them, and is imported by the first scrape: it costs a start 20 ms and a process 2 MB.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.runtime.shown import exposition
from tiphys.runtime.vectors import Collector, CounterVec, GaugeVec, HistogramVec
from tiphys.runtime.version import version_info
from tiphys.runtime.watchdog import HOLDS

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


class _Build:
    """What every component of upstream's shows: its build, and how much it does at once (here: tasks)."""

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        labels = {name: version_info()[key] for name, key in _BUILD.items()}
        build = GaugeMetricFamily(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build"
            " date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
            labels=tuple(labels),
        )
        build.add_metric(tuple(labels.values()), 1)
        yield build
        yield GaugeMetricFamily("go_goroutines", "Number of tasks that currently exist.", len(_tasks()))


_BUILD = {
    "build_date": "buildDate",
    "compiler": "compiler",
    "git_commit": "gitCommit",
    "git_tree_state": "gitTreeState",
    "git_version": "gitVersion",
    "go_version": "goVersion",
    "major": "major",
    "minor": "minor",
    "platform": "platform",
}


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        return set()


class Registry:
    """The metrics of one component. ``counter``, ``gauge`` and ``histogram`` make a metric or return the one made.

    ``sources`` are shown as well, and so is what every component has: its process, its build, holds of its loop.
    """

    def __init__(self, *sources: Collector) -> None:
        self._sources: list[Collector] = [*sources, HOLDS]
        self._made: dict[str, CounterVec | GaugeVec | HistogramVec] = {}

    def register(self, source: Collector) -> None:
        """Show what ``source`` collects, too."""
        self._sources.append(source)

    def counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> CounterVec:
        metric = self._made.get(name) or CounterVec(name, help, labels)
        assert isinstance(metric, CounterVec)
        self._made[name] = metric
        return metric

    def gauge(self, name: str, help: str, labels: tuple[str, ...] = ()) -> GaugeVec:
        metric = self._made.get(name) or GaugeVec(name, help, labels)
        assert isinstance(metric, GaugeVec)
        self._made[name] = metric
        return metric

    def histogram(self, name: str, help: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> HistogramVec:
        metric = self._made.get(name) or HistogramVec(name, help, labels, buckets)
        assert isinstance(metric, HistogramVec)
        self._made[name] = metric
        return metric

    def expose(self) -> bytes:
        """All metrics in the text exposition format."""
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

        shown = CollectorRegistry()
        ProcessCollector(registry=shown)
        PlatformCollector(registry=shown)
        for source in (_Build(), *self._sources, *self._made.values()):
            shown.register(source)
        return exposition(shown)

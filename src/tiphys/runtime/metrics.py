"""Metrics in Prometheus' text format, under upstream's names (``apiserver_request_total``, …).

Each component has a ``Registry`` of its own, so that several components in one process do not mix their figures.
The classes are prometheus_client's; it is imported on first use, as it costs 20 ms.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.runtime.version import version_info
from tiphys.runtime.watchdog import HOLDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
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


def add_common(collectors: CollectorRegistry) -> None:
    """The process's figures and the build's, which every component has."""
    from prometheus_client import ProcessCollector

    ProcessCollector(registry=collectors)
    collectors.register(_Build())


class Registry:
    """The metrics of one component. ``counter``, ``gauge`` and ``histogram`` make a metric or return the one made."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, PlatformCollector

        self.collectors: CollectorRegistry = CollectorRegistry()
        add_common(self.collectors)
        PlatformCollector(registry=self.collectors)
        self.collectors.register(HOLDS)
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:
        from prometheus_client import Counter

        metric = self._made.get(name) or Counter(name, help, labels, registry=self.collectors)
        assert isinstance(metric, Counter)
        self._made[name] = metric
        return metric

    def gauge(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Gauge:
        from prometheus_client import Gauge

        metric = self._made.get(name) or Gauge(name, help, labels, registry=self.collectors)
        assert isinstance(metric, Gauge)
        self._made[name] = metric
        return metric

    def histogram(self, name: str, help: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        from prometheus_client import Histogram

        metric = self._made.get(name) or Histogram(name, help, labels, registry=self.collectors, buckets=buckets)
        assert isinstance(metric, Histogram)
        self._made[name] = metric
        return metric

    def expose(self) -> bytes:
        """All metrics in the text exposition format."""
        from prometheus_client import generate_latest

        return generate_latest(self.collectors)

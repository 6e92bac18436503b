"""What the kubelet measures of itself, under upstream's names. Durations are in seconds.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiphys.runtime.clock import Clock
from tiphys.runtime.vectors import CounterVec, HistogramVec, exponential

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_POD_START = (
    *(0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0),
    *(600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0),
)
_BY_OPERATION = ("operation_type",)


class RuntimeOperations:
    """Calls of the container runtime. A collector of prometheus_client's."""

    def __init__(self) -> None:
        self._calls = CounterVec(
            "kubelet_runtime_operations", "Cumulative number of runtime operations by operation type.", _BY_OPERATION
        )
        self._errors = CounterVec(
            "kubelet_runtime_operations_errors",
            "Cumulative number of runtime operation errors by operation type.",
            _BY_OPERATION,
        )
        self._seconds = HistogramVec(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            _BY_OPERATION,
            exponential(0.005, 2.5, 14),
        )

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        """One call, under upstream's name for it; what it raises is counted as an error."""
        started = time.monotonic()
        self._calls.inc(operation)
        try:
            yield
        except Exception:
            self._errors.inc(operation)
            raise
        finally:
            self._seconds.observe(time.monotonic() - started, operation)

    def collect(self) -> Iterable[Metric]:
        for vector in (self._calls, self._errors, self._seconds):
            yield from vector.collect()


class KubeletFigures:
    """A collector of prometheus_client's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._relist = HistogramVec(
            "kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.", (), _DEFAULT
        )
        self._relist_interval = HistogramVec(
            "kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG.", (), _DEFAULT
        )
        self._steps = HistogramVec(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            _BY_OPERATION,
            _DEFAULT,
        )
        self._starts = HistogramVec(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            (),
            _POD_START,
        )
        self._cgroups = HistogramVec(
            "kubelet_cgroup_manager_duration_seconds",
            "Duration in seconds for cgroup manager operations. Broken down by method.",
            _BY_OPERATION,
            _DEFAULT,
        )
        self._evictions = CounterVec(
            "kubelet_evictions", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",)
        )
        self._images = CounterVec(
            "kubelet_image_garbage_collected",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            ("reason",),
        )
        self._shutdown_began = self._shutdown_ended = 0.0
        self._listed_at: float | None = None

    @contextmanager
    def relist(self) -> Iterator[None]:
        """A list of everything the runtime has, which succeeds or raises."""
        started = self._clock.monotonic()
        if self._listed_at is not None:
            self._relist_interval.observe(started - self._listed_at)
        try:
            yield
        finally:
            self._relist.observe(self._clock.monotonic() - started)
            self._listed_at = started

    @contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """A pod worker's step: ``create``, ``sync``, ``kill`` or ``terminated``."""
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._steps.observe(self._clock.monotonic() - started, kind)

    @contextmanager
    def cgroup(self, operation: str) -> Iterator[None]:
        """``update`` of a pod's cgroup, which makes it if need be, or its ``destroy``."""
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._cgroups.observe(self._clock.monotonic() - started, operation)

    def started(self, seconds: float) -> None:
        """A pod runs, so long after it was first seen."""
        self._starts.observe(seconds)

    def evicted(self, signal: str) -> None:
        """A pod was ended for the sake of ``memory.available`` and the like, or for its own limit."""
        self._evictions.inc(signal)

    def image_removed(self, reason: str) -> None:
        """An image went for the sake of ``space``, or of its ``age``."""
        self._images.inc(reason)

    def shut_down(self, began: float | None, ended: float | None) -> None:
        """The last graceful shutdown, in seconds since 1970; None: not known, or not yet over."""
        self._shutdown_began, self._shutdown_ended = float(int(began or 0)), float(int(ended or 0))

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        for word, seconds in (("start", self._shutdown_began), ("end", self._shutdown_ended)):
            about = "started" if word == "start" else "ended"
            name = f"kubelet_graceful_shutdown_{word}_time_seconds"
            yield GaugeMetricFamily(name, f"When the last graceful shutdown {about}, in seconds since 1970.", seconds)
        for vector in (
            *(self._relist, self._relist_interval, self._steps, self._starts, self._cgroups),
            *(self._evictions, self._images),
        ):
            yield from vector.collect()

"""What the kubelet measures of volumes, under upstream's names: how many there are, and what mounting them takes.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.runtime.vectors import HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
_PLUGINS = {
    "configMap": "kubernetes.io/configmap",
    "secret": "kubernetes.io/secret",
    "downwardAPI": "kubernetes.io/downward-api",
    "projected": "kubernetes.io/projected",
    "hostPath": "kubernetes.io/host-path",
    "local": "kubernetes.io/local-volume",
    "image": "kubernetes.io/image",
    "emptyDir": "kubernetes.io/empty-dir",
}
_DESIRED, _ACTUAL = "desired_state_of_world", "actual_state_of_world"


def plugin_of(source: Object) -> str:
    """Upstream's name for what mounts a pod's volume, or a persistent one's spec; empty for a claim, whose volume says
    it."""
    if source.get("persistentVolumeClaim") is not None or source.get("ephemeral") is not None:
        return ""
    if (csi := source.get("csi")) is not None:
        return f"kubernetes.io/csi:{csi['driver']}"
    return next((name for key, name in _PLUGINS.items() if source.get(key) is not None), "kubernetes.io/empty-dir")


class VolumeFigures:
    """A collector of prometheus_client's."""

    def __init__(self) -> None:
        self._operations = HistogramVec(
            "storage_operation_duration_seconds",
            "Storage operation duration",
            ("volume_plugin", "operation_name", "status", "migrated"),
            _SECONDS,
        )
        self._desired: dict[str, dict[str, str]] = {}
        """By pod: the plugins of its volumes, by name."""
        self._actual: dict[str, dict[str, str]] = {}

    @contextmanager
    def mounting(self, pod_uid: str, name: str, plugin: str) -> Iterator[None]:
        """A pod's volume is being mounted, or brought up to date; without a plugin only what is inside counts."""
        if not plugin:
            yield
            return
        self._desired.setdefault(pod_uid, {})[name] = plugin
        with self.operation(plugin, "volume_mount"):
            yield
        self._actual.setdefault(pod_uid, {})[name] = plugin

    @contextmanager
    def operation(self, plugin: str, name: str) -> Iterator[None]:
        """One operation, under upstream's name for it; what it raises makes it a failure."""
        started, status = time.monotonic(), "fail-unknown"
        try:
            yield
            status = "success"
        finally:
            self._operations.observe(time.monotonic() - started, plugin, name, status, "false")

    def unmounted(self, pod_uid: str) -> None:
        """Nothing of the pod's volumes is left."""
        self._desired.pop(pod_uid, None)
        self._actual.pop(pod_uid, None)

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        yield from self._operations.collect()
        total = GaugeMetricFamily(
            "volume_manager_total_volumes", "Number of volumes in Volume Manager", labels=("plugin_name", "state")
        )
        for state, by_pod in ((_DESIRED, self._desired), (_ACTUAL, self._actual)):
            counts = Counter(plugin for plugins in by_pod.values() for plugin in plugins.values())
            for plugin, count in sorted(counts.items()):
                total.add_metric((plugin, state), count)
        yield total

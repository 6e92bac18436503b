"""What the kubelet measures of images and credentials, under upstream's names. Durations are in seconds.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiphys.runtime.vectors import CounterVec, GaugeVec, HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PLUGIN = ("plugin_name",)
_WORDS = {None: "unknown", True: "true", False: "false"}


class ImageFigures:
    """A collector of prometheus_client's."""

    def __init__(self) -> None:
        self._failed = CounterVec(
            "kubelet_credential_provider_plugin_errors", "Number of errors from credential provider plugin", _PLUGIN
        )
        self._seconds = HistogramVec(
            "kubelet_credential_provider_plugin_duration",
            "Duration of execution in seconds for credential provider plugin",
            _PLUGIN,
            _DEFAULT,
        )
        self._config = GaugeVec(
            "kubelet_credential_provider_config_info",
            "Information about the last applied credential provider configuration with hash as label",
            ("hash",),
        )
        self._requests = CounterVec(
            "kubelet_image_manager_ensure_image_requests",
            "Number of ensure-image requests processed by the kubelet.",
            ("pull_policy", "present_locally", "pull_required"),
        )
        self._checks = CounterVec(
            "kubelet_imagemanager_image_mustpull_checks",
            "Counter for how many times kubelet checked whether credentials need to be re-verified to access an image",
            ("result",),
        )
        self._intents = GaugeVec(
            "kubelet_imagemanager_ondisk_pullintents", "Number of ImagePullIntents stored on disk."
        )
        self._records = GaugeVec(
            "kubelet_imagemanager_ondisk_pulledrecords", "Number of ImagePulledRecords stored on disk."
        )

    def asked(self, plugin: str, seconds: float, *, failed: bool) -> None:
        self._seconds.observe(seconds, plugin)
        if failed:
            self._failed.inc(plugin)

    def configured(self, digest: str) -> None:
        self._config.set(1, digest)

    def requested(self, policy: str, *, present: bool | None, pulled: bool | None) -> None:
        """An image was to be there: whether it was, and whether it had to be pulled; None if that is not known."""
        self._requests.inc(policy.lower(), _WORDS[present], _WORDS[pulled])

    def checked(self, result: str) -> None:
        self._checks.inc(result)

    def recorded(self, intents: int, records: int) -> None:
        self._intents.set(intents)
        self._records.set(records)

    def collect(self) -> Iterable[Metric]:
        for vector in (self._failed, self._seconds, self._config, self._requests, self._checks):
            yield from vector.collect()
        yield from self._intents.collect()
        yield from self._records.collect()

"""The figures of ``/metrics``, under upstream's names.

Calls are counted in plain dictionaries, which cost under a microsecond; the exposition format is made when somebody
asks. Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiphys.api.scheme import Scheme
from tiphys.apiserver.call import Call
from tiphys.apiserver.requestinfo import RequestInfo
from tiphys.runtime.vectors import CounterVec, HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")

_LONGEST_PATH = 64
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))

Key = tuple[str, ...]


class RequestMetrics:
    """A row is made for what the server has: whoever asks for what does not exist, with or without a right, makes no
    more than one."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._paths: set[str] = set()
        """Paths outside the API that were answered."""
        self._codes: dict[tuple[Key, int], int] = {}
        self._durations = HistogramVec(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource,"
            " subresource, scope and component.",
            _LABELS,
            _BUCKETS,
        )
        self._terminations = CounterVec(
            "apiserver_request_terminations",
            "Number of requests which apiserver terminated in self-defense.",
            (*(label for label in _LABELS if label != "dry_run"), "code"),
        )
        self._gauges: list[Callable[[], Iterable[Metric]]] = []

    def observe(self, call: Call, code: int, seconds: float) -> None:
        key = self._key(call, exists=code < 400)
        self._codes[key, code] = self._codes.get((key, code), 0) + 1
        if call.terminated:
            self._terminations.inc(key[0], *key[2:], str(code))
        if not call.is_long_running:
            self._durations.observe(seconds, *key)

    def add_source(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Further metrics, read when somebody asks."""
        self._gauges.append(source)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client: this is a collector."""
        from prometheus_client.core import CounterMetricFamily

        total = CounterMetricFamily(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope,"
            " component, and HTTP response code.",
            labels=(*_LABELS, "code"),
        )
        for (key, code), count in self._codes.items():
            total.add_metric((*key, str(code)), count)
        yield total
        yield from self._durations.collect()
        yield self._indicators()
        yield from self._terminations.collect()
        for source in self._gauges:
            yield from source()

    def _indicators(self) -> Metric:
        """What objectives are measured by: durations without the time of webhooks, which are not told apart here."""
        return self._durations.shown_as(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in"
            " seconds for each verb, group, version, resource, subresource, scope and component.",
            tuple(label for label in _LABELS if label != "dry_run"),
            lambda key: (key[0], *key[2:]) if key[1] == "" else None,
        )

    def _key(self, call: Call, *, exists: bool) -> Key:
        info = call.info
        if not info.is_resource:
            path = info.path[:_LONGEST_PATH]
            if exists:
                self._paths.add(path)
            elif path not in self._paths:
                path = ""
            method = call.request.method
            return (method if method in _METHODS else "OTHER", "", "", "", "", path, "", "apiserver")
        verb = _VERBS.get(info.verb, info.verb.upper())
        if not exists and not _serves(self._scheme, info):
            return (verb, "", "", "", "", "", "", "apiserver")
        return _resource_key(call, verb)


def _serves(scheme: Scheme, info: RequestInfo) -> bool:
    resource = scheme.resource(info.group, info.resource)
    if resource is None or info.version not in resource.versions:
        return False
    return not info.subresource or resource.subresource(info.subresource, info.version) is not None


def _resource_key(call: Call, verb: str) -> Key:
    info = call.info
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    dry_run = "All" if "dryRun" in call.parameters else ""
    return (verb, dry_run, info.group, info.version, info.resource, info.subresource, scope, "apiserver")


_VERBS = {"create": "POST", "update": "PUT", "deletecollection": "DELETE"}

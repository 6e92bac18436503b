"""How often a component calls its API server, and for how long: client-go's ``rest_client_…`` metrics.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiphys.runtime.vectors import CounterVec, HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


class Calls:
    """``host`` is the server's, as the label has it. A collector of prometheus_client's."""

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._requests = CounterVec(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "method", "host"),
        )
        self._seconds = HistogramVec(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            ("verb", "host"),
            _BUCKETS,
        )

    def count(self, method: str, code: int | None, seconds: float) -> None:
        """``code`` None: no answer was received."""
        self._requests.inc("<error>" if code is None else str(code), method, self._host)
        self._seconds.observe(seconds, method, self._host)

    def collect(self) -> Iterable[Metric]:
        yield from self._requests.collect()
        yield from self._seconds.collect()

"""How often a component calls its API server, and for how long: client-go's ``rest_client_…`` metrics.

Calls are plain numbers until somebody asks: prometheus_client is imported with the first scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


class Calls:
    """``host`` is the server's, as the label has it. A collector of prometheus_client's."""

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._codes: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, tuple[list[int], list[float]]] = {}

    def count(self, method: str, code: int | None, seconds: float) -> None:
        """``code`` None: no answer was received."""
        self._codes[method, "<error>" if code is None else str(code)] += 1
        counts, total = self._seconds.setdefault(method, ([0] * (len(_BUCKETS) + 1), [0.0]))
        counts[bisect_left(_BUCKETS, seconds)] += 1
        total[0] += seconds

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            labels=("code", "method", "host"),
        )
        for (method, code), number in self._codes.items():
            requests.add_metric((code, method, self._host), number)
        yield requests
        latency = HistogramMetricFamily(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            labels=("verb", "host"),
        )
        for method, (counts, total) in self._seconds.items():
            rows, running = [], 0
            for bound, number in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
                running += number
                rows.append((bound, float(running)))
            latency.add_metric((method, self._host), rows, total[0])
        yield latency

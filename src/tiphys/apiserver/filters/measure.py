"""Counts calls for ``/metrics``.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/
"""

from __future__ import annotations

from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Response


def measure(metrics: RequestMetrics, clock: Clock) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        call.received = clock.monotonic()
        response = await proceed(call)
        metrics.observe(call, response.status, clock.monotonic() - call.received)
        return response

    return filter

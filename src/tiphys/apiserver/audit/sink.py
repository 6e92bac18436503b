"""``Sink``: the backends of a server, as its flags ask for them, and the figures about them.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.apiserver.audit.backend import Backend, Batching, Truncating
from tiphys.apiserver.audit.config import BATCH, STRICT, AuditConfig, Delivery
from tiphys.apiserver.audit.logfile import LogBackend
from tiphys.apiserver.audit.policy import Level
from tiphys.apiserver.audit.webhook import AT_ONCE, WebhookBackend
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

if TYPE_CHECKING:
    from prometheus_client.core import Metric


log = logging.getLogger(__name__)


class Sink:
    def __init__(self, config: AuditConfig, clock: Clock) -> None:
        self.policy = config.policy
        self._config = config
        self._clock = clock
        self._backends: list[tuple[Backend, bool]] = []
        self._levels: Counter[Level] = Counter()
        self._failures: Counter[str] = Counter()
        self._events = 0
        self._refused = 0

    def start(self, runner: Runner) -> None:
        """Open the backends. Raises ``OSError`` or ``KubeconfigError`` if one cannot be used."""
        config = self._config
        if config.log is not None:
            self._add(LogBackend(config.log, self._clock, self._failed), config.log_delivery)
        if config.webhook is not None:
            webhook = WebhookBackend(config.webhook, config.webhook_backoff, self._clock, self._failed)
            self._add(webhook, config.webhook_delivery, at_once=AT_ONCE)
        for backend, _ in self._backends:
            runner.supervise(backend.run, f"audit {backend.name}")

    def _add(self, backend: Backend, delivery: Delivery, at_once: int = 1) -> None:
        if delivery.mode == BATCH:
            backend = Batching(backend, delivery.batch, self._clock, self._failed, at_once=at_once)
        if delivery.truncate is not None:
            backend = Truncating(backend, delivery.truncate, self._failed)
        self._backends.append((backend, delivery.mode == STRICT))

    async def stop(self) -> None:
        for backend, _ in self._backends:
            await backend.close()

    async def process(self, event: Object) -> bool:
        """Hand an event to every backend; False if one that must take it did not."""
        self._events += 1
        taken = True
        for backend, strict in self._backends:
            taken = (await self._handed(backend, event) or not strict) and taken
        return taken

    async def _handed(self, backend: Backend, event: Object) -> bool:
        """A backend that fails in a way of its own keeps no other one, nor the request, from its work."""
        try:
            return await backend.process((event,))
        except Exception:
            log.exception("the audit backend %s failed", backend.name)
            self._failed(backend.name, 1)
            return False

    def observe(self, level: Level) -> None:
        self._levels[level] += 1

    def refuse(self) -> None:
        self._refused += 1

    def _failed(self, name: str, events: int) -> None:
        self._failures[name] += events

    def figures(self) -> Iterable[Metric]:
        """Under upstream's names."""
        from prometheus_client.core import CounterMetricFamily

        def counter(name: str, help: str, values: Callable[[CounterMetricFamily], None], *labels: str) -> Metric:
            family = CounterMetricFamily(name, help, labels=labels)
            values(family)
            return family

        def levels(family: CounterMetricFamily) -> None:
            for level, count in self._levels.items():
                family.add_metric([level.text], count)

        def failures(family: CounterMetricFamily) -> None:
            for name, count in self._failures.items():
                family.add_metric([name], count)

        yield counter("apiserver_audit_event", "Events sent to the backends.", lambda f: f.add_metric([], self._events))
        yield counter("apiserver_audit_level", "Policy levels of requests.", levels, "level")
        yield counter("apiserver_audit_error", "Events that a backend did not take.", failures, "plugin")
        yield counter(
            "apiserver_audit_requests_rejected",
            "Requests refused as their event was not taken.",
            lambda f: f.add_metric([], self._refused),
        )

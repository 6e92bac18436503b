"""What every controller is given: a client, shared informers, the clock, an event recorder, the configuration."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tiphys.client.informer import InformerFactory
from tiphys.client.rest import Client
from tiphys.controlkit.controller import Controller, Reconcile
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.queue import RateLimiter
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.runtime.clock import Clock
from tiphys.runtime.metrics import Registry


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """``registry`` is None without metrics."""

    client: Client
    informers: InformerFactory
    clock: Clock
    recorder: EventRecorder
    config: ControllerManagerConfig
    registry: Registry | None = None
    rng: random.Random = field(default_factory=random.Random)

    def controller(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 1,
        max_retries: int | None = None,
        limiter: RateLimiter[str] | None = None,
    ) -> Controller:
        """A controller with this context's clock and metrics; ``workers`` run ``reconcile`` at the same time."""
        return Controller(
            name,
            reconcile,
            self.clock,
            workers=workers,
            max_retries=max_retries,
            limiter=limiter,
            registry=self.registry,
        )

"""``Handle``: what plugins may use of the scheduler.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from tiphys.client.informer import Store
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner
from tiphys.runtime.vectors import CounterVec
from tiphys.scheduler.cache import Cache
from tiphys.scheduler.devices.matching import Matches
from tiphys.scheduler.devices.pending import PendingClaims
from tiphys.scheduler.nominator import Nominator


@dataclass(slots=True)
class Handle:
    """``stores`` are the informers' copies by plural (``services``, ``persistentvolumeclaims``, …), read only."""

    client: Client
    clock: Clock
    rng: random.Random
    recorder: EventRecorder
    runner: Runner
    cache: Cache = field(default_factory=Cache)
    nominator: Nominator = field(default_factory=Nominator)
    stores: dict[str, Store] = field(default_factory=dict)
    watching: set[asyncio.Event] = field(default_factory=set)
    """Set whenever a claim, a volume or a pod has changed: for those that wait while a pod is bound."""

    matches: Matches = field(default_factory=Matches)
    """Which devices are as selectors want them, as far as anybody has asked."""
    claims_made: CounterVec = field(
        default_factory=lambda: CounterVec(
            "scheduler_resourceclaim_creates",
            "Number of ResourceClaims creation requests within scheduler",
            ("status",),
        )
    )
    claims: PendingClaims = field(init=False)
    """The claims for devices as they are with all that was decided and not shown yet."""

    def __post_init__(self) -> None:
        self.claims = PendingClaims(self.store)

    def store(self, plural: str) -> Store:
        """The copy of a resource; an empty one if it is not followed."""
        if plural not in self.stores:
            self.stores[plural] = Store()
        return self.stores[plural]

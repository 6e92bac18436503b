"""``LeaderElector``: of several instances one works at a time, by a Lease that it renews.

A candidate takes the Lease when nobody holds it or its holder has not renewed it for the lease duration, by the
candidate's own clock since it last saw a change (clocks of machines differ). The holder renews every retry period and
stops leading when it could not for the renew deadline. Source:
https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import LEASES
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.objects import (
    copy,
    micro_timestamp,
)
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

JITTER = 1.2


@dataclass(frozen=True, slots=True)
class LeaderElectionConfig:
    """Durations in seconds."""

    identity: str
    name: str
    namespace: str = "kube-system"
    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    release_on_cancel: bool = False


def own_identity() -> str:
    """Names this process among those that want a Lease: the host, and what no other process has."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class LostLease(Exception):
    """This instance led and could not renew its Lease in time; it must stop at once."""


class LeaderElector:
    """Runs ``lead`` while this instance holds the Lease."""

    def __init__(
        self,
        config: LeaderElectionConfig,
        client: Client,
        clock: Clock,
        *,
        recorder: EventRecorder | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not config.lease_duration > config.renew_deadline > config.retry_period * JITTER:
            raise ValueError("leaseDuration must be greater than renewDeadline, and that than retryPeriod*JitterFactor")
        self._config, self._client, self._clock = config, client, clock
        self._recorder = recorder
        self._rng = rng or random.Random()
        self._observed: Object | None = None
        self._observed_at = 0.0
        self._transitions = 0

    @property
    def leader(self) -> str:
        """Who held the Lease when it was last seen; empty if nobody did."""
        return str(((self._observed or {}).get("spec") or {}).get("holderIdentity") or "")

    @property
    def is_leader(self) -> bool:
        return self.leader == self._config.identity

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Acquire, then run ``lead`` until the Lease is lost (raises ``LostLease``) or this is cancelled."""
        await self._acquire()
        self._report("became leader")
        work = asyncio.ensure_future(lead())
        renewal = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                return
            await renewal
        finally:
            for task in (work, renewal):
                task.cancel()
            await asyncio.gather(work, renewal, return_exceptions=True)
            self._report("stopped leading")
            if self._config.release_on_cancel:
                await self._release()

    async def _acquire(self) -> None:
        while not await self._attempt():
            await self._clock.sleep(self._config.retry_period * (1 + JITTER * self._rng.random()))
        log.info("acquired lease %s/%s", self._config.namespace, self._config.name)

    async def _renew(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._config.retry_period)
            left = renewed + self._config.renew_deadline - self._clock.monotonic()
            succeeded = False
            if left > 0:
                with contextlib.suppress(TimeoutError):
                    succeeded = await asyncio.wait_for(self._attempt(), left)
            if succeeded:
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed >= self._config.renew_deadline or not self.is_leader:
                raise LostLease(f"could not renew lease {self._config.namespace}/{self._config.name}")

    async def _attempt(self) -> bool:
        """Try once to acquire or renew; whether this instance holds the Lease now."""
        try:
            return await self._acquire_or_renew()
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.debug("lease %s: %s", self._config.name, error)
            return False
        except Exception:
            log.exception("lease %s cannot be read or written", self._config.name)
            return False

    async def _acquire_or_renew(self) -> bool:
        """Take or renew the lease; False while another holder's is valid. Raises ``ApiError``."""
        config = self._config
        try:
            lease = await self._client.get(LEASES, config.name, config.namespace)
        except errors.NotFound:
            meta = {"name": config.name, "namespace": config.namespace}
            fresh: Object = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": meta}
            self._observe(
                await self._client.create(LEASES, {**fresh, "spec": self._spec({}, took_over=True, first=True)})
            )
            return True
        if self._observed is None or self._observed.get("spec") != lease.get("spec"):
            self._observe(lease)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        valid_until = self._observed_at + (spec.get("leaseDurationSeconds") or 0)
        if holder and holder != config.identity and self._clock.monotonic() < valid_until:
            return False
        wanted = copy(lease)
        wanted["spec"] = self._spec(spec, took_over=holder != config.identity)
        self._observe(await self._client.update(LEASES, wanted))
        return True

    def _spec(self, old: Object, *, took_over: bool, first: bool = False) -> Object:
        now = micro_timestamp(self._clock.now())
        transitions = int(old.get("leaseTransitions") or 0) + (1 if took_over and not first else 0)
        return {
            "holderIdentity": self._config.identity,
            "leaseDurationSeconds": int(self._config.lease_duration),
            "acquireTime": now if took_over else old.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _observe(self, lease: Object) -> None:
        self._observed = lease
        self._observed_at = self._clock.monotonic()

    async def _release(self) -> None:
        if self._observed is None or not self.is_leader:
            return
        lease = copy(self._observed)
        now = micro_timestamp(self._clock.now())
        lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
        try:
            self._observe(await self._client.update(LEASES, lease))
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.debug("cannot release lease %s: %s", self._config.name, error)

    def _report(self, what: str) -> None:
        if self._recorder is not None and self._observed is not None:
            lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", **self._observed}
            self._recorder.event(lease, "Normal", "LeaderElection", f"{self._config.identity} {what}")

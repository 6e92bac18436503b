"""Stops containers: preStop hook, signal, grace period, and the order in which sidecars follow the others.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination and KEP-753 for the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from tiphys.kubelet import labels
from tiphys.kubelet.container.hooks import HookFailure, HookRunner
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import KillReason
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeNotFound, RuntimeService
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2
"""Seconds that every container gets between the signal and the kill."""


def grace_period(pod: Pod, container: ContainerSpec, reason: KillReason) -> int:
    """Seconds that a container has to end by itself."""
    if (grace := pods.deletion_grace(pod)) is not None:
        return grace
    field = {KillReason.LIVENESS_PROBE: "livenessProbe", KillReason.STARTUP_PROBE: "startupProbe"}.get(reason)
    if field and (own := (container.get(field) or {}).get("terminationGracePeriodSeconds")) is not None:
        return int(own)
    if pod["spec"].get("terminationGracePeriodSeconds") is None:
        return MINIMUM_GRACE
    return pods.termination_grace(pod)


class _Order:
    """Sidecars end after the containers that they serve: each waits for those that come before it to end."""

    def __init__(self, pod: Pod, running: Sequence[str]) -> None:
        sidecars = [c["name"] for c in pods.init_containers(pod) if pods.is_sidecar(c) and c["name"] in running]
        self._ended = {name: asyncio.Event() for name in running}
        regular = [name for name in running if name not in sidecars]
        self._waits_for = {name: regular + sidecars[index + 1 :] for index, name in enumerate(sidecars)}

    async def turn(self, name: str) -> None:
        for other in self._waits_for.get(name, ()):
            await self._ended[other].wait()

    def ended(self, name: str) -> None:
        if name in self._ended:
            self._ended[name].set()


class Killer:
    def __init__(self, runtime: RuntimeService, hooks: HookRunner, clock: Clock, events: PodEvents) -> None:
        self._runtime = runtime
        self._hooks = hooks
        self._clock = clock
        self._events = events

    async def kill_pod(self, pod: Pod, observed: PodStatus, grace: int | None = None) -> None:
        """Stop every container and then every sandbox. Raises ``RuntimeFailure`` if one cannot be stopped."""
        running = observed.running
        order = _Order(pod, [container.name for container in running])
        done = await asyncio.gather(
            *(self.kill(pod, c, ips=observed.ips, grace=grace, order=order) for c in running),
            return_exceptions=True,
        )
        for sandbox in observed.sandboxes:
            await self._runtime.stop_sandbox(sandbox.id)
        for problem in done:
            if isinstance(problem, BaseException):
                raise problem

    async def kill(
        self,
        pod: Pod,
        container: ObservedContainer,
        message: str = "",
        reason: KillReason = KillReason.OTHER,
        *,
        ips: Sequence[str] = (),
        grace: int | None = None,
        order: _Order | None = None,
    ) -> None:
        """Stop one container and wait for its end."""
        located = pods.find_container(pod, container.name)
        spec = located[1] if located else None
        if spec is None:
            pod, spec = await self._restore(container.id)
        left = float(grace_period(pod, spec, reason) if grace is None else grace)
        text = message or f"Stopping container {container.name}"
        self._events.container(pod, container.name, "Normal", "Killing", text, container.id)
        began = self._clock.monotonic()
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and left > 0:
            await self._pre_stop(hook, pod, spec, container.id, ips, left)
        if order is not None and (rest := left - (self._clock.monotonic() - began)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await order.turn(container.name)
        left -= int(self._clock.monotonic() - began)
        try:
            with contextlib.suppress(RuntimeNotFound):
                await self._runtime.stop_container(container.id, max(int(left), MINIMUM_GRACE))
        finally:
            if order is not None:
                order.ended(container.name)

    async def _pre_stop(
        self,
        hook: dict[str, object],
        pod: Pod,
        spec: ContainerSpec,
        container_id: str,
        ips: Sequence[str],
        limit: float,
    ) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._hooks.run(hook, pod, spec, container_id, ips[0] if ips else "")
        except TimeoutError:
            log.info("preStop hook of %s/%s did not end within its grace period", pods.key_of(pod), spec["name"])
        except HookFailure as failure:
            log.info("%s", failure)
            self._events.container(
                pod, spec["name"], "Warning", "FailedPreStopHook", "PreStopHook failed", container_id
            )

    async def _restore(self, container_id: str) -> tuple[Pod, ContainerSpec]:
        """What the container's annotations keep of a pod that is gone."""
        try:
            status = await self._runtime.container_status(container_id)
        except RuntimeFailure:
            return labels.restore_pod({}, {})
        return labels.restore_pod(status.labels, status.annotations)

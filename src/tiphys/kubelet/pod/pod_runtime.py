"""Carries out a pod's actions at the runtime, and observes what the runtime then shows.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.kubelet.cgroups.kills import MemoryKills
from tiphys.kubelet.container.builder import ConfigBuilder, ConfigFailure
from tiphys.kubelet.container.hooks import HookFailure, HookRunner
from tiphys.kubelet.container.images import ImageFailure, ImageManager
from tiphys.kubelet.container.killer import Killer
from tiphys.kubelet.container.logs import open_links
from tiphys.kubelet.container.messages import termination_message
from tiphys.kubelet.container.runtime_classes import HandlerFailure, RuntimeClasses
from tiphys.kubelet.dra.manager import ClaimManager, ClaimsNotPrepared
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import PodActions
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus, newest_first, observed_container
from tiphys.kubelet.pod.pods import ContainerKind, ContainerSpec, Pod
from tiphys.kubelet.pod.restarts import backoff_key
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import (
    Container,
    ContainerState,
    ContainerStatus,
    RuntimeFailure,
    RuntimeNotFound,
    RuntimeService,
    Sandbox,
    SandboxConfig,
)
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.status.containers import Reason
from tiphys.kubelet.topology.assigner import Assigner
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.volumes.claims import MountedVolume
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock
from tiphys.runtime.durations import seconds_text

log = logging.getLogger(__name__)


class StartFailure(Exception):
    """A container could not be started: the waiting state's reason and message, and when to try again."""

    def __init__(self, reason: str, message: str, retry_after: float = 10.0) -> None:
        self.reason = Reason(reason, message)
        self.retry_after = retry_after
        super().__init__(f"{reason}: {message}")


class SandboxFailure(Exception):
    """The sandbox could not be made."""


class ResizeFailure(Exception):
    """The runtime did not change a running container's resources."""


@dataclass(slots=True)
class PodWork:
    """What carrying out a pod's actions needs beside the actions."""

    pod: Pod
    observed: PodStatus
    volumes: Mapping[str, MountedVolume]
    pull_secrets: Sequence[dict[str, Any]]
    sandbox_ready: Callable[[Pod, PodStatus], None]
    """Called when the sandbox and its network are there, before images are pulled."""


@dataclass(slots=True)
class Applied:
    """The outcome. ``reasons`` has an entry for each container that was tried: None if it started."""

    changed: bool = False
    reasons: dict[str, Reason | None] = field(default_factory=dict)
    retry_after: float | None = None

    def retry(self, seconds: float) -> None:
        self.retry_after = seconds if self.retry_after is None else min(self.retry_after, seconds)


class PodRuntime:
    def __init__(
        self,
        *,
        runtime: RuntimeService,
        images: ImageManager,
        builder: ConfigBuilder,
        killer: Killer,
        hooks: HookRunner,
        clock: Clock,
        events: PodEvents,
        settings: NodeSettings,
        backoff: KeyedBackoff,
        classes: RuntimeClasses,
        assigner: Assigner,
        claims: ClaimManager,
        kills: MemoryKills,
    ) -> None:
        self._kills = kills
        self._claims = claims
        self._assigner = assigner
        self._classes = classes
        self._runtime = runtime
        self._images = images
        self._builder = builder
        self._killer = killer
        self._hooks = hooks
        self._clock = clock
        self._events = events
        self._settings = settings
        self._backoff = backoff

    async def observe(self, pod_uid: str) -> PodStatus:
        """What the runtime shows of a pod now. Raises ``RuntimeFailure``."""
        sandboxes, containers = await asyncio.gather(
            self._runtime.list_sandboxes(pod_uid), self._runtime.list_containers(pod_uid)
        )
        ordered = sorted(sandboxes, key=lambda s: s.created_at, reverse=True)
        if ordered:
            with contextlib.suppress(RuntimeNotFound):
                ordered[0] = await self._runtime.sandbox_status(ordered[0].id)
        runs = await asyncio.gather(*(self._inspect(container) for container in containers))
        first = ordered[0] if ordered else None
        return PodStatus(
            uid=pod_uid,
            name=first.name if first else "",
            namespace=first.namespace if first else "",
            ips=first.ips if first and first.ready else (),
            sandboxes=tuple(ordered),
            containers=newest_first(self._kills.explain(pod_uid, [run for run in runs if run is not None])),
        )

    def forget(self, pod_uid: str) -> None:
        """Nothing of the pod is left."""
        self._kills.forget(pod_uid)

    async def _inspect(self, container: Container) -> ObservedContainer | None:
        try:
            status: ContainerStatus = await self._runtime.container_status(container.id)
        except RuntimeNotFound:
            return None
        return observed_container(status, container.sandbox_id, termination_message(status))

    async def apply(self, actions: PodActions, work: PodWork) -> Applied:
        """Do what is to be done, in order. Raises ``RuntimeFailure``, ``SandboxFailure`` and ``ResizeFailure``."""
        applied = Applied()
        await self._kill(actions, work, applied)
        for resize in actions.resize:
            try:
                await self._runtime.update_container_resources(resize.container_id, dict(resize.resources))
            except RuntimeFailure as error:
                raise ResizeFailure(f'failed to resize container "{resize.name}": {error.raw}') from error
            applied.changed = True
        sandbox_id, config = await self._sandbox(actions, work, applied)
        if not sandbox_id:
            return applied
        ips = work.observed.ips

        async def start(kind: ContainerKind, index: int) -> bool:
            container = pods.spec_of(work.pod)[kind.value][index]
            return await self._try_start(kind, container, sandbox_id, config, ips, work, applied)

        for index in actions.start_ephemeral:
            await start(ContainerKind.EPHEMERAL, index)
        for index in actions.start_init:
            started = await start(ContainerKind.INIT, index)
            if not started and not pods.is_sidecar(pods.init_containers(work.pod)[index]):
                return applied
        for index in actions.start:
            await start(ContainerKind.REGULAR, index)
        return applied

    async def _kill(self, actions: PodActions, work: PodWork, applied: Applied) -> None:
        pod, observed = work.pod, work.observed
        if actions.kill_pod:
            if actions.create_sandbox and actions.sandbox_id:
                message = "Pod sandbox changed, it will be killed and re-created."
                self._events.pod(pod, "Normal", "SandboxChanged", message)
            applied.changed = applied.changed or not observed.idle
            await self._killer.kill_pod(pod, observed)
            if actions.create_sandbox:
                await self._remove_init_containers(pod, observed)
            return
        for kill in actions.kill:
            container = next(c for c in observed.containers if c.id == kill.container_id)
            applied.changed = True
            await self._killer.kill(pod, container, kill.message, kill.reason, ips=observed.ips)

    async def _remove_init_containers(self, pod: Pod, observed: PodStatus) -> None:
        names = {container["name"] for container in pods.init_containers(pod)}
        for run in observed.containers:
            if run.name in names:
                with contextlib.suppress(RuntimeNotFound):
                    await self._runtime.remove_container(run.id)

    async def _sandbox(self, actions: PodActions, work: PodWork, applied: Applied) -> tuple[str, SandboxConfig]:
        """The sandbox to start containers in: its id and configuration, or no id if none is wanted."""
        pod = work.pod
        if not actions.create_sandbox:
            starting = actions.start or actions.start_init or actions.start_ephemeral
            return (actions.sandbox_id, self._builder.sandbox(pod, actions.attempt)) if starting else ("", {})
        try:
            await self._claims.prepare(pod)
        except ClaimsNotPrepared as error:
            message = f"Failed to prepare dynamic resources: {error}"
            self._events.pod(pod, "Warning", "FailedPrepareDynamicResources", message)
            raise SandboxFailure(str(error)) from error
        applied.changed = True
        try:
            config = self._builder.sandbox(pod, actions.attempt)
            sandbox_id = await self._runtime.run_sandbox(config, await self._classes.handler(pod))
        except (RuntimeFailure, ConfigFailure, HandlerFailure) as error:
            raw = error.raw if isinstance(error, RuntimeFailure) else str(error)
            self._events.pod(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {raw}")
            raise SandboxFailure(raw) from error
        sandbox = await self._sandbox_status(pod, sandbox_id)
        observed = work.observed
        work.observed = PodStatus(
            uid=observed.uid,
            name=sandbox.name,
            namespace=sandbox.namespace,
            ips=sandbox.ips or (self._settings.host_ips if pods.host_network(pod) else ()),
            sandboxes=(sandbox, *observed.sandboxes),
            containers=observed.containers,
        )
        work.sandbox_ready(pod, work.observed)
        return sandbox_id, config

    async def _sandbox_status(self, pod: Pod, sandbox_id: str) -> Sandbox:
        try:
            return await self._runtime.sandbox_status(sandbox_id)
        except RuntimeFailure as error:
            message = f"Unable to get pod sandbox status: {error.raw}"
            self._events.pod(pod, "Warning", "FailedPodSandBoxStatus", message)
            raise

    async def _try_start(
        self,
        kind: ContainerKind,
        container: ContainerSpec,
        sandbox_id: str,
        config: SandboxConfig,
        ips: Sequence[str],
        work: PodWork,
        applied: Applied,
    ) -> bool:
        """Start a container unless it must still back off; note why if it does not start."""
        name = container["name"]
        try:
            self._check_backoff(work.pod, container, work.observed)
            await self._start(kind, container, sandbox_id, config, work)
        except StartFailure as failure:
            applied.reasons[name] = failure.reason
            applied.retry(failure.retry_after)
            applied.changed = applied.changed or failure.reason.reason in ("RunContainerError", "PostStartHookError")
            return False
        applied.reasons[name] = None
        applied.changed = True
        return True

    def _check_backoff(self, pod: Pod, container: ContainerSpec, observed: PodStatus) -> None:
        name = container["name"]
        ended = next((c for c in observed.containers if c.name == name and c.state is ContainerState.EXITED), None)
        if ended is None:
            return
        key, now = backoff_key(pod, container), self._clock.now()
        left = self._backoff.remaining(key, ended.finished_at, now)
        if left > 0:
            who = pods.describe(pod)
            message = f"Back-off restarting failed container {name} in pod {who}"
            self._events.container(pod, name, "Warning", "BackOff", message)
            delay = seconds_text(self._backoff.delay(key))
            text = f"back-off {delay} restarting failed container={name} pod={who}"
            raise StartFailure("CrashLoopBackOff", text, left)
        self._backoff.next(key, ended.finished_at, now)

    async def _start(
        self, kind: ContainerKind, container: ContainerSpec, sandbox_id: str, config: SandboxConfig, work: PodWork
    ) -> None:
        """Pull, create, start, postStart. Raises ``StartFailure``."""
        pod, name, observed = work.pod, container["name"], work.observed
        container_id = ""

        def fail(reason: str, message: str) -> StartFailure:
            self._events.container(pod, name, "Warning", "Failed", f"Error: {message}", container_id)
            return StartFailure(reason, message)

        try:
            image_ref = await self._images.ensure(pod, container, work.pull_secrets, config)
        except ImageFailure as failure:
            self._events.container(pod, name, "Warning", "Failed", f"Error: {failure.reason}")
            raise StartFailure(failure.reason, failure.message, failure.retry_after or 10.0) from failure
        last = observed.find(name)
        restarts = last.restart_count + 1 if last else self._builder.restarts_by_logs(pod, name)
        try:
            extras = await self._assigner.prepare(pod, container)
            wanted = await self._builder.container(
                pod,
                kind,
                container,
                restarts=restarts,
                image_ref=image_ref,
                ips=observed.ips,
                volumes=work.volumes,
                extras=extras,
                target_id=self._target(container, observed),
            )
        except (ConfigFailure, AssignmentFailure) as failure:
            raise fail("CreateContainerConfigError", str(failure)) from failure
        try:
            container_id = await self._runtime.create_container(sandbox_id, wanted, config)
        except RuntimeFailure as error:
            raise fail("CreateContainerError", str(error)) from error
        self._events.container(pod, name, "Normal", "Created", "Container created", container_id)
        try:
            await self._runtime.start_container(container_id)
        except RuntimeFailure as error:
            raise fail("RunContainerError", str(error)) from error
        self._events.container(pod, name, "Normal", "Started", "Container started", container_id)
        self._link_log(pod, name, container_id, Path(config["log_directory"]) / wanted["log_path"])
        await self._post_start(pod, container, container_id, observed)

    def _target(self, container: ContainerSpec, observed: PodStatus) -> str:
        name = container.get("targetContainerName")
        if not name:
            return ""
        target = observed.find(name)
        if target is None:
            raise ConfigFailure(f"unable to find target container {name}")
        return target.id

    async def _post_start(self, pod: Pod, container: ContainerSpec, container_id: str, observed: PodStatus) -> None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        name = container["name"]
        try:
            await self._hooks.run(hook, pod, container, container_id, observed.ips[0] if observed.ips else "")
        except HookFailure as failure:
            log.info("%s", failure)
            self._events.container(pod, name, "Warning", "FailedPostStartHook", "PostStartHook failed", container_id)
            run = ObservedContainer(container_id, name, ContainerState.RUNNING, self._clock.now())
            await self._killer.kill(pod, run, "FailedPostStartHook", ips=observed.ips)
            raise StartFailure("PostStartHookError", str(failure)) from failure

    def _link_log(self, pod: Pod, container: str, container_id: str, path: Path) -> None:
        """A link under /var/log/containers, where log collectors look."""
        folder = self._settings.container_log_links
        if not folder or not path.exists():
            return
        link = f"{pods.name_of(pod)}_{pods.namespace_of(pod)}_{container}-{container_id}.log"
        try:
            with open_links(Path(folder)) as links:
                os.symlink(path, link, dir_fd=links.descriptor)
        except OSError as error:
            log.warning("cannot link the log of %s/%s: %s", pods.key_of(pod), container, error.strerror)

"""Ending the pods of this node's containerd, if no kubelet is there to do it: for `down` and `reset`."""

from __future__ import annotations

import asyncio
import logging

from tiphys.cluster.containerd import Containerd, settings_for_node
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, Sandbox

log = logging.getLogger(__name__)

GRACE_SECONDS = 5
START_SECONDS = 10.0
"""How long the CRI of a containerd that answers may take to be initialised."""


def stop_pods(settings: Settings) -> None:
    """Stop every pod of a containerd that runs. The pods stay known, and start again with the cluster."""
    asyncio.run(_with_pods(settings, remove=False))


def remove_pods(settings: Settings) -> None:
    """Stop and remove every pod, starting containerd for it if pods are left and it does not run."""

    async def remove() -> None:
        containerd = Containerd(settings_for_node(settings))
        await containerd.start()
        try:
            await _with_pods(settings, remove=True)
        finally:
            await containerd.stop()

    asyncio.run(remove())


async def _with_pods(settings: Settings, *, remove: bool) -> None:
    runtime = CRIClient(str(settings.containerd_socket))
    try:
        sandboxes = await _sandboxes(runtime)
        async with asyncio.TaskGroup() as group:
            for sandbox in sandboxes:
                group.create_task(_end(runtime, sandbox, remove=remove))
    finally:
        await runtime.close()


async def _sandboxes(runtime: CRIClient) -> list[Sandbox]:
    """The pods. A containerd that has just been started takes connections before its CRI is initialised, and refuses
    meanwhile. Raises ``RuntimeFailure``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while True:
        try:
            return await runtime.list_sandboxes()
        except RuntimeFailure:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.1)


async def _end(runtime: CRIClient, sandbox: Sandbox, *, remove: bool) -> None:
    """End one pod; what cannot be ended is logged, and does not keep the others."""
    try:
        for container in await runtime.list_containers(sandbox.uid):
            if container.sandbox_id == sandbox.id and container.state is ContainerState.RUNNING:
                await runtime.stop_container(container.id, GRACE_SECONDS)
        await runtime.stop_sandbox(sandbox.id)
        if remove:
            await runtime.remove_sandbox(sandbox.id)
    except RuntimeFailure as error:
        log.warning("cannot end pod %s/%s: %s", sandbox.namespace, sandbox.name, error)

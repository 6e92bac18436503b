"""Keeps the kernel's table of network policies in step with pods, namespaces and policies.

It runs beside the proxy over the same client, and apart from it: what goes wrong here keeps no Service from working.
The table is first made when everything is known, and stays when the process ends: a restart must not open what was
closed.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import NAMESPACES, NETWORK_POLICIES, PODS
from tiphys.client.rest import Client
from tiphys.proxy import libnftables
from tiphys.proxy.policy.names import TABLE
from tiphys.proxy.policy.table import PolicyTable
from tiphys.proxy.state import Family
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_CONTAINERS = ("containers", "initContainers")
GATHER_SECONDS = 0.02
"""Changes that come within it are made in one transaction."""
SLICE_SECONDS = 0.01
"""How long changes are taken in before the loop's other tasks have their turn."""


class NetworkPolicies:
    """``families`` are those that pods have addresses of; ``open_addresses`` are let through whatever a policy says."""

    def __init__(
        self,
        *,
        node_name: str,
        client: Client,
        clock: Clock,
        families: Sequence[Family] = ("ip",),
        open_addresses: Sequence[str] = (),
        run: Run | None = None,
    ) -> None:
        self._clock, self._run = clock, run or libnftables.tools()
        self._tables = [
            PolicyTable(family, node_name, tuple(ip for ip in open_addresses if (":" in ip) == (family == "ip6")))
            for family in families
        ]
        self._wake = asyncio.Event()
        self._built = False
        self._pods = Informer(client, PODS, clock, transform=only_what_policies_ask)
        self._spaces = Informer(client, NAMESPACES, clock)
        self._policies = Informer(client, NETWORK_POLICIES, clock)
        self._pods.add_handler(Callbacks(changed=self._pod, deleted=lambda pod: self._pod(pod, gone=True)))
        self._spaces.add_handler(Callbacks(changed=self._space, deleted=lambda space: self._space(space, gone=True)))
        self._policies.add_handler(Callbacks(changed=self._policy, deleted=lambda p: self._policy(p, gone=True)))

    async def run(self) -> None:
        async with Runner(self._clock, "network policies ") as runner:
            for informer in (self._pods, self._spaces, self._policies):
                runner.supervise(informer.run, f"informer {informer.resource.plural}")
            for informer in (self._pods, self._spaces, self._policies):
                await informer.wait_synced()
            await runner.supervise(self._keep_in_step, "sync")

    def _pod(self, pod: Object, *, gone: bool = False) -> None:
        for table in self._tables:
            if table.pod(_key(pod), None if gone else pod):
                self._wake.set()

    def _space(self, space: Object, *, gone: bool = False) -> None:
        labels = space["metadata"].get("labels") or {}
        for table in self._tables:
            if table.namespace(space["metadata"]["name"], None if gone else labels):
                self._wake.set()

    def _policy(self, policy: Object, *, gone: bool = False) -> None:
        for table in self._tables:
            try:
                table.policy(_key(policy), None if gone else policy)
            except (ValueError, KeyError, TypeError) as error:
                log.error("network policy %s/%s cannot be read and stays as it was: %s", *_key(policy), error)
        self._wake.set()

    async def _keep_in_step(self) -> None:
        while True:
            self._wake.clear()
            worked = await self.sync()
            try:
                async with asyncio.timeout(None if worked else RETRY_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await self._clock.sleep(GATHER_SECONDS)

    async def sync(self) -> bool:
        """Bring the kernel up to date; after a failure the whole table is made. Returns whether it worked."""
        incremental, self._built = self._built, False
        try:
            for table in self._tables:
                await in_slices(table.work(), self._clock)
                commands = table.update() if incremental else table.rebuild()
                if commands:
                    await self._run(("nft", "-f", "-"), "\n".join(commands) + "\n")
        except CommandError as error:
            log.error("cannot bring the rules of network policies up to date; making them again: %s", error)
            return False
        self._built = True
        return True


async def in_slices(work: Iterator[None], clock: Clock) -> None:
    """Do all of ``work``, and let the loop's other tasks run after every ``SLICE_SECONDS`` of it."""
    started = clock.monotonic()
    for _ in work:
        if clock.monotonic() - started >= SLICE_SECONDS:
            await asyncio.sleep(0)
            started = clock.monotonic()


def only_what_policies_ask(pod: Object) -> Object:
    """A pod with the fields that ``pod_facts`` reads: every node keeps all pods of the cluster."""
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    ports = {kind: [{"ports": c.get("ports")} for c in spec.get(kind) or ()] for kind in _CONTAINERS}
    return {
        "metadata": {name: meta[name] for name in ("name", "namespace", "labels", "resourceVersion") if name in meta},
        "spec": {**ports, **{name: spec[name] for name in ("nodeName", "hostNetwork") if name in spec}},
        "status": {name: status[name] for name in ("phase", "podIP", "podIPs") if name in status},
    }


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


async def cleanup(family: Family, run: Run = hosttools.run) -> None:
    """Remove the table of one family, if it is there."""
    await run(("nft", "-f", "-"), f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n")

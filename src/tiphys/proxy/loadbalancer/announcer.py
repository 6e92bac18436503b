"""Announces the addresses of Services of type LoadBalancer that fall to this node.

It runs beside the proxy, over the same informers. While no Service has an address of the pool it does nothing. A node
whose API server does not answer keeps what it has and takes nothing more: that server's end must not take the Services
with it. Should the others think that the node is gone, one of them claims its addresses on the wire, and the node gives
them up when it hears that.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tiphys.api.endpointslices import by_service, service_of
from tiphys.api.meta.addresspools import AddressPool
from tiphys.api.meta.objects import key_of, labels_of, split_key
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.rest import Client
from tiphys.proxy.loadbalancer.addresses import HeldAddresses
from tiphys.proxy.loadbalancer.choice import WantedAddress, interface_of, owners, wanted_of
from tiphys.proxy.loadbalancer.membership import RENEW, Membership
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

CHECK = 1.0
"""Seconds between two looks at who is there, while there are addresses."""
LAST_WORDS = 2.0
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_BY_SERVICE, _BALANCED, _YES = "service", "balanced", "yes"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the proxy knows and shares: its informers of Services and EndpointSlices, and its own Node."""

    services: Informer
    slices: Informer
    node: Callable[[], Object | None]


class Announcer:
    """``run`` announces until it is cancelled, and then gives its addresses up, so that others take over at once."""

    def __init__(
        self,
        *,
        node_name: str,
        node_address: str,
        pool: AddressPool,
        sources: Sources,
        client: Client,
        clock: Clock,
        run: Run = hosttools.run,
    ) -> None:
        self._name, self._node_address, self._pool = node_name, node_address, pool
        self._sources, self._clock, self._run = sources, clock, run
        self._wake = asyncio.Event()
        self._owned: Mapping[str, str] = {}
        self._membership = Membership(node_name, client, clock, self._wake.set)
        self._held = HeldAddresses(run, clock, self._rightful, self._wake.set)
        self._interfaces: Mapping[str, list[str]] = {}
        """This node's addresses with their prefixes, by interface, as of the last renewal."""
        sources.services.add_index(_BALANCED, lambda service: [_YES] if _is_balanced(service) else [])
        sources.slices.add_index(_BY_SERVICE, by_service)
        sources.services.add_handler(
            Callbacks(
                added=self._service,
                updated=lambda old, new: self._service(old, new),
                deleted=self._service,
            )
        )
        sources.slices.add_handler(Callbacks(changed=self._slice))

    def _service(self, *forms: Object) -> None:
        if any(map(_is_balanced, forms)):
            self._wake.set()

    def _slice(self, slice_: Object) -> None:
        """Where endpoints are matters only to Services that keep traffic on their nodes."""
        key = service_of(slice_)
        service = self._sources.services.store.get(*split_key(key)) if key else None
        if service is not None and _is_balanced(service) and service["spec"].get("externalTrafficPolicy") == "Local":
            self._wake.set()

    def _rightful(self, address: str) -> bool:
        return not self._membership.blind and self._owned.get(address) == self._name

    async def run(self) -> None:
        try:
            async with Runner(self._clock, "load balancer ") as runner:
                await self._sources.services.wait_synced()
                await self._sources.slices.wait_synced()
                await self._until_needed()
                runner.supervise(self._membership.leases.run, "informer leases")
                await self._membership.leases.wait_synced()
                runner.supervise(self._stay_known, "membership")
                await runner.supervise(self._keep_in_step, "sync")
        finally:
            await self._leave()

    async def _until_needed(self) -> None:
        while not self._wanted():
            self._wake.clear()
            await self._wake.wait()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._membership.leave()
                await self._held.close()
        except (CommandError, TimeoutError) as error:
            log.warning("addresses of load balancers are left to the kernel, which removes them: %s", error)

    async def _stay_known(self) -> None:
        """Renew this node's Lease while there are addresses and the node may have them."""
        there = False
        while True:
            if self._wanted() and not self._excluded():
                await self._look_at_interfaces()
                try:
                    async with asyncio.timeout(RENEW):
                        await self._membership.renew({network for own in self._interfaces.values() for network in own})
                        there = True
                except TimeoutError:
                    log.warning("the API server does not answer: this node is not seen to be there")
            elif there:
                await self._membership.leave()
                there = False
            await self._clock.sleep(RENEW)

    def _excluded(self) -> bool:
        node = self._sources.node()
        return node is not None and labels_of(node).get(EXCLUDED, "false") != "false"

    async def _keep_in_step(self) -> None:
        while True:
            self._wake.clear()
            wanted = self._wanted()
            try:
                await self._sync(wanted)
            except CommandError as error:
                log.error("addresses of load balancers are not as they should be; trying again: %s", error)
            await self._clock.sleep(0.05)
            try:
                async with asyncio.timeout(CHECK if wanted or self._held.addresses else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sync(self, wanted: list[WantedAddress]) -> None:
        if self._membership.blind and not self._excluded():
            # Nothing is known of others; what Services do not want any more goes all the same.
            still = {one.address for one in wanted}
            await self._held.hold({a: there for a, there in self._held.addresses.items() if a in still})
            return
        self._owned = owners(wanted, self._membership.members())
        mine = [address for address, name in self._owned.items() if name == self._name]
        if not mine and not self._held.addresses:
            return
        placed = {address: interface_of(address, self._interfaces, self._node_address) for address in mine}
        await self._held.hold({address: interface for address, interface in placed.items() if interface})

    def _wanted(self) -> list[WantedAddress]:
        return [
            one
            for service in self._sources.services.store.by_index(_BALANCED, _YES)
            for one in wanted_of(service, self._slices_of(service), self._pool)
        ]

    def _slices_of(self, service: Object) -> list[Object]:
        return self._sources.slices.store.by_index(_BY_SERVICE, key_of(service))

    async def _look_at_interfaces(self) -> None:
        try:
            listed = json.loads(await self._run(("ip", "-json", "address", "show", "up"), "") or "[]")
        except CommandError as error:
            log.warning("cannot see this node's addresses: %s", error)
        else:
            self._interfaces = dict(_networks(listed))


def _networks(listed: list[Object]) -> Iterator[tuple[str, list[str]]]:
    """Interfaces and their addresses, without those of load balancers and loopback."""
    for interface in listed:
        if "LOOPBACK" in interface.get("flags", ()):
            continue
        addresses = [
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in interface.get("addr_info") or ()
            if entry.get("scope") == "global" and entry["prefixlen"] < (128 if ":" in entry["local"] else 32)
        ]
        if addresses:
            yield str(interface["ifname"]), addresses


def _is_balanced(service: Object) -> bool:
    return (service.get("spec") or {}).get("type") == "LoadBalancer"

"""Carries connections itself if there is no packet filter: it listens on each service's addresses and relays.

A cluster IP has to be an address of this machine to be listened on, so it is put on the loopback interface, where the
process may do that; if it may not, NodePorts still work. The sender's address is lost, as with masquerading.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.proxy import nodeports
from tiphys.proxy.backend import LastSync
from tiphys.proxy.endpoints import Endpoints, usable
from tiphys.proxy.nodeports import Hosts
from tiphys.proxy.state import Backends, Family, Place, ServiceKey, ServicePort, ServiceState
from tiphys.proxy.userspace.relay import Address, TcpRelay, UdpRelay
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

Front = tuple[str, str, int]
"""Protocol, address and port that is listened on."""

STICKY_CLIENTS = 10_000
LABEL = "lo:tiphys"
"""Marks our addresses on the loopback interface."""


@dataclass(slots=True)
class _Choice:
    """The endpoints behind one front, and which client sticks to which."""

    clock: Clock
    rng: random.Random
    endpoints: Endpoints = ()
    affinity_seconds: int = 0
    sticky: dict[str, tuple[Address, float]] = field(default_factory=dict)

    def __call__(self, client: str) -> Address | None:
        if not self.endpoints:
            return None
        if not self.affinity_seconds:
            return self.rng.choice(self.endpoints).address
        now = self.clock.monotonic()
        target, since = self.sticky.get(client, (None, 0.0))
        addresses = [endpoint.address for endpoint in self.endpoints]
        if target is None or target not in addresses or now - since > self.affinity_seconds:
            target = self.rng.choice(addresses)
        self.sticky.pop(client, None)
        self.sticky[client] = (target, now)
        if len(self.sticky) > STICKY_CLIENTS:
            del self.sticky[next(iter(self.sticky))]
        return target


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a Service wants of a front, now or when those before it have left."""

    endpoints: Endpoints
    port: ServicePort


class UserspaceBackend:
    """A ``ProxyBackend`` of relays. A front that several Services want is the first one's until it leaves."""

    def __init__(
        self,
        *,
        family: Family,
        place: Place,
        clock: Clock,
        rng: random.Random,
        run: Run = hosttools.run,
        refused: Callable[[ServiceKey, str], None] = lambda _, __: None,
        node_port_hosts: Hosts | None = None,
    ) -> None:
        """``refused`` is called once for each port of a Service that cannot be carried, with the reason. Node ports are
        open on the addresses of ``node_port_hosts``, without it on all."""
        self.family = family
        self.last = LastSync()
        self._refused = refused
        self._refused_ports: dict[ServiceKey, set[int]] = {}
        self._place = place
        self._clock = clock
        self._rng = rng
        self._run = run
        self._claims: dict[Front, dict[ServiceKey, _Claim]] = {}
        """In the order in which they came."""
        self._fronts_of: dict[ServiceKey, set[Front]] = {}
        self._choices: dict[Front, _Choice] = {}
        self._listeners: dict[Front, TcpRelay | UdpRelay] = {}
        self._addresses: set[str] = set()
        self._may_add_addresses = True
        self._node_port_hosts = node_port_hosts or functools.partial(nodeports.hosts, (), family, run)

    @property
    def full_sync_due(self) -> bool:
        return False

    @property
    def has_stale(self) -> bool:
        return False

    def configure(self, *, place: Place | None = None, service_ranges: tuple[str, ...] | None = None) -> None:
        if place is not None:
            self._place = place

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        """Listen for the changed services where they have endpoints; an address in use elsewhere is logged."""
        gave_up = False
        hosts = await self._node_port_hosts() if any(b.port.node_port for s in changes.values() for b in s) else ()
        for key, state in changes.items():
            fronts = dict(self._fronts(state, hosts))
            if not state:
                self._refused_ports.pop(key, None)
            for front in self._fronts_of.get(key, set()) - fronts.keys():
                gave_up = True
                await self._withdraw(key, front)
            for front, claim in fronts.items():
                if claim.port.protocol == "sctp":
                    self._refuse(key, claim.port)
                else:
                    await self._claim(key, front, claim)
        if gave_up:
            await self._drop_unused_addresses()

    async def _claim(self, key: ServiceKey, front: Front, claim: _Claim) -> None:
        claims = self._claims.setdefault(front, {})
        claims[key] = claim
        self._fronts_of.setdefault(key, set()).add(front)
        if next(iter(claims)) == key:
            await self._serve(front, claim)

    async def _withdraw(self, key: ServiceKey, front: Front) -> None:
        """Give the front to the next who wants it, if it was this Service's."""
        claims = self._claims[front]
        served = next(iter(claims)) == key
        del claims[key]
        self._fronts_of[key].discard(front)
        if not self._fronts_of[key]:
            del self._fronts_of[key]
        if served:
            await self._close(front)
        if not claims:
            del self._claims[front]
        elif served:
            await self._serve(front, next(iter(claims.values())))

    def _refuse(self, key: ServiceKey, port: ServicePort) -> None:
        known = self._refused_ports.setdefault(key, set())
        if port.port not in known:
            known.add(port.port)
            reason = (
                f"port {port.port}/SCTP is not carried: mode userspace relays TCP and UDP; use nftables or iptables"
            )
            log.error("%s: %s", port, reason)
            self._refused(key, reason)

    def _fronts(self, state: ServiceState, hosts: Sequence[str]) -> Iterator[tuple[Front, _Claim]]:
        for backends in state:
            port = backends.port
            inside, outside = (_Claim(endpoints, port) for endpoints in self._inside_outside(backends))
            yield (port.protocol, port.cluster_ip, port.port), inside
            for ip in (*port.external_ips, *port.load_balancer_ips):
                yield (port.protocol, ip, port.port), outside
            for host in hosts if port.node_port else ():
                yield (port.protocol, host, port.node_port), outside

    def _inside_outside(self, backends: Backends) -> tuple[Endpoints, Endpoints]:
        endpoints, port = usable(backends.endpoints, backends.port, self._place), backends.port
        return (
            endpoints.local if port.internal_local else endpoints.cluster,
            endpoints.local if port.external_local else endpoints.cluster,
        )

    async def _serve(self, front: Front, claim: _Claim) -> None:
        protocol, address, number = front
        endpoints, port = claim.endpoints, claim.port
        choice = self._choices.setdefault(front, _Choice(self._clock, self._rng))
        choice.endpoints, choice.affinity_seconds = endpoints, port.affinity_seconds
        relay = self._listeners.get(front)
        if isinstance(relay, UdpRelay):
            relay.reconnect({endpoint.address for endpoint in endpoints})
        # Whoever announces a load balancer's address puts it on one node; if all had it here, all would answer for it.
        ours = address == port.cluster_ip or address in port.external_ips
        if ours and address not in port.load_balancer_ips and not await self._have_address(address):
            return
        if not endpoints:
            # The kernel refuses connections to an address of its own that nobody listens on.
            if relay is not None:
                relay.stop_listening()
            return
        if relay is None:
            relay = TcpRelay(choice) if protocol == "tcp" else UdpRelay(choice, self._clock)
            self._listeners[front] = relay
        try:
            await relay.listen(address, number)
        except OSError as error:
            log.error("cannot listen on %s:%d for %s: %s", address, number, port, error.strerror)

    async def _have_address(self, address: str) -> bool:
        """Whether the address is this machine's, after putting it on the loopback interface if need be."""
        if address in self._addresses:
            return True
        if not self._may_add_addresses:
            return False
        try:
            await self._run(("ip", "addr", "replace", self._host_range(address), "dev", "lo", *self._label), "")
        except CommandError as error:
            self._may_add_addresses = False
            log.warning("only NodePorts will work, as service addresses cannot be put on this machine: %s", error)
            return False
        self._addresses.add(address)
        return True

    async def _drop_unused_addresses(self) -> None:
        used = {address for _, address, _ in self._claims}
        for address in self._addresses - used:
            self._addresses.discard(address)
            try:
                await self._run(("ip", "addr", "del", self._host_range(address), "dev", "lo"), "")
            except CommandError as error:
                log.warning("cannot take %s off the loopback interface: %s", address, error)

    @property
    def _label(self) -> tuple[str, ...]:
        """IPv4 addresses carry a label by which another proxy finds them; IPv6 has none."""
        return ("label", LABEL) if self.family == "ip" else ()

    def _host_range(self, address: str) -> str:
        return f"{address}/{32 if self.family == 'ip' else 128}"

    async def _close(self, front: Front) -> None:
        self._choices.pop(front, None)
        listener = self._listeners.pop(front, None)
        if listener is not None:
            await listener.close()

    async def cleanup(self) -> None:
        for front in self._claims:
            await self._close(front)
        self._claims.clear()
        self._fronts_of.clear()
        await self._drop_unused_addresses()


async def cleanup(family: Family, run: Run = hosttools.run) -> None:
    """Take service addresses off the loopback interface that a proxy left there when it was killed."""
    if family == "ip" and hosttools.have("ip"):
        await run(("ip", "-4", "addr", "flush", "dev", "lo", "label", LABEL), "")

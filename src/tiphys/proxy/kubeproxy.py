"""The proxy as a component: follows the API, and keeps the node's packet rules in step with it.

One loop does all of it: wait for a change, let a few more come, sync each family's backend, tidy up. What fails is
tried again, and the health server reports when it is late.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICE_CIDRS, SERVICES, ResourcePath
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.serving.pages import describe
from tiphys.controlkit.serving.pprof import profiled
from tiphys.proxy import conntrack, forward_policy, host, libnftables, modes, nft, nodeports, service_route
from tiphys.proxy.backend import ProxyBackend
from tiphys.proxy.config import ProxyConfig
from tiphys.proxy.figures import Figures
from tiphys.proxy.health.ports import HealthPorts
from tiphys.proxy.health.reports import Health, HealthHandler, metrics_pages
from tiphys.proxy.iptables.backend import IptablesBackend
from tiphys.proxy.modes import Mode
from tiphys.proxy.nft import NftBackend
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Backends, Family, Place, ServiceKey, ServiceState
from tiphys.proxy.tracker import Tracker, is_family
from tiphys.proxy.userspace.backend import UserspaceBackend
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, after, whenever
from tiphys.runtime.metrics import Registry
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.http import Handler
from tiphys.wire.server import Server, serve

log = logging.getLogger(__name__)

ZONE = "topology.kubernetes.io/zone"
OURS = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"
"""The services and slices that are carried by a proxy, and by this one."""
_LAST_WORDS = 2.0
_Take = Callable[[Tracker, Object], bool]


class KubeProxy:
    """``run`` proxies until it is cancelled, and leaves the rules in place, as a restart must not cut connections;
    ``cleanup`` removes them."""

    def __init__(
        self,
        *,
        config: ProxyConfig,
        client: Client,
        clock: Clock,
        rng: random.Random | None = None,
        run: Run | None = None,
    ) -> None:
        """``run`` is how the host's tools are run; without it, by ``libnftables.Tools``."""
        self._config = config
        self._client = client
        self._tools = run or libnftables.tools()
        self._clock = clock
        self._rng = rng or random.Random()
        self._sysctls = host.Sysctls(config.sysctl_root)
        self._families: tuple[Family, ...] = ("ip", "ip6") if _has_ipv6() else ("ip",)
        self._trackers = {family: Tracker(family, config.node_name) for family in self._families}
        self._backends: dict[Family, ProxyBackend] = {}
        self._undone: dict[Family, dict[ServiceKey, ServiceState]] = {family: {} for family in self._families}
        self._flows: dict[Family, dict[ServiceKey, ServiceState]] = {family: {} for family in self._families}
        """The services whose UDP flows may be stale."""
        self._unanswered: dict[Family, dict[ServiceKey, ServiceState]] = {family: {} for family in self._families}
        """Those with connections, perhaps, that wait for an endpoint which is gone."""
        self._unanswered_wake = asyncio.Event()
        self._triggers: dict[Family, list[float]] = {family: [] for family in self._families}
        """When what the rules do not show yet happened."""
        self._place = Place(config.node_name)
        self._mode: Mode = ""
        self._wake = asyncio.Event()
        self._in_step = asyncio.Event()
        """Set once every rule has been written."""
        self._runner = Runner(clock, "proxy ")
        self.health = Health(clock, 2 * config.sync_period, lambda: self._runner.troubles(MENDS_ITSELF_SECONDS))
        self._recorder = EventRecorder(
            client, clock, "kube-proxy", host=config.node_name, api="events.k8s.io/v1", rng=self._rng
        )
        self._health_ports = {
            family: HealthPorts(self.health, self._port_taken, functools.partial(self._node_port_hosts, family))
            for family in self._families
        }
        self._registry = Registry(client.calls)
        self._figures = Figures(self._registry, clock)

        def informer(resource: ResourcePath, labels: str = "", fields: str = "") -> Informer:
            return Informer(client, resource, clock, label_selector=labels, field_selector=fields, rng=self._rng)

        self.services = informer(SERVICES, OURS)
        self.slices = informer(ENDPOINT_SLICES, OURS)
        """Both are shared with what runs beside the proxy."""
        self._nodes = informer(NODES, fields=f"metadata.name={config.node_name}")
        self._ranges = informer(SERVICE_CIDRS)
        self.services.add_handler(self._tracked("Service", Tracker.service_changed, Tracker.service_deleted))
        self.slices.add_handler(self._tracked("EndpointSlice", Tracker.slice_changed, Tracker.slice_deleted))
        self._nodes.add_handler(Callbacks(added=self._node, updated=lambda _, node: self._node(node)))
        self._ranges.add_handler(Callbacks(changed=lambda _: self._ranges_changed()))

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once the rules of every family have been written for the first time."""
        async with self._runner as runner:
            for informer in (self.services, self.slices, self._nodes, self._ranges):
                runner.supervise(informer.run, f"informer {informer.resource.plural}")
            runner.supervise(self._recorder.run, "events")
            servers: list[Server] = []
            try:
                # Nothing is changed before everything is known: rules made from half of it would cut connections.
                await self.services.wait_synced()
                await self.slices.wait_synced()
                await self._nodes.wait_synced()
                await self._wait_for_node()
                mode = await self._set_up()
                servers = await self._serve(mode)
                self._node_event("Normal", "Starting", "")
                runner.spawn(after(ready, self._in_step.wait), "readiness")
                if self._by_kernel:
                    await self._check_host()
                    # Beside the rules from then on: it starts programs, which take long on a busy machine.
                    runner.supervise(self._keep_host_passing, "host")
                    runner.supervise(self._forget_unanswered, "unanswered connections")
                await runner.supervise(self._keep_in_step, "sync")
            finally:
                for server in servers:
                    await server.close(grace=0.5)
                for ports in self._health_ports.values():
                    await ports.close()

    async def cleanup(self) -> None:
        """Remove every rule and address that this proxy has made."""
        for backend in self._backends.values():
            await backend.cleanup()
        for family in self._backends:
            await forward_policy.cleanup(family, self._tools)
            await service_route.cleanup(family, self._tools)

    # -- what has changed ---------------------------------------------------------------------------------------------

    def _tracked(self, kind: str, changed: _Take, deleted: _Take) -> Callbacks:
        """A handler that gives each change to the trackers, and wakes the loop if it matters to one."""

        def give(take: _Take, obj: Object) -> None:
            for family, tracker in self._trackers.items():
                if take(tracker, obj):
                    self.health.queued(family)
                    self._figures.changed(kind, family)
                    self._figures.queued(family)
                    self._wake.set()

        return Callbacks(changed=lambda obj: give(changed, obj), deleted=lambda obj: give(deleted, obj))

    def _node(self, node: Object) -> None:
        self.health.node = node
        self._wake.set()
        place = Place(self._config.node_name, (node["metadata"].get("labels") or {}).get(ZONE, ""))
        if place == self._place:
            return
        self._place = place
        for family, backend in self._backends.items():
            backend.configure(place=place)
            self._trackers[family].touch_all()

    def _ranges_changed(self) -> None:
        for family, backend in self._backends.items():
            backend.configure(service_ranges=self._service_ranges(family))
        self._wake.set()

    def _service_ranges(self, family: Family) -> tuple[str, ...]:
        cidrs = {cidr for obj in self._ranges.store.list() for cidr in obj["spec"].get("cidrs") or ()}
        return tuple(sorted(cidr for cidr in cidrs if is_family(cidr, family)))

    # -- how it gets into the kernel ----------------------------------------------------------------------------------

    async def _set_up(self) -> Mode:
        mode = self._mode = await modes.choose(self._config.mode, self._tools)
        log.info("proxying by %s on node %s", mode, self._config.node_name)
        await modes.clean_up_others(mode, self._families, self._tools)
        localhost = await self._prepare_kernel() if self._by_kernel else False
        for family in self._families:
            self._backends[family] = self._backend(family, localhost=localhost)
            self._trackers[family].touch_all()
        return mode

    @property
    def _by_kernel(self) -> bool:
        """Whether the kernel rewrites packets, and this process does not relay them."""
        return self._mode in ("nftables", "iptables")

    async def _prepare_kernel(self) -> bool:
        """Let packets pass; returns whether NodePorts can answer on 127.0.0.1."""
        pods_v6 = any(":" in cidr for cidr in self._config.cluster_cidrs)
        host.allow_forwarding(self._sysctls, ("ip", "ip6") if pods_v6 else ("ip",))
        await host.filter_bridged(self._sysctls)
        host.bound_conntrack(self._sysctls, self._config.conntrack)
        return self._config.localhost_node_ports and host.allow_localhost_node_ports(self._sysctls)

    def _backend(self, family: Family, *, localhost: bool) -> ProxyBackend:
        match self._mode:
            case "nftables":
                return NftBackend(self._options(family, localhost=localhost), self._clock, self._tools)
            case "iptables":
                return IptablesBackend(self._options(family, localhost=localhost), self._clock, self._tools)
        return UserspaceBackend(
            family=family,
            place=self._place,
            clock=self._clock,
            rng=self._rng,
            run=self._tools,
            refused=self._not_carried,
            node_port_hosts=functools.partial(self._node_port_hosts, family),
        )

    def _options(self, family: Family, *, localhost: bool) -> Options:
        config = self._config
        interface = config.bridge_interface or config.interface_name_prefix
        how = (config.detect_local_mode, interface)
        from_pod, not_from_pod = modes.pod_match(self._mode, family, how, self._pod_ranges(family))
        return Options(
            family=family,
            place=self._place,
            node_ip=next((ip for ip in self._node_ips() if is_family(ip, family)), ""),
            masquerade_mark=1 << self._config.masquerade_bit,
            masquerade_all=self._config.masquerade_all,
            from_pod=from_pod,
            not_from_pod=not_from_pod,
            node_port_ranges=self._node_port_ranges(family),
            localhost_node_ports=localhost and family == "ip",
            service_ranges=self._service_ranges(family),
        )

    def _node_ips(self) -> tuple[str, ...]:
        if self._config.node_ips or self.health.node is None:
            return self._config.node_ips
        addresses = (self.health.node.get("status") or {}).get("addresses") or ()
        return tuple(entry["address"] for entry in addresses if entry["type"] == "InternalIP")

    def _node_port_ranges(self, family: Family) -> tuple[str, ...]:
        return nodeports.ranges(self._config.node_port_addresses, family, self._node_ips())

    async def _node_port_hosts(self, family: Family) -> Sequence[str]:
        return await nodeports.hosts(self._node_port_ranges(family), family, self._tools)

    def _pod_ranges(self, family: Family) -> tuple[str, ...]:
        """The pods' addresses: the cluster's, or in mode NodeCIDR this node's."""
        ranges = self._config.cluster_cidrs
        if self._config.detect_local_mode == "NodeCIDR" and self.health.node is not None:
            ranges = tuple((self.health.node.get("spec") or {}).get("podCIDRs") or ())
        return tuple(cidr for cidr in ranges if is_family(cidr, family))

    async def _wait_for_node(self) -> None:
        """Rules that recognize pods by this node's range, or node ports by its address, need to know it first."""
        config = self._config
        by_range, by_address = (
            config.detect_local_mode == "NodeCIDR",
            config.node_port_addresses == (nodeports.PRIMARY,),
        )
        while (by_range and not any(map(self._pod_ranges, self._families))) or (by_address and not self._node_ips()):
            self._wake.clear()
            await self._wake.wait()

    async def _keep_host_passing(self) -> None:
        while True:
            await self._clock.sleep(self._config.sync_period)
            await self._check_host()

    async def _forget_unanswered(self) -> None:
        """Beside the rules, once they have changed, and for all changes of a second at once: a look costs as much as
        the machine has connections."""
        while True:
            await self._unanswered_wake.wait()
            self._unanswered_wake.clear()
            for family in self._families:
                states, self._unanswered[family] = self._unanswered[family], {}
                try:
                    await conntrack.clean(family, states.values(), self._tools, "tcp")
                except CommandError as error:
                    log.warning("connections that are not answered stay with their endpoints: %s", error)
            await self._clock.sleep(1)

    async def _keep_in_step(self) -> None:
        while True:
            self._wake.clear()
            clean = [await self._sync(family) for family in self._backends]
            if all(clean):
                self._in_step.set()
            await self._clock.sleep(self._config.min_sync_period)
            tidy_soon = any(backend.has_stale for backend in self._backends.values())
            wait = nft.STALE_AFTER if tidy_soon or not all(clean) else self._config.sync_period
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sync(self, family: Family) -> bool:
        """Bring one family up to date; returns whether it worked. What did not is done again with the next."""
        backend, undone = self._backends[family], self._undone[family]
        tracker, triggers = self._trackers[family], self._triggers[family]
        triggers += tracker.take_triggers()
        undone |= tracker.take_changes()
        self._figures.taken(family)
        if not (undone or backend.has_stale or (backend.full_sync_due and any(tracker.services()))):
            self.health.updated(family)
            return True
        started = self._clock.monotonic()
        try:
            await backend.sync(undone)
        except CommandError as error:
            log.error("cannot bring the %s rules up to date; trying again: %s", family, error)
            self._figures.failed(family, self._mode, backend.last)
            return False
        except Exception:
            log.exception("cannot bring the %s rules up to date; trying service by service", family)
            self._figures.failed(family, self._mode, backend.last)
            await self._sync_each(family)
            return False
        done, self._undone[family] = undone, {}
        self.health.updated(family)
        log.debug("synced %d services of %s in %.0f ms", len(done), family, 1e3 * (self._clock.monotonic() - started))
        self._figures.synced(family, self._mode, self._clock.monotonic() - started, backend.last)
        self._figures.served(family, done, self._place)
        self._triggers[family] = []
        self._figures.programmed(family, triggers)
        await self._after_sync(family, done)
        return True

    async def _sync_each(self, family: Family) -> None:
        """One service must not keep the others from being served: what fails alone stays undone."""
        undone = self._undone[family]
        for key, state in list(undone.items()):
            try:
                await self._backends[family].sync({key: state})
            except Exception:
                log.exception("cannot bring the %s rules of service %s/%s up to date", family, *key)
            else:
                del undone[key]

    async def _after_sync(self, family: Family, done: Mapping[ServiceKey, ServiceState]) -> None:
        await self._health_ports[family].sync(done)
        if not self._by_kernel:
            return
        if unanswered := {key: state for key, state in done.items() if conntrack.unserving(state)}:
            self._unanswered[family] |= unanswered
            self._unanswered_wake.set()
        flows = self._flows[family]
        flows |= {key: state for key, state in done.items() if not state or any(map(_is_udp, state))}
        if not flows:
            return
        started = self._clock.monotonic()
        try:
            deleted = await conntrack.clean(family, flows.values(), self._tools)
        except CommandError as error:
            log.warning("stale UDP flows stay: %s", error)
        else:
            flows.clear()
            self._figures.forgotten(family, deleted, self._clock.monotonic() - started)

    async def _check_host(self) -> None:
        """See to it that the host's firewall and routes let packets pass; others may have changed them."""
        mark = 1 << self._config.masquerade_bit
        for family in self._backends:
            if not any(self._trackers[family].services()):
                continue
            source = next((ip for ip in self._node_ips() if is_family(ip, family)), "")
            try:
                await forward_policy.ensure(family, mark, self._pod_ranges(family), self._tools)
                await service_route.ensure(family, self._service_ranges(family), source, self._tools)
            except CommandError as error:
                log.warning("cannot check whether the host lets %s packets pass: %s", family, error)

    # -- reporting --------------------------------------------------------------------------------------------------

    def _node_event(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        name = self._config.node_name
        node = {"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"}
        self._recorder.event(node, type_, reason, message, action="StartKubeProxy")

    def _port_taken(self, key: ServiceKey, number: int, why: str) -> None:
        service = {"kind": "Service", "apiVersion": "v1", "namespace": key[0], "name": key[1]}
        start = f"node {self._config.node_name} failed to start healthcheck"
        message = f'{start} "{key[0]}/{key[1]}" on port {number}: listen tcp :{number}: bind: {why}'
        self._recorder.event(service, "Warning", "FailedToStartServiceHealthcheck", message, action="Listen")

    def _not_carried(self, key: ServiceKey, why: str) -> None:
        service = {"kind": "Service", "apiVersion": "v1", "namespace": key[0], "name": key[1]}
        self._recorder.event(service, "Warning", "UnsupportedProtocol", why, action="Listen")

    async def _cannot_serve(self, reason: str, address: str, error: OSError) -> None:
        """Report it before this proxy ends of it."""
        self._node_event("Warning", reason, f"listen tcp {address}: bind: {os.strerror(error.errno or 0).lower()}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._recorder.flush()

    async def _serve(self, mode: str) -> list[Server]:
        config = self._config
        shown = {"kubeproxy.config.k8s.io": describe(config)}
        metrics: Handler = metrics_pages(self._registry, mode, self._clock, config.flags, shown)
        wanted: tuple[tuple[str, str, Handler], ...] = (
            ("FailedToStartProxierHealthcheck", config.healthz_address, HealthHandler(self.health, self._registry)),
            ("FailedToStartMetricServer", config.metrics_address, profiled(metrics) if config.profiling else metrics),
        )
        servers = []
        for failed, address, handler in wanted:
            if not address:
                continue
            name, _, port = address.rpartition(":")
            try:
                servers.append(await serve(handler, name.strip("[]"), int(port)))
            except OSError as error:
                if config.bind_address_hard_fail:
                    await self._cannot_serve(failed, address, error)
                    raise
                log.error("cannot listen on %s: %s", address, error.strerror)
        return servers


def _is_udp(backends: Backends) -> bool:
    return backends.port.protocol == "udp"


def _has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


async def cleanup_node() -> None:
    """Remove what any proxy has made on this node, also one that is not running any more."""
    run = libnftables.tools()
    families: tuple[Family, ...] = ("ip", "ip6") if _has_ipv6() else ("ip",)
    await modes.clean_up_others("", families, run)
    for family in families if await nft.available(run) or hosttools.have("iptables") else ():
        await forward_policy.cleanup(family, run)
        await service_route.cleanup(family, run)

"""The processes of one node, wired: what `tiphys up` keeps running.

Each function below is the main function of one forked process. Imports of what only one component needs are inside its
function; what is shared, or wanted at once, is imported by ``preload_…`` before the fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from tiphys.cli.importing import uncollected
from tiphys.client.rest import Client
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready, exec_program, share_memory
from tiphys.controlkit.serving.settings import Delegation, PortSettings
from tiphys.runtime import component, logs
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.tasks import Loop, Runner
from tiphys.wire.server import reserve

if TYPE_CHECKING:
    from tiphys.apiserver.config import Config
    from tiphys.apiserver.server import APIServer
    from tiphys.apiserver.serving import Serving
    from tiphys.apiserver.workers import Seat
    from tiphys.store.backend import Backend

log = logging.getLogger(__name__)

Main = Callable[[Ready], Coroutine[Any, Any, None]]


@uncollected()
def preload_apiserver() -> None:
    """Import what the API server runs, before it is forked."""
    import jsonschema_rs  # noqa: F401
    import uvloop  # noqa: F401

    import tiphys.api.codec
    import tiphys.api.defaults
    import tiphys.api.resources
    import tiphys.apiserver.dialer
    import tiphys.apiserver.running
    import tiphys.apiserver.server
    import tiphys.cluster.bootstrap
    import tiphys.store.sqlite
    import tiphys.validation
    import tiphys.wire.inprocess
    import tiphys.wire.server  # noqa: F401


@uncollected()
def preload_others() -> None:
    """Import what a node needs to become ready, while the API server starts, before it is forked."""
    import tiphys.cloud.manager
    import tiphys.cloud.providers.local.nodes
    import tiphys.controllers.command
    import tiphys.dns.command
    import tiphys.kubelet.command
    import tiphys.kubelet.kubelet
    import tiphys.proxy.command
    import tiphys.scheduler.command  # noqa: F401


@uncollected()
def preload_late() -> None:
    """Import what runs on top of a node, once the node's agent runs: what each imported by itself would be its own."""
    import cryptography.x509  # noqa: F401

    import tiphys.addons.apply
    import tiphys.addons.hosted
    import tiphys.addons.metricsserver.command
    import tiphys.cli.kubeadm.addon
    import tiphys.csi.local.command  # noqa: F401

    share_memory()


@uncollected()
def preload_node() -> None:
    """Import what a further node runs, before its processes are forked."""
    import tiphys.cluster.containerd
    import tiphys.cluster.networking.network
    import tiphys.cluster.tlsbootstrap
    import tiphys.csi.local.command
    import tiphys.kubelet.command
    import tiphys.kubelet.kubelet
    import tiphys.proxy.command
    import tiphys.proxy.podnetwork.follower
    import tiphys.proxy.policy.follower  # noqa: F401


def programs(settings: Settings) -> list[Program]:
    """In the order in which they start; they end in the reverse order."""
    api, node = ("kube-apiserver",), ("kubelet",)
    left_out = settings.without.split(",")
    all_programs = [
        containerd(settings),
        *apiservers(settings),
        Program("kube-controller-manager", _component(settings, lambda ready: controllers(settings, ready)), api),
        Program("kube-scheduler", _component(settings, lambda ready: scheduler(settings, ready)), api),
        Program("kubelet", _component(settings, lambda ready: kubelet(settings, ready)), ("containerd", *api)),
        Program("kube-proxy", _component(settings, lambda ready: proxy(settings, ready)), api),
        Program("dns", _component(settings, lambda ready: dns(settings, ready)), api),
        Program("csi-local", _component(settings, lambda ready: csi_local(settings, ready)), node, preload_late),
        Program("metrics-server", _component(settings, lambda ready: metrics_server(settings, ready)), node),
    ]
    if "ingress" in settings.addons.split(","):
        all_programs += ingress_programs(settings)
    if "autoscaler" in settings.addons.split(","):
        run = _component(settings, lambda ready: autoscaler(settings, ready))
        all_programs.append(Program("cluster-autoscaler", run, api))
    if settings.cloud_provider:
        all_programs += cloud_programs(settings)
    if settings.backup_to:
        all_programs.append(Program("backup", _component(settings, lambda ready: backup(settings, ready)), api))
    return [program for program in all_programs if program.name not in left_out]


def node_programs(settings: Settings) -> list[Program]:
    """Those of a further node, which has no part of the control plane."""
    all_programs = [
        containerd(settings),
        Program("kubelet", _component(settings, lambda ready: kubelet(settings, ready)), ("containerd",)),
        Program("kube-proxy", _component(settings, lambda ready: proxy(settings, ready))),
        Program("csi-local", _component(settings, lambda ready: csi_local(settings, ready))),
    ]
    if settings.cloud_provider:
        all_programs.append(Program("csi-cloud", _component(settings, lambda ready: csi_cloud_node(settings, ready))))
    return all_programs


def apiservers(settings: Settings) -> list[Program]:
    """The API server, and its further processes, which start when the first one serves."""
    if settings.api_workers == 1:
        return [Program("kube-apiserver", _component(settings, lambda ready: apiserver(settings, ready)))]
    from tiphys.apiserver.workers import Seat

    settings.workers_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def worker(number: int) -> Callable[[Ready], None]:
        seat = Seat(number, settings.api_workers, settings.workers_dir)
        return _component(settings, lambda ready: apiserver(settings, ready, seat))

    further = range(1, settings.api_workers)
    first = Program("kube-apiserver", worker(0))
    return [first, *(Program(f"{first.name}-{number}", worker(number), (first.name,)) for number in further)]


def _component(settings: Settings, main: Main) -> Callable[[Ready], None]:
    """A process whose main coroutine runs until SIGTERM or SIGINT cancels it."""

    def run(ready: Ready) -> None:
        logs.configure(settings.verbosity)
        try:
            component.run(lambda: main(ready))
        except component.CannotStart as error:
            raise SystemExit(str(error)) from error

    return run


def containerd(settings: Settings) -> Program:
    """The private containerd, ready once it has the pause and demo images: work beside the API server's start.

    Its pods are stopped in order before it ends, and outlive it if it is killed.
    """
    from tiphys.cluster import images
    from tiphys.cluster.containerd import Containerd, settings_for_node
    from tiphys.cluster.networking.network import pod_network
    from tiphys.cluster.pods import stop_pods

    config = settings_for_node(settings)
    # The addresses of a further node's pods are known once it is registered: see ``configure_pods``.
    made = Containerd(config, None if settings.joined else pod_network(settings))

    def serves() -> bool:
        if not accepts_connections(config.socket):
            return False
        asyncio.run(images.ensure_images(config.socket))
        return True

    def run(ready: Ready) -> None:
        made.write_files()
        made.install_masquerade()
        exec_program(made.command(), serves, fragile_start=True)(ready)

    return Program("containerd", run, before_stop=lambda: stop_pods(settings))


async def apiserver(settings: Settings, ready: Ready, seat: Seat | None = None) -> None:
    """The API server with the store in its process, and the store's etcd API on loopback.

    With a ``seat`` it is one of several processes, of which the first has the store and the others use it.
    """
    from tiphys.apiserver.dialer import SocketDialer
    from tiphys.apiserver.running import served
    from tiphys.apiserver.workers import listening_socket
    from tiphys.store.embedded import Embedded
    from tiphys.wire.tls.contexts import client_context
    from tiphys.wire.tls.following import FollowedCertificate

    clock, pki = SystemClock(), settings.pki
    client = (pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
    tls = client_context(pki / "ca.crt", *client)
    own = (settings.node_ip, settings.kubelet_port)
    async with served(
        _apiserver_config(settings),
        _apiserver_serving(settings, clock),
        open_store=lambda clock: _store(settings, clock, seat),
        clock=clock,
        dialer=SocketDialer(tls, own, FollowedCertificate.in_files(tls, *client)),
        beside=partial(_beside, seat),
        listening=None if seat is None else partial(listening_socket, settings.any_address, settings.port, shared=True),
    ) as store:
        if not isinstance(store, Embedded):
            ready()
            await asyncio.Event().wait()
            return
        with socket.create_server(("127.0.0.1", settings.etcd_port), backlog=512) as store_port:
            ready()
            await asyncio.to_thread(_import_rest)
            from tiphys.cli.storeport import serve_store

            etcd = await serve_store(settings, store, store_port)
            try:
                await asyncio.Event().wait()
            finally:
                await etcd.stop()


def _apiserver_config(settings: Settings) -> Config:
    from tiphys.apiserver.config import Config, FrontProxy, ProxyCertificate

    pki = settings.pki
    return Config(
        advertise_address=settings.node_ip,
        advertise_port=settings.port,
        hostname=socket.gethostname(),
        kubelet_address_types=("InternalIP", "ExternalIP", "Hostname"),
        service_cluster_ip_ranges=settings.service_cidrs,
        service_account_signing_key=(pki / "sa.key").read_bytes(),
        service_account_issuers=(f"https://kubernetes.default.svc.{settings.cluster_domain}",),
        client_ca=(pki / "ca.crt").read_bytes(),
        front_proxy=FrontProxy((pki / "front-proxy-ca.crt").read_bytes()),
        proxy_certificate=ProxyCertificate(pki / "front-proxy-client.crt", pki / "front-proxy-client.key"),
        aggregator_routing=True,
        processes=settings.api_workers,
    )


def _apiserver_serving(settings: Settings, clock: Clock) -> Serving:
    from tiphys.apiserver.serving import Serving
    from tiphys.wire.server import Limits
    from tiphys.wire.tls.contexts import TLSPolicy, keep_renewed, server_context

    pki = settings.pki
    pair, authorities = (pki / "apiserver.crt", pki / "apiserver.key"), (pki / "ca.crt", pki / "front-proxy-ca.crt")
    tls = server_context(*pair, authorities, policy=TLSPolicy(asks=True))
    keep = partial(keep_renewed, tls, *pair, authorities, clock=clock)
    return Serving(settings.any_address, settings.port, tls, Limits(), keep)


async def _store(settings: Settings, clock: Clock, seat: Seat | None) -> Backend:
    from tiphys.apiserver.workers import store_of
    from tiphys.store.sqlite import SQLiteBackend

    return await store_of(seat, lambda: SQLiteBackend.open(settings.store, clock), clock)


@contextlib.asynccontextmanager
async def _beside(seat: Seat | None, server: APIServer, store: Backend) -> AsyncIterator[None]:
    """First make what the cluster's own parts need, as a caller inside of the server; then be one among the workers."""
    from tiphys.apiserver.workers import among_workers
    from tiphys.cluster.bootstrap import apply_bootstrap
    from tiphys.wire.inprocess import InProcessTransport

    if seat is None or seat.keeps_store:
        itself = InProcessTransport(server.handler, identity=("system:apiserver", ("system:masters",)))
        await apply_bootstrap(Client(itself, user_agent="tiphys"))
    async with contextlib.nullcontext() if seat is None else among_workers(seat, server, store):
        yield


def _import_rest() -> None:
    """Import what the API server wants soon, but not to be ready: its first requests find it there."""
    import tiphys.apiserver.crd.approval
    import tiphys.apiserver.crd.target
    import tiphys.apiserver.streaming.reverse
    import tiphys.cli.storeport  # noqa: F401
    from tiphys.validation import registry

    registry.import_all()


async def controllers(settings: Settings, ready: Ready) -> None:
    """The controllers, with that of load balancers in their process unless somebody else gives those."""
    from tiphys.controllers.command import run
    from tiphys.controllers.config import SIGNERS, ControllerManagerConfig, KeyPair

    pki, path = settings.pki, settings.kubeconfig("controller-manager")
    config = ControllerManagerConfig(
        root_ca=(pki / "ca.crt").read_bytes(),
        service_account_signing_key=(pki / "sa.key").read_bytes(),
        signers=dict.fromkeys(SIGNERS.values(), KeyPair((pki / "ca.crt").read_bytes(), (pki / "ca.key").read_bytes())),
        allocate_node_cidrs=True,
        cluster_cidrs=settings.pod_cidrs,
        serving=_port(settings, "kube-controller-manager", 10257, path),
    )
    if settings.load_balancer_pool == "none" or (settings.cloud_provider and settings.address_pool is not None):
        await run(config, path, own_accounts=True, ready=ready)
        return
    async with Runner(SystemClock()) as runner:
        # In this process, as one of its own would hardly have anything to do.
        runner.supervise(lambda: load_balancers(settings, path), "load balancers")
        await run(config, path, own_accounts=True, ready=ready)


async def load_balancers(settings: Settings, path: Path) -> None:
    """The service controller, over addresses of a pool or the nodes' own. Of upstream's account for it."""
    from tiphys.addons.apply import apply_objects
    from tiphys.client.kubeconfig import client_from_file, connected
    from tiphys.cluster.bootstrap import load_balancer_objects
    from tiphys.cluster.networking.loadbalancers import service_controller
    from tiphys.controllers.access.credentials import ServiceAccountClients

    agent, clock, pool = "service-controller", SystemClock(), settings.address_pool
    if pool is not None:
        async with connected(settings.kubeconfig("admin"), "tiphys") as administrator:
            await apply_objects(administrator, load_balancer_objects())
    async with connected(path, agent) as client, Runner(clock) as runner, contextlib.AsyncExitStack() as stack:
        bare = client_from_file(path, agent, anonymous=True)
        stack.push_async_callback(bare.close)
        own = await ServiceAccountClients(client, bare, clock, runner).client_for(agent)
        await service_controller(own, clock, pool, settings.reserved_ports, settings.cluster_name).run()


async def scheduler(settings: Settings, ready: Ready) -> None:
    from tiphys.scheduler.command import run
    from tiphys.scheduler.config import SchedulerConfig

    path = settings.kubeconfig("scheduler")
    await run(SchedulerConfig(serving=_port(settings, "kube-scheduler", 10259, path)), path, ready)


def _port(settings: Settings, name: str, port: int, kubeconfig: Path) -> PortSettings | None:
    """A component's port on loopback; None if another cluster on this machine has it."""
    try:
        reserve("127.0.0.1", port).close()
    except OSError as error:
        log.warning("port %d of loopback, for the metrics of %s, is taken: %s", port, name, error.strerror)
        return None
    delegation = Delegation(authentication=kubeconfig, authorization=kubeconfig, tolerate_lookup_failure=True)
    pair = settings.pki / "loopback.crt", settings.pki / "loopback.key"
    return PortSettings("127.0.0.1", port, name, pair, delegation=delegation)


async def kubelet(settings: Settings, ready: Ready) -> None:
    """The node's agent, over the private containerd."""
    from tiphys.cluster.containerd import settings_for_node
    from tiphys.cluster.networking.nodenetwork import cgroup_root
    from tiphys.kubelet.command import run
    from tiphys.kubelet.config import KubeletConfig

    pki = settings.pki
    certificate, key = pki / "kubelet.crt", pki / "kubelet.key"
    if settings.joined:
        from tiphys.cluster import tlsbootstrap

        await tlsbootstrap.ensure_client(settings)
        certificate, key = await tlsbootstrap.ensure_serving(settings)
    machine = settings_for_node(settings)
    config = KubeletConfig(
        settings.node_name,
        root=settings.kubelet_dir,
        node_ips=settings.node_ips,
        cluster_dns=(settings.dns_ip,),
        cluster_domain=settings.cluster_domain,
        log_root=str(settings.data_dir / "pod-logs"),
        container_log_links=str(settings.data_dir / "container-logs"),
        cgroup_driver="systemd" if machine.systemd_cgroup else "cgroupfs",
        cgroup_root=cgroup_root(settings) if settings.joined else "",
        cgroups_per_qos=not machine.disable_cgroup,
        address=settings.any_address,
        port=settings.kubelet_port,
        runtime_socket=str(settings.containerd_socket),
        tls_cert=certificate,
        tls_key=key,
        client_ca=pki / "ca.crt",
        external_cloud=bool(settings.cloud_provider),
    )
    await run(config, str(settings.containerd_socket), settings.kubeconfig("kubelet"), ready)


async def proxy(settings: Settings, ready: Ready) -> None:
    """The service proxy, with the pod network and the network policies beside it."""
    from tiphys.cluster.networking.network import configure_pods
    from tiphys.proxy.command import Shared, run
    from tiphys.proxy.config import ProxyConfig
    from tiphys.proxy.modes import Mode
    from tiphys.proxy.podnetwork.follower import PodNetwork
    from tiphys.proxy.policy.follower import NetworkPolicies

    config = ProxyConfig(
        settings.node_name,
        cast(Mode, settings.proxy_mode),
        node_ips=settings.node_ips,
        cluster_cidrs=settings.pod_cidrs,
    )
    configure = configure_pods(settings)

    def pod_network(shared: Shared) -> Loop:
        # A further node's default route leads to the first node, which is this machine itself.
        direct = [urlsplit(settings.joined).hostname or ""] if settings.joined else []
        return PodNetwork(
            node_name=settings.node_name,
            client=shared.client,
            clock=shared.clock,
            configure=configure,
            direct=direct,
        ).run

    def policies(shared: Shared) -> Loop:
        # DNS runs on nodes and not in pods, so that no policy could select it.
        opened = (settings.dns_ip,)
        return NetworkPolicies(
            node_name=settings.node_name,
            client=shared.client,
            clock=shared.clock,
            families=["ip6" if ":" in cidr else "ip" for cidr in settings.pod_cidrs],
            open_addresses=opened,
        ).run

    beside = {"pod network": pod_network, "network policies": policies}
    if settings.announces_addresses and (pool := settings.address_pool) is not None:
        from tiphys.proxy.loadbalancer.announcer import Announcer, Sources

        def announcer(shared: Shared) -> Loop:
            proxy = shared.proxy
            sources = Sources(proxy.services, proxy.slices, lambda: proxy.health.node)
            return Announcer(
                node_name=settings.node_name,
                node_address=settings.node_ip,
                pool=pool,
                sources=sources,
                client=shared.client,
                clock=shared.clock,
            ).run

        beside["load balancer addresses"] = announcer
    await run(config, settings.kubeconfig("kube-proxy"), ready, beside=beside)


async def csi_local(settings: Settings, ready: Ready) -> None:
    """Volumes on this node's disk, for the StorageClass that claims have by default."""
    from tiphys.csi.local.command import run

    volumes, kubelet_dir = settings.volumes, settings.kubelet_dir
    await run(settings.node_name, volumes, kubelet_dir, settings.kubeconfig("csi-local"), ready)


async def dns(settings: Settings, ready: Ready) -> None:
    from tiphys.dns.command import HEALTH_ADDRESS, run
    from tiphys.dns.config import DNSConfig

    config = DNSConfig(
        node_name=settings.node_name,
        address=settings.node_ip,
        port=settings.dns_port,
        cluster_domain=settings.cluster_domain,
        service_ip=settings.dns_ip,
        recursion_for=(*settings.pod_cidrs, *settings.node_cidrs),
        health_address=HEALTH_ADDRESS,
    )
    await run(config, settings.kubeconfig("dns"), ready)


async def backup(settings: Settings, ready: Ready) -> None:
    """Backups by a schedule, of the cluster as it runs."""
    from tiphys.cluster.backup import schedule
    from tiphys.cluster.backup.making import maker
    from tiphys.cluster.backup.places import place_of
    from tiphys.cluster.backup.sources import of_up
    from tiphys.runtime.durations import seconds

    place = await asyncio.to_thread(place_of, settings.backup_to)
    every, keep = seconds(settings.backup_every), settings.backup_keep
    ready()
    make = maker(lambda: of_up(settings), lambda: True)
    await schedule.keep_making(make, place, settings.cluster_name, every=every, keep=keep, clock=SystemClock())


def ingress_programs(settings: Settings) -> list[Program]:
    """haproxy, which outlives its controller, and the controller."""
    from tiphys.addons.ingress.command import answers, proxy_of

    proxy = proxy_of(settings.ingress_dir, settings.node_ips)

    def run(ready: Ready) -> None:
        proxy.prepare()
        exec_program(proxy.command(), lambda: answers(settings.node_ip))(ready)

    controller = _component(settings, lambda ready: ingress(settings, ready))
    return [Program("haproxy", run), Program("ingress", controller, ("kube-apiserver", "haproxy"))]


async def ingress(settings: Settings, ready: Ready) -> None:
    """The ingress controller, once its rights, its class and its Service are there."""
    from tiphys.addons.apply import apply_objects
    from tiphys.addons.hosted import ingress_objects
    from tiphys.addons.ingress.command import proxy_of, run
    from tiphys.client.kubeconfig import connected

    async with connected(settings.kubeconfig("admin"), "tiphys") as administrator:
        await apply_objects(administrator, ingress_objects(settings.node_name, settings.node_ips))
    await run(proxy_of(settings.ingress_dir, settings.node_ips), settings.kubeconfig("ingress"), ready)


async def autoscaler(settings: Settings, ready: Ready) -> None:
    """The autoscaler over this machine's nodes, once its rights are there."""
    from tiphys.addons.apply import apply_objects
    from tiphys.addons.autoscaler.command import DEFAULT, run
    from tiphys.addons.autoscaler.controller import with_bounds
    from tiphys.addons.hosted import autoscaler_objects
    from tiphys.client.kubeconfig import connected
    from tiphys.cloud.providers.local.cloud import LocalCloud
    from tiphys.cloud.providers.local.config import LocalConfig
    from tiphys.runtime.durations import seconds

    async with connected(settings.kubeconfig("admin"), "tiphys") as administrator:
        await apply_objects(administrator, autoscaler_objects())
    idle = seconds(settings.autoscaler_idle)
    config = with_bounds(replace(DEFAULT, unneeded_time=idle, delay_after_add=idle), settings.autoscaler_nodes)
    cloud = LocalCloud(LocalConfig(data_dir=str(settings.data_dir)))
    await run(config, cloud, settings.kubeconfig("autoscaler"), ready)


def cloud_programs(settings: Settings) -> list[Program]:
    """The controllers of the cloud, and the driver of its disks with its part on this node."""
    node = ("kubelet",)
    return [
        Program("cloud-controller-manager", _component(settings, lambda ready: cloud(settings, ready)), node),
        Program("csi-cloud-controller", _component(settings, lambda ready: csi_cloud(settings, ready)), node),
        Program("csi-cloud", _component(settings, lambda ready: csi_cloud_node(settings, ready)), node),
    ]


async def cloud(settings: Settings, ready: Ready) -> None:
    """The cloud controller manager, once the rights of the cloud's parts are there."""
    from tiphys.addons.apply import apply_objects
    from tiphys.addons.hosted import cloud_objects
    from tiphys.client.kubeconfig import connected
    from tiphys.cloud.command import run
    from tiphys.cloud.context import CloudConfig

    async with connected(settings.kubeconfig("admin"), "tiphys") as administrator:
        await apply_objects(administrator, cloud_objects())
    path = settings.kubeconfig("cloud-controller-manager")
    serving = _port(settings, "cloud-controller-manager", 10258, path)
    config = CloudConfig(cluster_name=settings.cluster_name, serving=serving)
    await run(config, settings.cloud_provider, settings.cloud_config, path, ready)


async def csi_cloud(settings: Settings, ready: Ready) -> None:
    from tiphys.addons.csicloud.command import run_controller

    path = settings.kubeconfig("csi-cloud")
    await run_controller(settings.cloud_provider, settings.cloud_config, path, elects=False, ready=ready)


async def csi_cloud_node(settings: Settings, ready: Ready) -> None:
    from tiphys.addons.csicloud.command import run_node

    await run_node(settings.node_name, settings.kubelet_dir, settings.kubeconfig("csi-cloud-node"), ready)


async def metrics_server(settings: Settings, ready: Ready) -> None:
    """The metrics server, once its rights and its Service are there: those are the administrator's to make."""
    from tiphys.addons.aggregated import ServingPlace
    from tiphys.addons.apply import apply_objects
    from tiphys.addons.hosted import metrics_server_objects
    from tiphys.addons.metricsserver.command import run
    from tiphys.addons.metricsserver.server import MetricsServerConfig
    from tiphys.cli.kubeadm.addon import settings_of
    from tiphys.client.kubeconfig import connected, credentials_from_file
    from tiphys.wire.tls.contexts import client_context

    pki, port = settings.pki, settings.metrics_port
    authority = (pki / "ca.crt").read_bytes()
    objects = metrics_server_objects(settings_of(settings), address=settings.node_ip, port=port, authority=authority)
    async with connected(settings.kubeconfig("admin"), "tiphys") as administrator:
        await apply_objects(administrator, objects)
    path = settings.kubeconfig("metrics-server")
    identity = credentials_from_file(path)
    config = MetricsServerConfig(
        serving=ServingPlace(pki / "metrics-server.crt", pki / "metrics-server.key", settings.node_ip, port),
        tls=client_context(pki / "ca.crt", identity.certificate, identity.key),
        address_types=("InternalIP", "ExternalIP", "Hostname"),
        resolution=15.0,
    )
    await run(config, path, ready)


def accepts_connections(path: Path) -> bool:
    """Whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

"""The control plane of `tiphys up`: one function for each of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.cli.programs.process import component, loopback_port
from tiphys.client.rest import Client
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.tasks import Runner

if TYPE_CHECKING:
    from tiphys.apiserver.config import Config
    from tiphys.apiserver.server import APIServer
    from tiphys.apiserver.serving import Serving
    from tiphys.apiserver.workers import Seat
    from tiphys.store.backend import Backend


def apiservers(settings: Settings) -> list[Program]:
    """The API server, and its further processes, which start when the first one serves."""
    if settings.api_workers == 1:
        return [component("kube-apiserver", settings, apiserver)]
    from tiphys.apiserver.workers import Seat

    settings.workers_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def worker(name: str, number: int, needs: tuple[str, ...] = ()) -> Program:
        seat = Seat(number, settings.api_workers, settings.workers_dir)
        return component(name, settings, partial(apiserver, seat=seat), needs)

    first = worker("kube-apiserver", 0)
    further = range(1, settings.api_workers)
    return [first, *(worker(f"{first.name}-{number}", number, (first.name,)) for number in further)]


async def apiserver(settings: Settings, ready: Ready, seat: Seat | None = None) -> None:
    """The API server with the store in its process, and the store's etcd API on loopback.

    With a ``seat`` it is one of several processes, of which the first has the store and the others use it.
    """
    from tiphys.apiserver.dialer import SocketDialer
    from tiphys.apiserver.running import served
    from tiphys.store.embedded import Embedded
    from tiphys.wire.reserving import reserve
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
        listening=None if seat is None else partial(reserve, settings.any_address, settings.port, shared=True),
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
        serving=loopback_port(settings, "kube-controller-manager", 10257, path),
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
    await run(SchedulerConfig(serving=loopback_port(settings, "kube-scheduler", 10259, path)), path, ready)


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

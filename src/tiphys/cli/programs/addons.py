"""Add-ons that `tiphys up` runs as processes of the node, each once its rights and its objects are there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tiphys.cli.programs.process import component, loopback_port
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready, execute


def ingress_programs(settings: Settings) -> list[Program]:
    """haproxy, which outlives its controller, and the controller."""
    from tiphys.addons.ingress.command import answers, proxy_of

    proxy = proxy_of(settings.ingress_dir, settings.node_ips)

    def run(_: Ready) -> None:
        proxy.prepare()
        execute(proxy.command())

    haproxy = Program("haproxy", run, probe=lambda: answers(settings.node_ip))
    return [haproxy, component("ingress", settings, ingress, ("kube-apiserver", "haproxy"))]


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
        component("cloud-controller-manager", settings, cloud, node),
        component("csi-cloud-controller", settings, csi_cloud, node),
        component("csi-cloud", settings, csi_cloud_node, node),
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
    serving = loopback_port(settings, "cloud-controller-manager", 10258, path)
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
    """The metrics server, once its rights and its Service are there: those are the administrator's to make.

    It is registered once it serves: a group that is registered and does not answer is a complaint of every discovery.
    """
    from tiphys.addons.aggregated import ServingPlace
    from tiphys.addons.apply import apply_objects
    from tiphys.addons.hosted import metrics_server_objects
    from tiphys.addons.metricsserver.command import run
    from tiphys.addons.metricsserver.server import MetricsServerConfig
    from tiphys.cli.addonsettings import settings_of
    from tiphys.client.kubeconfig import connected, credentials_from_file
    from tiphys.wire.tls.contexts import client_context

    pki, port = settings.pki, settings.metrics_port
    authority = (pki / "ca.crt").read_bytes()
    objects = metrics_server_objects(settings_of(settings), address=settings.node_ip, port=port, authority=authority)
    registration = [obj for obj in objects if obj["kind"] == "APIService"]
    path = settings.kubeconfig("metrics-server")
    identity = credentials_from_file(path)
    config = MetricsServerConfig(
        serving=ServingPlace(pki / "metrics-server.crt", pki / "metrics-server.key", settings.node_ip, port),
        tls=client_context(pki / "ca.crt", identity.certificate, identity.key),
        address_types=("InternalIP", "ExternalIP", "Hostname"),
        resolution=15.0,
    )
    serving = asyncio.Event()
    try:
        async with (
            connected(settings.kubeconfig("admin"), "tiphys") as administrator,
            asyncio.TaskGroup() as group,
        ):
            await apply_objects(administrator, [obj for obj in objects if obj not in registration])
            group.create_task(run(config, path, serving.set))
            await serving.wait()
            await apply_objects(administrator, registration)
            ready()
    except BaseExceptionGroup as failures:  # what one of them ended with is why all end
        raise failures.exceptions[0] from None

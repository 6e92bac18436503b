"""A node's own processes: the runtime, the agent, the proxy, DNS and the driver of local volumes."""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

from tiphys.cli.programs.process import accepts_connections
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready, execute
from tiphys.runtime.tasks import Loop


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

    def run(_: Ready) -> None:
        made.write_files()
        made.install_masquerade()
        execute(made.command())

    # Asked to end while it looks for the containers that run, it takes all for dead and kills them.
    return Program("containerd", run, probe=serves, fragile_start=True, before_stop=lambda: stop_pods(settings))


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

"""The processes of one node, wired: what `tiphys up` keeps running.

Each of them has a main function in a module of this folder. Imports of what only one component needs are inside its
function; what is shared, or wanted at once, is imported by ``preload_…`` before the fork.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

from tiphys.cli.importing import uncollected
from tiphys.cli.programs.addons import autoscaler, cloud_programs, csi_cloud_node, ingress_programs, metrics_server
from tiphys.cli.programs.controlplane import apiservers, backup, controllers, scheduler
from tiphys.cli.programs.node import containerd, csi_local, dns, kubelet, proxy
from tiphys.cli.programs.process import component
from tiphys.cli.programs.warmup import warm_up
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, share_memory

_EVERYWHERE = "uvloop", "setproctitle", "encodings.idna", "importlib.readers"
_OF_CERTIFICATES = "cryptography.x509", "cryptography.hazmat.primitives.serialization"
"""The API server wants them with its first request, the controllers and the metrics server soon after."""
_OF_THE_RUNTIME = "grpc.aio", "asyncinotify"


def _preload(*names: str) -> None:
    for name in names:
        import_module(name)


@uncollected()
def preload_apiserver() -> None:
    """Import what the API server runs, before it is forked."""
    _preload(*_EVERYWHERE, *_OF_CERTIFICATES, "jsonschema_rs")

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
def preload_kubelet() -> None:
    import tiphys.kubelet.command
    import tiphys.kubelet.kubelet  # noqa: F401

    share_memory()


@uncollected()
def preload_runtime_client() -> None:
    """What the kubelet wants next."""
    _preload(*_OF_THE_RUNTIME)
    share_memory()


@uncollected()
def preload_controllers() -> None:
    import tiphys.cloud.manager
    import tiphys.cloud.providers.local.nodes
    import tiphys.controllers.command  # noqa: F401

    share_memory()


@uncollected()
def preload_scheduler() -> None:
    import tiphys.scheduler.command  # noqa: F401

    share_memory()


@uncollected()
def preload_proxy() -> None:
    import tiphys.proxy.command  # noqa: F401

    share_memory()


@uncollected()
def preload_dns() -> None:
    import tiphys.dns.command  # noqa: F401

    share_memory()


def meanwhile(settings: Settings) -> list[Callable[[], None]]:
    """What the supervisor does while the API server starts: what all share, then what a Ready node waits for."""
    return [
        partial(warm_up, settings),
        preload_kubelet,
        preload_runtime_client,
        preload_proxy,
        preload_controllers,
        preload_scheduler,
        preload_dns,
    ]


@uncollected()
def preload_late() -> None:
    """Import what runs on top of a node, once the node's agent runs: what each imported by itself would be its own."""
    import tiphys.addons.apply
    import tiphys.addons.hosted
    import tiphys.addons.metricsserver.command
    import tiphys.cli.addonsettings
    import tiphys.csi.local.command  # noqa: F401

    share_memory()


@uncollected()
def preload_node() -> None:
    """Import what a further node runs, before its processes are forked."""
    _preload(*_EVERYWHERE, *_OF_THE_RUNTIME)

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
        component("kubelet", settings, kubelet, ("containerd", *api), before_start=preload_kubelet),
        component("kube-proxy", settings, proxy, api, before_start=preload_proxy),
        component("kube-controller-manager", settings, controllers, api, before_start=preload_controllers),
        component("kube-scheduler", settings, scheduler, api, before_start=preload_scheduler),
        component("dns", settings, dns, api, before_start=preload_dns),
        component("csi-local", settings, csi_local, node, before_start=preload_late),
        component("metrics-server", settings, metrics_server, node),
    ]
    if "ingress" in settings.addons.split(","):
        all_programs += ingress_programs(settings)
    if "autoscaler" in settings.addons.split(","):
        all_programs.append(component("cluster-autoscaler", settings, autoscaler, api))
    if settings.cloud_provider:
        all_programs += cloud_programs(settings)
    if settings.backup_to:
        all_programs.append(component("backup", settings, backup, api))
    return [program for program in all_programs if program.name not in left_out]


def node_programs(settings: Settings) -> list[Program]:
    """Those of a further node, which has no part of the control plane."""
    all_programs = [
        containerd(settings),
        component("kubelet", settings, kubelet, ("containerd",)),
        component("kube-proxy", settings, proxy),
        component("csi-local", settings, csi_local),
    ]
    if settings.cloud_provider:
        all_programs.append(component("csi-cloud", settings, csi_cloud_node))
    return all_programs

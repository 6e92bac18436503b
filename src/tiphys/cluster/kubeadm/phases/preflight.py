"""Phase ``preflight``: whether this machine can be a control plane, and whether its images are there.

What an earlier run of the same configuration has left is fine: a second run continues it. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#preflight-checks
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tiphys.cluster.kubeadm import images, layout
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service, service_is_active
from tiphys.cluster.kubeadm.manifests.controlplane import CONTROLLER_MANAGER_PORT, SCHEDULER_PORT
from tiphys.cluster.kubeadm.manifests.etcd import CLIENT_PORT, PEER_PORT, etcd
from tiphys.cluster.kubeadm.phases.staticpods import BUILD, render
from tiphys.cluster.kubeadm.preflight import checks
from tiphys.cluster.kubeadm.preflight.checks import Check
from tiphys.cluster.kubeadm.preflight.images import pulled
from tiphys.cluster.kubeadm.preflight.run import run_checks
from tiphys.cluster.kubeadm.workflow import CommandPhase

KUBELET_PORT = 10250


async def run(context: Installation) -> None:
    context.say("[preflight] Running pre-flight checks")
    await run_checks([checks.privileged()], context.ignored, context.warn)
    await run_checks(init_checks(context), context.ignored, context.warn)
    await pull(context)


async def pull(context: Installation) -> None:
    if context.dry_run:
        context.say("[preflight] Would pull the required images (like 'tiphys config images list' shows them)")
        return
    context.say("[preflight] Pulling images required for setting up a Kubernetes cluster")
    registration = context.configuration.node["nodeRegistration"]
    listed = images.control_plane_images(context.configuration.cluster)
    images_pulled = pulled(registration["criSocket"], listed, registration["imagePullPolicy"])
    await run_checks([images_pulled], context.ignored, context.warn)


def init_checks(context: Installation) -> Iterator[Check]:
    """The checks of a first control plane, in upstream's order."""
    configuration = context.configuration
    yield from control_plane_checks(context)
    yield from node_checks(configuration.node["nodeRegistration"]["criSocket"], configuration.name)
    yield checks.kubelet_version(kubelet_service(context.places).version, configuration.cluster["kubernetesVersion"])
    if external := configuration.cluster["etcd"].get("external"):
        yield checks.external_etcd(external, context.places)
    yield checks.port(KUBELET_PORT, expected=continues(context))
    yield from forwarding_checks(configuration.address)


def control_plane_checks(context: Installation) -> Iterator[Check]:
    """The checks of every control plane, of one that joins too: processors, memory, ports, manifests, proxies, etcd."""
    configuration, again = context.configuration, continues(context)
    yield checks.cpus()
    yield checks.memory()
    yield checks.firewall([configuration.port, KUBELET_PORT], service_is_active)
    for number in (configuration.port, SCHEDULER_PORT, CONTROLLER_MANAGER_PORT):
        yield checks.port(number, expected=again)
    for component in BUILD:
        wanted = render(context, component, BUILD[component](context))
        yield checks.file_available(context.places, f"{layout.MANIFESTS}/{component}.yaml", wanted)
    yield checks.proxy(configuration.address, os.environ)
    networking = configuration.cluster["networking"]
    for cidr in f"{networking['serviceSubnet']},{networking.get('podSubnet', '')}".split(","):
        if cidr:
            yield checks.proxy_range(cidr, os.environ)
    yield from _etcd_checks(context, again=again)


def node_checks(socket: str, name: str) -> Iterator[Check]:
    """What every node needs."""
    yield checks.runtime(socket)
    yield checks.swap()
    yield from checks.programs()
    yield checks.system()
    yield checks.hostname(name)


def forwarding_checks(address: str) -> Iterator[Check]:
    if ":" in address:
        remedy = "set it: `sysctl -w net.ipv6.conf.all.forwarding=1`, and in /etc/sysctl.d to keep it"
        yield checks.file_content("/proc/sys/net/ipv6/conf/all/forwarding", "1", remedy)
    else:
        remedy = "set it: `sysctl -w net.ipv4.ip_forward=1`, and in /etc/sysctl.d to keep it"
        yield checks.file_content("/proc/sys/net/ipv4/ip_forward", "1", remedy)


def _etcd_checks(context: Installation, *, again: bool) -> Iterator[Check]:
    etcd_part = context.configuration.cluster["etcd"]
    local = etcd_part.get("local")
    if local is None:
        named = [etcd_part["external"].get(field, "") for field in ("caFile", "certFile", "keyFile")]
        wanted_files = [path for path in named if path and not context.secondary]  # join may download them
        yield from checks.files_exist("ExternalEtcdClientCertificates", context.places, wanted_files)
        return
    for number in (CLIENT_PORT, PEER_PORT):
        yield checks.port(number, expected=again)
    if not context.secondary:
        wanted = render(context, "etcd", etcd(context.configuration))
        yield checks.file_available(context.places, f"{layout.MANIFESTS}/etcd.yaml", wanted)
    yield checks.directory_available(context.places, local["dataDir"], expected=again)


def continues(context: Installation) -> bool:
    """Whether an earlier run of this configuration came as far as the manifest that starts the API server."""
    component = "kube-apiserver"
    file = context.places.manifest(component)
    return file.is_file() and file.read_bytes() == render(context, component, BUILD[component](context))


PREFLIGHT: CommandPhase[Installation] = CommandPhase("preflight", "Run pre-flight checks", run)

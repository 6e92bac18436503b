"""Phase ``addon``: DNS, the service proxy and the pod network, applied from the add-ons' manifests.

The pod network is not in upstream's table: there the user chooses one before anything runs. Here it is a phase that can
be skipped, for those who choose another. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init-phase/#cmd-phase-addon
"""

from __future__ import annotations

from pathlib import Path

from tiphys.addons.apply import apply_objects
from tiphys.addons.objects import AddonSettings, addon_objects
from tiphys.api.object import Object
from tiphys.cluster.kubeadm import api, images, patches
from tiphys.cluster.kubeadm.configuration.components import service_address
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.workflow import CommandPhase

SHOWN = {"coredns": "CoreDNS", "kube-proxy": "kube-proxy"}


async def coredns(context: Installation) -> None:
    if context.configuration.cluster["dns"].get("disabled"):
        context.say("[addons] Skipping the addon CoreDNS: dns.disabled is set")
        return
    await _apply(context, "coredns", images.dns_image(context.configuration.cluster))


async def kube_proxy(context: Installation) -> None:
    if context.configuration.cluster["proxy"].get("disabled"):
        context.say("[addons] Skipping the addon kube-proxy: proxy.disabled is set")
        return
    await _apply(context, "kube-proxy", images.component_image(context.configuration.cluster, "kube-proxy"))


async def pod_network(context: Installation) -> None:
    if not context.configuration.cluster["networking"].get("podSubnet"):
        context.say(
            "[addons] No pod network is applied, as networking.podSubnet (--pod-network-cidr) is not set: nodes stay "
            "NotReady until one is"
        )
        return
    await _apply(context, "pod-network", images.ours())


async def _apply(context: Installation, name: str, image: str) -> None:
    objects = addon_objects(name, settings(context.configuration, image))
    if name == "coredns" and context.configuration.patches:
        objects = _patched(context, objects)
    if context.dry_run:
        context.say(f"[dryrun] Would apply {', '.join(api.describe(obj) for obj in objects)}")
        return
    async with api.administrator(context) as client:
        await apply_objects(client, objects)
    kind = "essential addon" if name in SHOWN else "addon"
    context.say(f"[addons] Applied {kind}: {SHOWN.get(name, name)}")


def _patched(context: Installation, objects: list[Object]) -> list[Object]:
    wanted = patches.read_folder(Path(context.configuration.patches), context.say)
    return [
        patches.apply(wanted, "corednsdeployment", obj, context.say) if obj["kind"] == "Deployment" else obj
        for obj in objects
    ]


def settings(configuration: Configuration, image: str) -> AddonSettings:
    networking = configuration.cluster["networking"]
    return AddonSettings(
        image=image,
        server=configuration.server,
        pod_cidr=networking.get("podSubnet", ""),
        dns_ip=service_address(configuration.cluster, 10),
        cluster_domain=networking["dnsDomain"],
        proxy_mode=configuration.proxy.get("mode", ""),
    )


ADDON: CommandPhase[Installation] = CommandPhase(
    "addon",
    "Install required addons for passing conformance tests",
    None,
    (
        CommandPhase("coredns", "Install the CoreDNS addon to a Kubernetes cluster", coredns),
        CommandPhase("kube-proxy", "Install the kube-proxy addon to a Kubernetes cluster", kube_proxy),
        CommandPhase("pod-network", "Install the pod network of Tiphys; skip it to apply another", pod_network),
    ),
)

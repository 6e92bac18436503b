"""Upgrading a control plane in place: what changes, and changing one static pod after another, each with a way back.

Source: https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client.errors import ApiError
from tiphys.client.resources import PODS
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm import health, kubeletfiles, layout
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service
from tiphys.cluster.kubeadm.layout import write_file
from tiphys.cluster.kubeadm.manifests.etcd import etcd
from tiphys.cluster.kubeadm.manifests.virtualaddress import virtual_address
from tiphys.cluster.kubeadm.phases import wait
from tiphys.cluster.kubeadm.phases.reset import etcd_flags
from tiphys.cluster.kubeadm.phases.staticpods import BUILD, render
from tiphys.runtime import durations, yamltext

HASH = "kubernetes.io/config.hash"
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ManifestChange:
    """One static pod's manifest, as it is and as it is to be."""

    component: str
    old: bytes
    new: bytes

    @property
    def images(self) -> tuple[str, str]:
        return image_of(self.old), image_of(self.new)

    def diff(self, lines: int) -> str:
        path = f"{layout.MANIFESTS}/{self.component}.yaml"
        texts = (self.old.decode().splitlines(), self.new.decode().splitlines())
        return "\n".join(difflib.unified_diff(*texts, path, "new manifest", lineterm="", n=lines))


def changes(context: Installation) -> Iterator[ManifestChange]:
    """The manifests of this node, in the order in which they are changed: etcd first, as the API server needs it."""
    flags = etcd_flags(context.places)
    if flags is not None and "local" in context.configuration.cluster["etcd"]:
        pod = etcd(context.configuration, initial_cluster(flags))
        yield _change(context, "etcd", pod)
    for component, build in BUILD.items():
        yield _change(context, component, build(context))
    if context.virtual_address:
        yield _change(context, "virtual-address", virtual_address(context.configuration))


def initial_cluster(flags: dict[str, str]) -> list[tuple[str, str]]:
    """The members that this one joined; none if it was the first."""
    if flags.get("initial-cluster-state") != "existing":
        return []
    pairs = [entry.partition("=") for entry in flags.get("initial-cluster", "").split(",")]
    return [(name, url) for name, _, url in pairs]


def _change(context: Installation, component: str, pod: Object) -> ManifestChange:
    path = context.places.manifest(component)
    try:
        old = path.read_bytes()
    except OSError as error:
        raise KubeadmError(
            f"{layout.MANIFESTS}/{component}.yaml cannot be read: {error.strerror}; upgrade runs on control planes that"
            " `tiphys init` or `tiphys join` made"
        ) from error
    return ManifestChange(component, old, render(context, component, pod))


def image_of(manifest: bytes) -> str:
    try:
        return str(yamltext.load(manifest)["spec"]["containers"][0]["image"])
    except (yamltext.YAMLError, KeyError, IndexError, TypeError):
        return "unknown"


async def change_manifests(context: Installation, client: Client, wanted: Iterable[ManifestChange]) -> None:
    """Change each static pod, and wait until it runs. Raises ``KubeadmError`` after the old manifest is back."""
    backup = context.places.on_disk(f"{layout.TEMPORARY}/tiphys-upgrade-manifests-{context.now:%Y-%m-%d-%H-%M-%S}")
    for change in wanted:
        if change.old == change.new:
            context.say(
                f"[upgrade/staticpods] Current and new manifests of {change.component} are equal, skipping upgrade"
            )
            continue
        write_file(backup / f"{change.component}.yaml", change.old, folder_mode=0o700)
        context.say(f'[upgrade/staticpods] Moving new manifest to "{layout.MANIFESTS}/{change.component}.yaml" and '
                    f'backing up old manifest to "{backup}/{change.component}.yaml"')  # fmt: skip
        await _replace(context, client, change)
        context.say(f'[upgrade/staticpods] Component "{change.component}" upgraded successfully!')


async def _replace(context: Installation, client: Client, change: ManifestChange) -> None:
    name = f"{change.component}-{context.configuration.name}"
    timeout = context.configuration.node["timeouts"]["upgradeManifests"]
    before = await _hash(client, name)
    path = context.places.manifest(change.component)
    write_file(path, change.new)
    context.say("[upgrade/staticpods] Waiting for the kubelet to restart the component")
    context.say(f"[upgrade/staticpods] This can take up to {timeout}")
    try:
        await _wait_changed(client, name, before, durations.seconds(timeout))
    except KubeadmError as error:
        write_file(path, change.old)
        raise KubeadmError(f"{error}; the old manifest is back in its place") from error


async def _hash(client: Client, name: str) -> str:
    pod = await client.get(PODS, name, "kube-system")
    return str((pod["metadata"].get("annotations") or {}).get(HASH, ""))


async def _wait_changed(client: Client, name: str, before: str, seconds: float) -> None:
    """Until the API shows the pod of another manifest, ready. Raises ``KubeadmError``."""
    deadline, last = time.monotonic() + seconds, "it was not restarted"
    while time.monotonic() < deadline:
        try:
            pod = await client.get(PODS, name, "kube-system")
            if (pod["metadata"].get("annotations") or {}).get(HASH) != before:
                if is_ready(pod):
                    return
                last = "it is not ready"
        except (ApiError, ConnectionError, TimeoutError) as error:
            last = str(error) or "the API server does not answer"
        await asyncio.sleep(_LOOK_SECONDS)
    raise KubeadmError(f"{name} did not come up with its new manifest within {seconds:.0f} s: {last}")


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


async def change_kubelet(context: Installation) -> None:
    """Write the kubelet's configuration as the cluster has it now, and start the kubelet again: it is of this Tiphys
    from then on. Its pods run on meanwhile. Raises ``KubeadmError`` if it does not become healthy."""
    configuration = context.configuration
    registration = configuration.node["nodeRegistration"]
    kubeletfiles.write_configuration(
        context.places, registration, configuration.kubelet, context.say, patch_folder=configuration.patches
    )
    service = kubelet_service(context.places)
    await asyncio.to_thread(service.start)
    timeout = configuration.node["timeouts"]["kubeletHealthCheck"]
    try:
        await health.wait_for_kubelet(wait.kubelet_url(configuration.kubelet), timeout, context.say)
    except KubeadmError as error:
        raise KubeadmError(f"{error}; see {service.trouble}") from error

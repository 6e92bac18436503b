"""What kubeadm writes for the kubelet: its configuration, its instance's, and the flags of this node.

Source: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubelet-integration/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tiphys.cluster.kubeadm import layout, patches
from tiphys.cluster.kubeadm.configuration import documents
from tiphys.cluster.kubeadm.context import Say
from tiphys.cluster.kubeadm.kubeletservice import ENVIRONMENT
from tiphys.cluster.kubeadm.layout import PUBLIC, HostRoot, write_file

Document = dict[str, Any]


def write(
    places: HostRoot,
    registration: Document,
    kubelet: Document,
    say: Say,
    *,
    patch_folder: str,
    taints: bool = False,
) -> None:
    """Write the three files. ``taints``: the kubelet itself registers with the node's taints, as a worker's does."""
    say(f'[kubelet-start] Writing kubelet environment file with flags to file "{layout.KUBELET_FLAGS}"')
    flags = " ".join(node_flags(registration, taints=taints))
    write_file(places.on_disk(layout.KUBELET_FLAGS), f'{ENVIRONMENT}="{flags}"\n'.encode(), PUBLIC)
    write_configuration(places, registration, kubelet, say, patch_folder=patch_folder)


def write_configuration(
    places: HostRoot, registration: Document, kubelet: Document, say: Say, *, patch_folder: str
) -> None:
    """Write the configuration of this node's kubelet, and the part of it that is this instance's."""
    endpoint = {"containerRuntimeEndpoint": registration["criSocket"]}
    say(f'[kubelet-start] Writing kubelet configuration to file "{layout.KUBELET_INSTANCE}"')
    instance = yaml.dump(documents.typed(endpoint, "KubeletConfiguration"), Dumper=yaml.CSafeDumper)
    write_file(places.on_disk(layout.KUBELET_INSTANCE), instance.encode(), PUBLIC)
    document = {**kubelet, **endpoint}
    say('[patches] Applied patch of type "application/strategic-merge-patch+json" to target "kubeletconfiguration"')
    if patch_folder:
        document = patches.apply(patches.read_folder(Path(patch_folder), say), "kubeletconfiguration", document, say)
    say(f'[kubelet-start] Writing kubelet configuration to file "{layout.KUBELET_CONFIG}"')
    text = yaml.dump(documents.typed(document, "KubeletConfiguration"), Dumper=yaml.CSafeDumper)
    write_file(places.on_disk(layout.KUBELET_CONFIG), text.encode(), PUBLIC)


def node_flags(registration: Document, *, taints: bool) -> list[str]:
    """Flags of this node alone: its name, its taints, and what the user adds; the last one of a name wins."""
    made = {"hostname-override": registration["name"]}
    if taints and registration.get("taints"):
        made["register-with-taints"] = ",".join(taint_text(taint) for taint in registration["taints"])
    extra = registration.get("kubeletExtraArgs") or []
    given = {argument["name"] for argument in extra}
    ours = [f"--{name}={value}" for name, value in sorted(made.items()) if name not in given]
    return [*ours, *(f"--{argument['name']}={argument.get('value', '')}" for argument in extra)]


def taint_text(taint: Document) -> str:
    """``key=value:effect``, or ``key:effect``."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint.get('effect', '')}"

"""Which image each component runs from. Pure.

Tiphys has one image with every component in it; a repository of the user's is taken to hold one for each, by
upstream's names, so that ``--image-repository registry.k8s.io`` runs the Go originals.
"""

from __future__ import annotations

from typing import Any

import tiphys
from tiphys.cluster.kubeadm.configuration.defaults import IMAGE_REPOSITORY

Document = dict[str, Any]

ETCD_TAG = "3.6.8-0"
COREDNS_TAG = "v1.14.2"


def ours() -> str:
    """The image of Tiphys: every component, and Debian's etcd."""
    return f"{IMAGE_REPOSITORY}/tiphys:{tiphys.__version__}"


def component_image(cluster: Document, component: str) -> str:
    """Of kube-apiserver, kube-controller-manager, kube-scheduler or kube-proxy."""
    repository = cluster["imageRepository"]
    if repository == IMAGE_REPOSITORY:
        return ours()
    return f"{repository}/{component}:{cluster['kubernetesVersion'].replace('+', '_')}"


def etcd_image(cluster: Document) -> str:
    local = cluster["etcd"].get("local") or {}
    repository, tag = local.get("imageRepository") or cluster["imageRepository"], local.get("imageTag")
    if repository == IMAGE_REPOSITORY:
        return ours() if not tag else f"{repository}/tiphys:{tag}"
    return f"{repository}/etcd:{tag or ETCD_TAG}"


def etcd_is_ours(cluster: Document) -> bool:
    """Whether etcd is the one in our image, Debian's 3.4; otherwise it is upstream's 3.6."""
    return etcd_image(cluster).startswith(f"{IMAGE_REPOSITORY}/tiphys:")


def dns_image(cluster: Document) -> str:
    dns = cluster["dns"]
    repository = dns.get("imageRepository") or cluster["imageRepository"]
    if repository == IMAGE_REPOSITORY:
        return ours()
    name = "coredns/coredns" if repository == "registry.k8s.io" else "coredns"
    return f"{repository}/{name}:{dns.get('imageTag') or COREDNS_TAG}"


def control_plane_images(cluster: Document) -> list[str]:
    """What a control plane pulls, each once."""
    components = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    every = [*(component_image(cluster, name) for name in components), dns_image(cluster)]
    if "local" in cluster["etcd"]:
        every.append(etcd_image(cluster))
    return list(dict.fromkeys(every))

"""Which other objects a pod refers to: what its node must be able to read.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.api.object import Object

Reference = tuple[str, str, str]
"""Resource, namespace, name."""

MIRROR = "kubernetes.io/config.mirror"
_SECRET_REFERENCES = {
    "azureFile": ("secretName",),
    "cephfs": ("secretRef", "name"),
    "cinder": ("secretRef", "name"),
    "csi": ("nodePublishSecretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "scaleIO": ("secretRef", "name"),
    "secret": ("secretName",),
    "storageos": ("secretRef", "name"),
}
"""By volume source, if it names a secret."""


def is_mirror(pod: Object) -> bool:
    """Whether a node made the pod, to show what it runs from a file."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def references_of(pod: Object) -> Iterator[Reference]:
    """What a pod refers to. A mirror pod refers to nothing: a node could give itself rights by making one."""
    if is_mirror(pod):
        return
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    if account := spec.get("serviceAccountName"):
        yield ("serviceaccounts", namespace, account)
    for resource, name in (*objects_of(spec), *_volume_claims(pod)):
        if name:
            yield (resource, namespace, name)
    for claim in _device_claims(pod):
        yield ("resourceclaims", namespace, claim)


def objects_of(spec: Object) -> Iterator[tuple[str, str]]:
    """The secrets and configmaps that a pod names, by resource; names may be empty."""
    for reference in spec.get("imagePullSecrets") or ():
        yield ("secrets", reference.get("name", ""))
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _container(container)
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)


def _container(container: Object) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        yield ("configmaps", (source.get("configMapRef") or {}).get("name", ""))
        yield ("secrets", (source.get("secretRef") or {}).get("name", ""))
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield ("configmaps", (source.get("configMapKeyRef") or {}).get("name", ""))
        yield ("secrets", (source.get("secretKeyRef") or {}).get("name", ""))


def _volume(volume: Object) -> Iterator[tuple[str, str]]:
    for source, path in _SECRET_REFERENCES.items():
        value: Any = volume.get(source)
        for key in path:
            value = (value or {}).get(key)
        yield ("secrets", value or "")
    yield ("configmaps", (volume.get("configMap") or {}).get("name", ""))
    for part in (volume.get("projected") or {}).get("sources") or ():
        yield ("secrets", (part.get("secret") or {}).get("name", ""))
        yield ("configmaps", (part.get("configMap") or {}).get("name", ""))


def _volume_claims(pod: Object) -> Iterator[tuple[str, str]]:
    for volume in pod["spec"].get("volumes") or ():
        if name := claim_name(pod, volume):
            yield ("persistentvolumeclaims", name)


def claim_name(pod: Object, volume: Object) -> str:
    """The claim behind a volume of a pod; empty for a volume of another kind."""
    if (claim := volume.get("persistentVolumeClaim")) is not None:
        return str(claim.get("claimName", ""))
    return f"{pod['metadata']['name']}-{volume['name']}" if volume.get("ephemeral") is not None else ""


def _device_claims(pod: Object) -> Iterator[str]:
    status = pod.get("status") or {}
    made = {entry["name"]: entry.get("resourceClaimName") for entry in status.get("resourceClaimStatuses") or ()}
    for claim in pod["spec"].get("resourceClaims") or ():
        if name := claim.get("resourceClaimName") or made.get(claim["name"]):
            yield name
    if name := (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName"):
        yield name

"""Which other objects a pod refers to: what its node must be able to read.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
Reference = tuple[str, str, str]
"""Resource, namespace, name."""


def references_of(pod: Object) -> Iterator[Reference]:
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    if account := spec.get("serviceAccountName"):
        yield ("serviceaccounts", namespace, account)
    for resource, name in _names(spec):
        if name:
            yield (resource, namespace, name)
    for claim in _claims(pod):
        yield ("resourceclaims", namespace, claim)


def _names(spec: Object) -> Iterator[tuple[str, str]]:
    for reference in spec.get("imagePullSecrets") or ():
        yield ("secrets", reference.get("name", ""))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
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
    yield ("secrets", (volume.get("secret") or {}).get("secretName", ""))
    yield ("configmaps", (volume.get("configMap") or {}).get("name", ""))
    yield ("persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
    yield ("secrets", (volume.get("azureFile") or {}).get("secretName", ""))
    for kind in ("csi",):
        yield ("secrets", ((volume.get(kind) or {}).get("nodePublishSecretRef") or {}).get("name", ""))
    for kind in ("cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        yield ("secrets", ((volume.get(kind) or {}).get("secretRef") or {}).get("name", ""))
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield ("secrets", (source.get("secret") or {}).get("name", ""))
        yield ("configmaps", (source.get("configMap") or {}).get("name", ""))


def _claims(pod: Object) -> Iterator[str]:
    made = {s["name"]: s.get("resourceClaimName", "") for s in _claim_statuses(pod)}
    for claim in pod["spec"].get("resourceClaims") or ():
        name = claim.get("resourceClaimName") or made.get(claim["name"], "")
        if name:
            yield name
    for volume in pod["spec"].get("volumes") or ():
        if "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def _claim_statuses(pod: Object) -> list[Object]:
    return (pod.get("status") or {}).get("resourceClaimStatuses") or []

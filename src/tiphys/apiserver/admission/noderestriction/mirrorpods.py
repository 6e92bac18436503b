"""Pods that a node makes to show what it runs from files: they must need nothing from the API.

A node reads what its pods refer to, so its own pod making with a reference would be its own right making.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.api.pods.references import objects_of

_HARMLESS = frozenset(
    (
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "downwardAPI",
        "emptyDir",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    )
)
"""Volume sources without an object of the API, once they name no secret."""
_SOURCES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_PROJECTED = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


class UnknownSource(ValueError):
    """A volume whose source nobody has judged."""


def api_objects(pod: Object) -> str:
    """What sort of API objects a pod refers to, in upstream's words; empty for none. Raises ``UnknownSource``."""
    spec = pod["spec"]
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    named = {resource for resource, name in objects_of(spec) if name}
    for resource in ("secrets", "configmaps"):
        if resource in named:
            return resource
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next(filter(None, map(_of_volume, spec.get("volumes") or ())), "")


def _of_volume(volume: Object) -> str:
    sources = {key for key, value in volume.items() if key != "name" and value is not None}
    if sources & _HARMLESS:
        return ""
    for source, words in _SOURCES.items():
        if source in sources:
            return words
    if "projected" not in sources:
        raise UnknownSource(f"unknown volume type for volume  {_quoted(volume)}")
    return next(filter(None, (_of_part(volume, part) for part in volume["projected"].get("sources") or ())), "")


def _of_part(volume: Object, part: Object) -> str:
    for source, words in _PROJECTED.items():
        if part.get(source) is not None:
            return words
    if part.get("downwardAPI") is None:
        raise UnknownSource(f"unknown source for projected volume {_quoted(volume)}")
    return ""


def _quoted(volume: Object) -> str:
    return f'"{volume.get("name", "")}"'

"""Defaults of volumes, for pods and for persistent volumes.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#volume-v1-core
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.defaults.images import pull_policy
from tiphys.api.defaults.resourcelist import round_up
from tiphys.api.object import Object

READABLE_BY_ALL = 0o644


def volume(obj: Object) -> None:
    """A volume of a pod; without any source it is an empty directory."""
    sources = [key for key, value in obj.items() if key != "name" and value is not None]
    if not sources:
        obj["emptyDir"] = {}
        return
    for source in sources:
        if default := _POD_SOURCES.get(source):
            default(obj[source])


def persistent_volume_source(spec: Object) -> None:
    """The source of a persistent volume, which stands in the spec itself."""
    for source, default in _PERSISTENT_SOURCES.items():
        if spec.get(source) is not None:
            default(spec[source])


def claim_spec(spec: Object) -> None:
    if_missing(spec, volumeMode="Filesystem")
    round_up(spec.get("resources"), "limits", "requests")


def field_ref(ref: Object | None) -> None:
    if ref is not None:
        if_empty(ref, apiVersion="v1")


def _mode(source: Object) -> None:
    if_missing(source, defaultMode=READABLE_BY_ALL)


def _host_path(source: Object) -> None:
    if_missing(source, type="")


def _iscsi(source: Object) -> None:
    if_empty(source, iscsiInterface="default")


def _rbd(source: Object) -> None:
    if_empty(source, pool="rbd", user="admin", keyring="/etc/ceph/keyring")


def _azure_disk(source: Object) -> None:
    if_missing(source, cachingMode="ReadWrite", fsType="ext4", readOnly=False, kind="Shared")


def _scale_io(source: Object) -> None:
    if_empty(source, storageMode="ThinProvisioned", fsType="xfs")


def _downward_api(source: Object) -> None:
    _mode(source)
    for item in items(source, "items"):
        field_ref(item.get("fieldRef"))


def _projected(source: Object) -> None:
    _mode(source)
    for part in items(source, "sources"):
        if part.get("downwardAPI"):
            for item in items(part["downwardAPI"], "items"):
                field_ref(item.get("fieldRef"))
        if part.get("serviceAccountToken") is not None:
            if_missing(part["serviceAccountToken"], expirationSeconds=3600)


def _ephemeral(source: Object) -> None:
    if source.get("volumeClaimTemplate") is not None:
        claim_spec(child(source["volumeClaimTemplate"], "spec"))


def _image(source: Object) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference") or "")


_PERSISTENT_SOURCES: dict[str, Callable[[Object], None]] = {
    "hostPath": _host_path,
    "rbd": _rbd,
    "iscsi": _iscsi,
    "azureDisk": _azure_disk,
    "scaleIO": _scale_io,
}
_POD_SOURCES: dict[str, Callable[[Object], None]] = {
    **_PERSISTENT_SOURCES,
    "secret": _mode,
    "configMap": _mode,
    "downwardAPI": _downward_api,
    "projected": _projected,
    "ephemeral": _ephemeral,
    "image": _image,
}

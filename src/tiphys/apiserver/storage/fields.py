"""The fields that field selectors may name, per kind, beyond ``metadata.name`` and ``metadata.namespace``.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/ and, kind by kind, what
v1.36 accepts. Values are compared as text: a missing boolean is ``false``, a missing number ``0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind

Reader = Callable[[Object], str]


def _path(path: str, default: str = "") -> Reader:
    parts = path.split(".")

    def read(obj: Object) -> str:
        value: Any = obj
        for part in parts:
            if not isinstance(value, dict):
                return default
            value = value.get(part)
        if isinstance(value, bool):
            return "true" if value else "false"
        return default if value is None else str(value)

    return read


def _first(*paths: str) -> Reader:
    readers = [_path(path) for path in paths]

    def read(obj: Object) -> str:
        return next((value for reader in readers if (value := reader(obj))), "")

    return read


def _never(obj: Object) -> str:
    """For a field that selectors may name and whose value upstream never fills in."""
    return ""


_SIGNER = {"spec.signerName": _path("spec.signerName")}
_EVENT_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

SELECTABLE: dict[GroupKind, dict[str, Reader]] = {
    GroupKind("", "Pod"): {
        "spec.nodeName": _path("spec.nodeName"),
        "spec.restartPolicy": _path("spec.restartPolicy"),
        "spec.schedulerName": _path("spec.schedulerName"),
        "spec.serviceAccountName": _path("spec.serviceAccountName"),
        "spec.hostNetwork": _path("spec.hostNetwork", "false"),
        "status.phase": _path("status.phase"),
        "status.podIP": _path("status.podIP"),
        "status.podIPs": _never,
        "status.nominatedNodeName": _path("status.nominatedNodeName"),
    },
    GroupKind("", "Node"): {"spec.unschedulable": _path("spec.unschedulable", "false")},
    GroupKind("", "ReplicationController"): {"status.replicas": _path("status.replicas", "0")},
    GroupKind("", "Namespace"): {"status.phase": _path("status.phase")},
    GroupKind("", "Secret"): {"type": _path("type")},
    GroupKind("", "Service"): {"spec.clusterIP": _path("spec.clusterIP"), "spec.type": _path("spec.type")},
    GroupKind("", "Event"): {
        **{f"involvedObject.{name}": _path(f"involvedObject.{name}") for name in _EVENT_OBJECT},
        "reason": _path("reason"),
        "reportingComponent": _path("reportingComponent"),
        "source": _first("source.component", "reportingComponent"),
        "type": _path("type"),
    },
    GroupKind("batch", "Job"): {"status.successful": _path("status.succeeded", "0")},
    GroupKind("certificates.k8s.io", "CertificateSigningRequest"): _SIGNER,
    GroupKind("certificates.k8s.io", "ClusterTrustBundle"): _SIGNER,
    GroupKind("certificates.k8s.io", "PodCertificateRequest"): {**_SIGNER, "spec.nodeName": _path("spec.nodeName")},
    GroupKind("resource.k8s.io", "ResourceSlice"): {
        "spec.nodeName": _path("spec.nodeName"),
        "spec.driver": _path("spec.driver"),
    },
}
_INDEXED: dict[GroupKind, tuple[str, ...]] = {
    GroupKind("", "Pod"): ("spec.nodeName",),
    GroupKind("", "Event"): ("involvedObject.uid", "involvedObject.name"),
    GroupKind("certificates.k8s.io", "PodCertificateRequest"): ("spec.nodeName",),
    GroupKind("resource.k8s.io", "ResourceSlice"): ("spec.nodeName",),
}
"""Fields with many values of few objects each, by which clients select: those that every node asks for, above all."""
ALIASES: dict[GroupKind, dict[str, str]] = {
    GroupKind("", "Pod"): {"spec.host": "spec.nodeName"},
    GroupKind("events.k8s.io", "Event"): {
        **{f"regarding.{name}": f"involvedObject.{name}" for name in _EVENT_OBJECT},
        "reason": "reason",
        "reportingController": "reportingComponent",
        "type": "type",
    },
}
"""Names in a kind's field selectors that stand for a field of the stored kind."""

_UNSUPPORTED = "field label not supported: {field}"
UNSUPPORTED: dict[GroupKind, str] = {
    GroupKind("batch", "Job"): 'field label "{field}" not supported for Job',
    GroupKind(
        "resource.k8s.io", "ResourceSlice"
    ): "field label not supported for {group}/{version}, Kind={kind}: {field}",
}
"""How kinds with selectable fields of their own refuse another one, if not as all others do."""


def unsupported(gvk: GroupVersionKind, field: str) -> str:
    """Why objects of this kind cannot be selected by ``field``."""
    key = gvk.group_kind
    if key not in SELECTABLE and key not in ALIASES:
        return f'{quote(field)} is not a known field selector: only "metadata.name", "metadata.namespace"'
    text = UNSUPPORTED.get(key, _UNSUPPORTED)
    return text.format(field=field, group=gvk.group, version=gvk.version, kind=gvk.kind)


def selector_of(group: str, kind: str) -> Callable[[Object], tuple[str, ...]]:
    """A function that reads the values of a kind's selectable fields, in the order of ``SELECTABLE``."""
    readers = tuple(SELECTABLE.get(GroupKind(group, kind), {}).values())
    return lambda obj: tuple(reader(obj) for reader in readers)


def indexed(group: str, kind: str) -> tuple[int, ...]:
    """The positions of the fields by which objects are found without looking at all."""
    at = positions(group, kind)
    return tuple(at[name] for name in _INDEXED.get(GroupKind(group, kind), ()))


def positions(group: str, kind: str) -> dict[str, int]:
    """Where in that tuple each field's value is."""
    return {name: index for index, name in enumerate(SELECTABLE.get(GroupKind(group, kind), {}))}

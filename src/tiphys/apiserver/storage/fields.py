"""The fields that field selectors may name, per kind, beyond ``metadata.name`` and ``metadata.namespace``.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/ and, kind by kind, what
v1.36 accepts. Values are compared as text: a missing boolean is ``false``, a missing number ``0``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind

Fields = tuple[str, ...]
"""The values of an object's selectable fields, in the order in which its kind has them."""


class Field(NamedTuple):
    """Where the value of a field is: the path to the dict that holds it, its name there, and what stands for it if it
    is absent. ``other`` is read if the value is empty."""

    parents: tuple[str, ...]
    name: str
    default: str = ""
    other: Field | None = None


def _path(path: str, default: str = "", other: Field | None = None) -> Field:
    *parents, name = path.split(".")
    return Field(tuple(parents), name, default, other)


_NEVER = Field((), "")
"""For a field that selectors may name and whose value upstream never fills in."""

_SIGNER = {"spec.signerName": _path("spec.signerName")}
_EVENT_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

SELECTABLE: dict[GroupKind, dict[str, Field]] = {
    GroupKind("", "Pod"): {
        "spec.nodeName": _path("spec.nodeName"),
        "spec.restartPolicy": _path("spec.restartPolicy"),
        "spec.schedulerName": _path("spec.schedulerName"),
        "spec.serviceAccountName": _path("spec.serviceAccountName"),
        "spec.hostNetwork": _path("spec.hostNetwork", "false"),
        "status.phase": _path("status.phase"),
        "status.podIP": _path("status.podIP"),
        "status.podIPs": _NEVER,
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
        "source": _path("source.component", other=_path("reportingComponent")),
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


def selector_of(group: str, kind: str) -> Callable[[Object], Fields]:
    """A function that reads the values of a kind's selectable fields, in the order of ``SELECTABLE``."""
    plan = [(parents, tuple(some)) for parents, some in groupby(fields_of(group, kind), attrgetter("parents"))]

    def read(obj: Object) -> Fields:
        def value_of(field: Field) -> object:
            return _holder(obj, field.parents).get(field.name)

        values: list[str] = []
        for parents, some in plan:
            holder = _holder(obj, parents)
            for field in some:
                value = holder.get(field.name)
                if field.other is not None or (value is not None and type(value) is not str):
                    value = text_of(field, value, value_of)
                values.append(field.default if value is None else value)
        return tuple(values)

    return read


def _holder(obj: Object, parents: tuple[str, ...]) -> Object:
    holder: Any = obj
    for name in parents:
        holder = holder.get(name)
        if not isinstance(holder, dict):
            return {}
    inner: Object = holder
    return inner


def text_of(field: Field, value: object, value_of: Callable[[Field], object]) -> str:
    """A value as selectors compare it; ``value_of`` reads another field of the same object."""
    if not value and field.other is not None:
        return text_of(field.other, value_of(field.other), value_of)
    if isinstance(value, bool):
        return "true" if value else "false"
    return field.default if value is None else str(value)


def fields_of(group: str, kind: str) -> tuple[Field, ...]:
    """The selectable fields of a kind, in their order."""
    return tuple(SELECTABLE.get(GroupKind(group, kind), {}).values())


def indexed(group: str, kind: str) -> tuple[int, ...]:
    """The positions of the fields by which objects are found without looking at all."""
    at = positions(group, kind)
    return tuple(at[name] for name in _INDEXED.get(GroupKind(group, kind), ()))


def positions(group: str, kind: str) -> dict[str, int]:
    """Where in that tuple each field's value is."""
    return {name: index for index, name in enumerate(SELECTABLE.get(GroupKind(group, kind), {}))}

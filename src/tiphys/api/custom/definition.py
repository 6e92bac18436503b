"""From a CustomResourceDefinition to a row of the scheme: custom resources are data like built-in ones.

What a built-in kind has in tables (fields, subresources, columns, selectable fields) a version of a custom resource
brings in its definition: ``DefinedVersion``.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from tiphys.api.meta.conditions import is_condition
from tiphys.api.object import Object
from tiphys.api.schema import Schema
from tiphys.api.scheme import GroupVersionKind, Resource, ScalePaths, Subresource, version_priority
from tiphys.api.structural import schema_from_structural

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_PART_VERBS = ("get", "patch", "update")
_SCALE = GroupVersionKind("autoscaling", "v1", "Scale")


@dataclass(frozen=True)
class DefinedVersion:
    """One version of a custom resource. ``structural`` is its schema as the definition has it."""

    gvk: GroupVersionKind
    structural: Object | None = None
    has_status: bool = False
    scale: ScalePaths | None = None
    columns: tuple[Object, ...] = ()
    selectable: tuple[str, ...] = ()
    warning: str = ""
    """The warning about use of a deprecated version."""

    @property
    def subresources(self) -> tuple[Subresource, ...]:
        resources = [Subresource("status", _PART_VERBS)] if self.has_status else []
        return (*resources, Subresource("scale", _PART_VERBS, _SCALE)) if self.scale else tuple(resources)

    @cached_property
    def tree(self) -> Schema:
        """The fields, for patch and apply."""
        return schema_from_structural(self.structural)


def resource_of(obj: Object) -> Resource | None:
    """The row of a definition; None if nothing of it is served: its names are not accepted."""
    status = obj.get("status") or {}
    conditions = status.get("conditions") or []
    if not (is_condition(conditions, "NamesAccepted") or is_condition(conditions, "Established")):
        return None
    names, spec = status.get("acceptedNames") or {}, obj["spec"]
    if not all(names.get(key) for key in ("plural", "singular", "kind", "listKind")):
        return None
    served = sorted((v["name"] for v in spec["versions"] if v.get("served")), key=version_priority)
    versions = {v["name"]: _version(v, spec, names["kind"]) for v in spec["versions"]}
    conversion = spec.get("conversion") or {}
    return Resource(
        group=spec["group"],
        plural=names["plural"],
        singular=names["singular"],
        kind=names["kind"],
        versions=tuple(served),
        storage_version=next(v["name"] for v in spec["versions"] if v.get("storage")),
        namespaced=spec["scope"] == "Namespaced",
        verbs=VERBS,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=_all_subresources(versions[name] for name in served),
        definitions={name: definition_name(version.gvk) for name, version in versions.items()},
        storage_prefix=f"{spec['group']}/{names['plural']}",
        builtin=False,
        custom=versions,
        terminating=is_condition(conditions, "Terminating"),
        conversion=conversion.get("strategy") or "None",
        webhook=conversion.get("webhook"),
        list_name=names["listKind"],
    )


def _version(version: Object, spec: Object, kind: str) -> DefinedVersion:
    parts = version.get("subresources") or {}
    scale = parts.get("scale")
    return DefinedVersion(
        gvk=GroupVersionKind(spec["group"], version["name"], kind),
        structural=(version.get("schema") or {}).get("openAPIV3Schema"),
        has_status=parts.get("status") is not None,
        scale=_scale(scale) if scale is not None else None,
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        selectable=tuple(field["jsonPath"] for field in version.get("selectableFields") or ()),
        warning=_warning(version, spec),
    )


def _scale(scale: Object) -> ScalePaths:
    return ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "")


def _all_subresources(versions: Iterable[DefinedVersion]) -> tuple[Subresource, ...]:
    return tuple({part.name: part for version in versions for part in version.subresources}.values())


def definition_name(gvk: GroupVersionKind) -> str:
    """The name in OpenAPI documents: ``com.example.stable.v1.CronTab``."""
    return ".".join([*reversed(gvk.group.split(".")), gvk.version, gvk.kind])


def _warning(version: Object, spec: Object) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        return str(version["deprecationWarning"])
    group, kind, own = spec["group"], spec["names"]["kind"], version["name"]
    better = [
        v["name"]
        for v in spec["versions"]
        if v.get("served") and not v.get("deprecated") and version_priority(v["name"]) < version_priority(own)
    ]
    message = f"{group}/{own} {kind} is deprecated"
    return f"{message}; use {group}/{min(better, key=version_priority)} {kind}" if better else message

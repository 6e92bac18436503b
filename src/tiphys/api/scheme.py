"""The scheme: one row per resource, from which discovery, routing, decoding and storage all follow.

Source: the API reference of Kubernetes v1.36 and the API concepts page
(https://kubernetes.io/docs/reference/using-api/api-concepts/). The rows are in ``api.resources``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from tiphys.api.fieldtree import Schema


class GroupKind(NamedTuple):
    """A kind in all its versions: the key of every table that has one row per kind."""

    group: str
    kind: str

    def __str__(self) -> str:
        """``Deployment.apps``; ``Pod`` for the core group."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @classmethod
    def parse(cls, text: str) -> GroupKind:
        """From ``Deployment.apps``."""
        kind, _, group = text.partition(".")
        return cls(group, kind)

    def in_version(self, version: str) -> GroupVersionKind:
        return GroupVersionKind(self.group, version, self.kind)


@dataclass(frozen=True, slots=True, order=True)
class GroupVersionKind:
    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """``apps/v1``; ``v1`` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)


@dataclass(frozen=True, slots=True)
class Subresource:
    """``kind`` is what the subresource reads and writes if that is not the resource's own kind."""

    name: str
    verbs: tuple[str, ...]
    kind: GroupVersionKind | None = None


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the parts of a scale are in an object, as names on the way there."""

    spec: str
    status: str
    selector: str = ""


class CustomVersion(Protocol):
    """What one version of a custom resource brings with it. ``tiphys.api.custom.definition`` reads it."""

    @property
    def gvk(self) -> GroupVersionKind: ...

    @property
    def structural(self) -> dict[str, Any] | None:
        """Its schema, as the definition has it."""

    @property
    def has_status(self) -> bool: ...

    @property
    def scale(self) -> ScalePaths | None: ...

    @property
    def columns(self) -> tuple[dict[str, Any], ...]: ...

    @property
    def selectable(self) -> tuple[str, ...]: ...

    @property
    def warning(self) -> str:
        """What the user of a deprecated version reads."""

    @property
    def subresources(self) -> tuple[Subresource, ...]: ...

    @property
    def tree(self) -> Schema:
        """The fields, for patch and apply."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API, in all its served versions.

    ``versions`` are in order of preference; ``storage_version`` is the one that is written to the store.
    ``definitions`` maps a version to the name of its published OpenAPI definition, such as ``io.k8s.api.core.v1.Pod``.
    """

    group: str
    plural: str
    singular: str
    kind: str
    versions: tuple[str, ...]
    storage_version: str
    namespaced: bool = True
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    definitions: dict[str, str] = field(default_factory=dict, hash=False, compare=False)
    storage_prefix: str = ""
    """Key prefix in the store under ``/registry/`` as upstream lays it out, such as ``services/specs``."""
    builtin: bool = True
    """False for a custom resource."""
    custom: Mapping[str, CustomVersion] = field(default_factory=dict, hash=False, compare=False)
    """Of a custom resource: what each of its versions brings with it."""
    terminating: bool = False
    """Of a custom resource: its definition is being deleted."""
    conversion: str = "None"
    """Of a custom resource: how objects get from one version to another."""
    webhook: Mapping[str, Any] | None = field(default=None, hash=False, compare=False)
    """Of a custom resource that a webhook converts: ``spec.conversion.webhook`` of its definition."""
    list_name: str = ""
    """The kind of lists, if it is not the kind with ``List`` behind it."""

    @property
    def name(self) -> str:
        """``deployments.apps``; ``pods`` for the core group. The name in error messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    @property
    def list_kind(self) -> str:
        return self.list_name or f"{self.kind}List"

    @property
    def verbs_now(self) -> tuple[str, ...]:
        """The verbs that discovery lists: only reading and deleting while the definition is being deleted."""
        if not self.terminating:
            return self.verbs
        return tuple(verb for verb in self.verbs if verb not in ("create", "patch", "update"))

    def gvk(self, version: str) -> GroupVersionKind:
        return GroupVersionKind(self.group, version, self.kind)

    def subresources_in(self, version: str) -> tuple[Subresource, ...]:
        """The subresources of one version; only custom resources differ in them."""
        return self.custom[version].subresources if self.custom else self.subresources

    def subresource(self, name: str, version: str) -> Subresource | None:
        return next((s for s in self.subresources_in(version) if s.name == name), None)


_KUBE_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")


def version_priority(name: str) -> tuple[int, int, int, str]:
    """A sort key: stable versions first, then betas, then alphas, each the newest first; then any other names.

    Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    """
    match = _KUBE_VERSION.fullmatch(name)
    if match is None:
        return (3, 0, 0, name)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), "")


class Scheme:
    """All resources that a server serves; custom resources are added and removed while it runs."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._by_plural: dict[tuple[str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        self._by_plural[resource.group, resource.plural] = resource
        self._by_kind[resource.group, resource.kind] = resource

    def remove(self, group: str, plural: str) -> None:
        if resource := self._by_plural.pop((group, plural), None):
            self._by_kind.pop((group, resource.kind), None)

    def resource(self, group: str, plural: str) -> Resource | None:
        return self._by_plural.get((group, plural))

    def for_kind(self, group: str, kind: str) -> Resource | None:
        return self._by_kind.get((group, kind))

    def resources(self) -> list[Resource]:
        return list(self._by_plural.values())

    def groups(self) -> dict[str, list[str]]:
        """Each group with its served versions: built-in ones in order of appearance, then others by name."""
        versions_of: dict[str, list[str]] = {}
        for resource in sorted(self._by_plural.values(), key=lambda r: "" if r.builtin else r.group):
            versions = versions_of.setdefault(resource.group, [])
            versions.extend(v for v in resource.versions if v not in versions)
            if resource.custom:
                versions.sort(key=version_priority)
        return versions_of

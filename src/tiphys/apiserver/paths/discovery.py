"""What the server serves: groups, versions, resources; group by group, or all at once (aggregated).

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from tiphys.api.object import Object
from tiphys.api.scheme import Resource, Scheme, Subresource


def api_versions(address: str) -> Object:
    """``/api``"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


Groups = Mapping[str, list[str]]
"""All groups with their versions, in the order in which they are shown."""


def group_list(groups: Groups) -> Object:
    """``/apis``"""
    shown = [_group(name, versions) for name, versions in groups.items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": shown}


def group(groups: Groups, name: str) -> Object | None:
    """``/apis/GROUP``"""
    versions = groups.get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> Object:
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": shown, "preferredVersion": shown[0]}


def resource_list(scheme: Scheme, group: str, version: str) -> Object | None:
    """``/api/v1`` and ``/apis/GROUP/VERSION``; the list of the core group has no API version, as upstream's."""
    resources = _of_version(scheme, group, version)
    if not resources:
        return None
    group_version = f"{group}/{version}" if group else version
    head: Object = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    shown = [row for resource in resources for row in _rows(resource, version)]
    return head | {"groupVersion": group_version, "resources": shown}


def _of_version(scheme: Scheme, group: str, version: str) -> list[Resource]:
    matching = [r for r in scheme.resources() if r.group == group and version in r.versions]
    return sorted(matching, key=lambda resource: resource.plural)


def _rows(resource: Resource, version: str) -> Iterator[Object]:
    row: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs_now),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if "watch" in resource.verbs:
        row["storageVersionHash"] = storage_version_hash(resource)
    yield row
    for subresource in sorted(resource.subresources_in(version), key=lambda s: s.name):
        yield _subresource_row(resource, subresource, version)


def _subresource_row(resource: Resource, subresource: Subresource, version: str) -> Object:
    row: Object = {"name": f"{resource.plural}/{subresource.name}", "singularName": ""}
    row["namespaced"] = resource.namespaced
    kind = subresource.kind
    if kind is not None and (kind.group, kind.version) != (resource.group, version):
        row |= {"group": kind.group, "version": kind.version}
    row["kind"] = kind.kind if kind is not None else resource.kind
    row["verbs"] = list(subresource.verbs)
    return row


def storage_version_hash(resource: Resource) -> str:
    """Shows clients that the storage version has changed."""
    text = f"{resource.group}/{resource.storage_version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


# -- aggregated discovery


class Elsewhere(Protocol):
    """What other servers serve."""

    def version(self, group: str, version: str) -> Object | None:
        """A version of a group as aggregated discovery shows it; None: it is served here."""
        ...


def aggregated(scheme: Scheme, groups: Groups, elsewhere: Elsewhere, *, core: bool) -> Object:
    """``/api`` or ``/apis`` as one APIGroupDiscoveryList."""
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [elsewhere.version(name, v) or _version(scheme, name, v) for v in versions],
        }
        for name, versions in groups.items()
        if (not name) == core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _version(scheme: Scheme, group: str, version: str) -> Object:
    resources = [_discovered(resource, version) for resource in _of_version(scheme, group, version)]
    return {"version": version, "resources": resources, "freshness": "Current"}


def _discovered(resource: Resource, version: str) -> Object:
    entry: Object = {
        "resource": resource.plural,
        "responseKind": {"group": "", "version": "", "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs_now),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if subresources := resource.subresources_in(version):
        entry["subresources"] = [_discovered_part(resource, s) for s in _sorted(subresources)]
    return entry


def _sorted(subresources: Iterable[Subresource]) -> list[Subresource]:
    return sorted(subresources, key=lambda subresource: subresource.name)


def _discovered_part(resource: Resource, subresource: Subresource) -> Object:
    kind = subresource.kind
    if kind is None:
        shown = {"group": "", "version": "", "kind": resource.kind}
    else:
        own = kind.group == resource.group
        shown = {
            "group": "" if own else kind.group,
            "version": "" if own else kind.version,
            "kind": kind.kind,
        }
    return {"subresource": subresource.name, "responseKind": shown, "verbs": list(subresource.verbs)}

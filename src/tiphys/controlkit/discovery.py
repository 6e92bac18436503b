"""Which resources the API server serves, each in its preferred version.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class ServedResource:
    """One resource as it is served. Subresources are left out."""

    path: ResourcePath
    kind: str
    verbs: frozenset[str]

    @property
    def api_version(self) -> str:
        return self.path.api_version


@dataclass(frozen=True, slots=True)
class Discovered:
    """``failures`` are groups or versions that could not be requested, with the reason (an aggregated API that is
    away).
    """

    resources: tuple[ServedResource, ...]
    failures: dict[str, str]

    def find(self, group: str, kind: str) -> ServedResource | None:
        return next((r for r in self.resources if r.kind == kind and r.path.group == group), None)


async def discover(client: Client, *, every_version: bool = False) -> Discovered:
    """Ask the server; raises ``ApiError`` or ``ConnectionError`` if it does not answer at all.

    ``every_version`` also gives the versions that are not preferred.
    """
    resources: list[ServedResource] = []
    failures: dict[str, str] = {}
    for root in ("/api", "/apis"):
        answer = await _get(client, root, _AGGREGATED)
        if answer.get("kind") == "APIGroupDiscoveryList":
            _read_aggregated(answer, resources, failures, every_version=every_version)
        else:
            await _ask_each(client, root, answer, resources, failures, every_version=every_version)
    return Discovered(tuple(resources), failures)


async def _get(client: Client, path: str, accept: str = "application/json") -> Object:
    response = await client.request("GET", path, headers={"accept": accept})
    answer: Object = orjson.loads(await response.read())
    return answer


def _read_aggregated(
    answer: Object, resources: list[ServedResource], failures: dict[str, str], *, every_version: bool
) -> None:
    for group in answer.get("items") or ():
        name = group["metadata"].get("name") or ""
        taken: set[str] = set()
        for version in group.get("versions") or ():
            if version.get("freshness") == "Stale":
                failures[f"{name}/{version['version']}"] = "stale GroupVersion discovery"
                continue
            for resource in version.get("resources") or ():
                plural = resource["resource"]
                if plural in taken and not every_version:
                    continue
                taken.add(plural)
                path = ResourcePath(name, version["version"], plural, resource.get("scope") == "Namespaced")
                kind = (resource.get("responseKind") or {}).get("kind") or ""
                resources.append(ServedResource(path, kind, frozenset(resource.get("verbs") or ())))


async def _ask_each(
    client: Client,
    root: str,
    answer: Object,
    resources: list[ServedResource],
    failures: dict[str, str],
    *,
    every_version: bool,
) -> None:
    """The way of servers before aggregated discovery: one request for each group and version."""
    if root == "/api":
        groups = [("", list(answer.get("versions") or ()))]
    else:
        groups = [(g["name"], [v["version"] for v in g.get("versions") or ()]) for g in answer.get("groups") or ()]
    for group, versions in groups:
        taken: set[str] = set()
        for version in versions:
            try:
                listed = await _get(client, f"{root}/{group}/{version}" if group else f"{root}/{version}")
            except errors.ApiError as error:
                failures[f"{group}/{version}"] = error.message
                continue
            for resource in listed.get("resources") or ():
                plural = resource["name"]
                if "/" in plural or (plural in taken and not every_version):
                    continue
                taken.add(plural)
                path = ResourcePath(group, version, plural, bool(resource.get("namespaced")))
                resources.append(ServedResource(path, resource["kind"], frozenset(resource.get("verbs") or ())))

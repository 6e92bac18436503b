"""APIServices: for every group and version that is served an object that says where; here, in this server itself.

Those of built-in groups are made at the start, those of custom resources are added and removed with the groups.
Source: https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/
"""

from __future__ import annotations

import asyncio

from tiphys.api.object import Object
from tiphys.api.scheme import Scheme
from tiphys.apiserver.registry.making import delete_own, make_if_missing
from tiphys.apiserver.registry.registries import Registries

GROUP = "apiregistration.k8s.io"
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
PRIORITIES = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
_VERSION_PRIORITIES = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("resource.k8s.io", "v1"): 21,
}
_CUSTOM = (1000, 100)


def wanted(scheme: Scheme) -> list[Object]:
    """One for each group and version, but for the group of APIServices itself."""
    builtin = {(r.group, version) for r in scheme.resources() if r.builtin for version in r.versions}
    services = []
    for group, versions in scheme.groups().items():
        if group == GROUP:
            continue
        for version in versions:
            if (group, version) in builtin:
                priorities = (PRIORITIES[group], _VERSION_PRIORITIES.get((group, version), 15))
                services.append(_service(group, version, "onstart", priorities))
            else:
                services.append(_service(group, version, "true", _CUSTOM))
    return services


def _service(group: str, version: str, managed: str, priorities: tuple[int, int]) -> Object:
    minimum, own = priorities
    spec: Object = {"group": group} if group else {}
    return {
        "kind": "APIService",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": {**spec, "version": version, "groupPriorityMinimum": minimum, "versionPriority": own},
    }


async def make_builtin(registries: Registries) -> None:
    """Make what is missing of those of built-in groups."""
    registry = registries.get(GROUP, "apiservices")
    builtin = [obj for obj in wanted(registries.scheme) if not _is_custom(obj)]
    await asyncio.gather(*(make_if_missing(registry, obj) for obj in builtin))


async def follow_custom(registries: Registries) -> None:
    """Bring those of custom resources to what is served now."""
    registry = registries.get(GROUP, "apiservices")
    custom = {obj["metadata"]["name"]: obj for obj in wanted(registries.scheme) if _is_custom(obj)}
    for entry in await registry.all():
        if entry.name not in custom and _is_custom(registry.shared_object(entry)):
            await delete_own(registry, "", entry.name)
    for obj in custom.values():
        await make_if_missing(registry, obj)


def _is_custom(obj: Object) -> bool:
    return (obj["metadata"].get("labels") or {}).get(MANAGED) == "true"

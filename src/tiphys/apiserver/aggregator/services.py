"""Which groups and versions other servers serve: the APIServices with a service, as the cache has them now.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tiphys.api.meta.conditions import is_condition
from tiphys.api.object import Object
from tiphys.api.scheme import version_priority
from tiphys.apiserver.bootstrap.apiservices import GROUP
from tiphys.apiserver.registry.registries import Registries

GroupVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Remote:
    """One group and version that is served elsewhere. ``ca`` is PEM; None: the authorities of this machine."""

    name: str
    """Of its APIService."""
    group: str
    version: str
    namespace: str
    service: str
    port: int
    ca: bytes | None
    insecure: bool
    available: bool
    priorities: tuple[int, int]
    """``groupPriorityMinimum`` and ``versionPriority``."""

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def host(self) -> str:
        """The name that the certificate of the service carries."""
        return f"{self.service}.{self.namespace}.svc"


def remote_of(obj: Object) -> Remote | None:
    """None: it is served here."""
    spec = obj["spec"]
    if (service := spec.get("service")) is None:
        return None
    bundle = spec.get("caBundle")
    return Remote(
        name=obj["metadata"]["name"],
        group=spec.get("group") or "",
        version=spec["version"],
        namespace=service["namespace"],
        service=service["name"],
        port=443 if service.get("port") is None else service["port"],
        ca=base64.b64decode(bundle) if bundle else None,
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        available=is_condition((obj.get("status") or {}).get("conditions"), "Available"),
        priorities=(spec["groupPriorityMinimum"], spec["versionPriority"]),
    )


class RemoteServices:
    def __init__(self, registries: Registries) -> None:
        self._registry = registries.get(GROUP, "apiservices")
        self._generation = -1
        self._remotes: dict[GroupVersion, Remote] = {}

    def current(self) -> dict[GroupVersion, Remote]:
        """By group and version; as they were last while the cache is being filled."""
        cacher = self._registry.store.cacher
        if cacher.generation != self._generation and cacher.is_ready:
            self._generation = cacher.generation
            every = (remote_of(self._registry.shared_object(entry)) for entry in cacher.under(cacher.prefix))
            self._remotes = {(remote.group, remote.version): remote for remote in every if remote is not None}
        return self._remotes

    def at(self, path: str) -> Remote | None:
        """Who serves a path, if it is that of a group and version or below, and served elsewhere."""
        remotes = self.current()
        if not remotes:
            return None
        first, _, rest = path[1:].partition("/")
        if first == "api":
            return remotes.get(("", rest.partition("/")[0]))
        if first != "apis":
            return None
        group, _, rest = rest.partition("/")
        return remotes.get((group, rest.partition("/")[0]))

    def groups(self, local: dict[str, list[str]], priorities: dict[str, int]) -> dict[str, list[str]]:
        """``local`` groups and versions with those of others in their places. ``priorities`` are those of local groups;
        a group that is not among them has that of custom resources."""
        remotes = self.current()
        if not remotes:
            return local
        groups = {group: list(versions) for group, versions in local.items()}
        rank = {group: priorities.get(group, _CUSTOM_PRIORITY) for group in local}
        for group, version in remotes:
            versions = groups.setdefault(group, [])
            if version not in versions:
                versions.append(version)
            rank[group] = max(rank.get(group, 0), remotes[group, version].priorities[0])
        for group, versions in groups.items():
            if any((group, version) in remotes for version in versions):
                versions.sort(key=lambda version, group=group: self._place(group, version))  # type: ignore[misc]
        return dict(sorted(groups.items(), key=lambda item: -rank[item[0]]))

    def _place(self, group: str, version: str) -> tuple[int, tuple[int, int, int, str]]:
        remote = self._remotes.get((group, version))
        return (-remote.priorities[1] if remote else -_CUSTOM_VERSION_PRIORITY, version_priority(version))


_CUSTOM_PRIORITY = 1000
_CUSTOM_VERSION_PRIORITY = 100

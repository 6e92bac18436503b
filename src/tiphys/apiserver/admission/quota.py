"""ResourceQuota: what a namespace uses is counted when it is requested, and not more than its quotas is given.

The count is kept in the status of the quota and changed by compare-and-write, so that two requests cannot both take the
last of it. Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api import errors
from tiphys.api.meta.copying import copy
from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.pods import claimquota
from tiphys.api.pods.claimquota import NO_CLASSES, DeviceNames, names_of_classes, special_owner
from tiphys.api.pods.quotausage import (
    Usage,
    in_scope,
    is_device_claim,
    matching,
    missing_resources,
    usage_of,
)
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.limitedresources import LimitedResource, uncovered, uncovered_scopes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.making import owned_status
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.objects import Stale

_ATTEMPTS = 20
_ZERO = Quantity.of(0)


class ResourceQuota(Plugin):
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, registries: Registries, limited: Sequence[LimitedResource] = ()) -> None:
        self._quotas: Registry = registries.get("", "resourcequotas")
        self._limited = limited
        self._classes: Registry = registries.get(claimquota.GROUP, "deviceclasses")
        self._claims: Registry = registries.get(claimquota.GROUP, claimquota.PLURAL)
        self._pods: Registry = registries.get("", "pods")

    async def validate(self, attributes: Attributes) -> None:
        namespace = attributes.namespace
        if not namespace or not attributes.resource.namespaced or attributes.plural == "resourcequotas":
            return None
        if not self._limited and not await self._quotas.every(namespace):
            return None
        for _ in range(_ATTEMPTS):
            try:
                return await self._charge(attributes, await self._quotas.every(namespace))
            except Stale:
                await self._quotas.store.cacher.feed.fresh()
        raise self._quotas.conflict(namespace)

    async def _charge(self, attributes: Attributes, entries: list[Entry]) -> None:
        """Check every quota before any is changed. Raises ``Stale`` if one has changed meanwhile."""
        changes: list[tuple[Entry, Object]] = []
        quotas = [self._quotas.object(entry) for entry in entries]
        devices = await self._devices(attributes)
        if self._limited:
            await attributes.work(lambda: self._check_covered(attributes, quotas, devices))
        charged = await attributes.work(lambda: [self._used(attributes, quota, devices) for quota in quotas])
        for entry, quota, used in zip(entries, quotas, charged, strict=True):
            if used:
                changed = copy(quota)
                changed["status"]["used"] = {**(quota["status"].get("used") or {}), **used}
                now = format_time(self._quotas.clock.now())
                changes.append((entry, owned_status(self._quotas, quota, changed, now)))
        if attributes.dry_run:
            return
        for entry, changed in changes:
            await self._quotas.store.update(entry.key, entry, changed)

    async def _devices(self, attributes: Attributes) -> DeviceNames:
        """What a claim is counted with; other objects need none of it."""
        if not is_device_claim(attributes.group, attributes.plural):
            return NO_CLASSES
        names = names_of_classes([self._classes.shared_object(entry) for entry in await self._classes.all()])
        owner = special_owner(attributes.new())
        if owner is None:
            return DeviceNames(names)
        pod = await self._pods.shared(attributes.namespace, owner["name"])
        uid = owner["uid"].encode()  # few of a namespace's claims are read
        entries = [entry for entry in await self._claims.all(attributes.namespace) if uid in entry.body]
        claims = [claim for claim in map(self._claims.shared_object, entries) if _is_for(claim, owner["uid"])]
        return DeviceNames(names, lambda *_: pod, lambda *_: claims)

    def _check_covered(self, attributes: Attributes, quotas: list[Object], devices: DeviceNames) -> None:
        """Refuse what is limited and grows, unless a quota is there for it."""
        obj, group, plural = attributes.new(), attributes.group, attributes.plural
        now = self._quotas.clock.now()
        usage = usage_of(group, plural, obj, now, devices)
        about = [quota for quota in quotas if in_scope(quota, plural, obj)]
        without: Object = {"spec": {}}
        if not any(self._delta(attributes, quota, usage, now, devices) for quota in about or (without,)):
            return
        covered = {name for quota in about for name in matching(group, plural, _hard(quota), usage, devices)}
        if names := uncovered(self._limited, group, plural, usage, covered):
            raise forbid(attributes, f"insufficient quota to consume: {','.join(names)}")
        if scopes := uncovered_scopes(self._limited, plural, obj, quotas):
            raise errors.from_code(500, f"insufficient quota to match these scopes: [{' '.join(map(_scope, scopes))}]")

    def _used(self, attributes: Attributes, quota: Object, devices: DeviceNames) -> dict[str, str]:
        """The new figures of one quota, empty if it is not concerned. Raises 403."""
        obj, plural = attributes.new(), attributes.plural
        if not in_scope(quota, plural, obj):
            return {}
        now = self._quotas.clock.now()
        status = quota.get("status") or {}
        hard = status.get("hard") or {}
        usage = usage_of(attributes.group, plural, obj, now, devices)
        concerned = matching(attributes.group, plural, set(hard), usage, devices)
        if not concerned:
            return {}
        name = quota["metadata"]["name"]
        if plural == "pods" and not attributes.group and (complaint := missing_resources(obj, concerned)):
            raise forbid(attributes, f"failed quota: {name}: {complaint}")
        used = status.get("used") or {}
        if unknown := concerned - used.keys():
            raise forbid(attributes, f"status unknown for quota: {name}, resources: {','.join(sorted(unknown))}")
        delta = self._delta(attributes, quota, usage, now, devices)
        wanted = {key: delta[key] for key in concerned if delta.get(key)}
        return _add(attributes, name, wanted, used, hard)

    def _delta(self, attributes: Attributes, quota: Object, usage: Usage, now: float, devices: DeviceNames) -> Usage:
        """What is used more than before."""
        old = attributes.old
        if attributes.operation == CREATE or old is None or not in_scope(quota, attributes.plural, old):
            return usage
        before = usage_of(attributes.group, attributes.plural, old, now, devices)
        grown = {key: value - before.get(key, _ZERO) for key, value in usage.items()}
        return {key: value for key, value in grown.items() if value.sign > 0}


def _is_for(claim: Object, pod_uid: str) -> bool:
    owner = special_owner(claim)
    return owner is not None and owner["uid"] == pod_uid


def _hard(quota: Object) -> set[str]:
    return set((quota.get("status") or {}).get("hard") or ())


def _scope(selector: Object) -> str:
    """As Go prints the structure."""
    return f"{{{selector['scopeName']} {selector.get('operator', '')} [{' '.join(selector.get('values') or ())}]}}"


def _add(attributes: Attributes, name: str, wanted: Usage, used: Object, hard: Object) -> dict[str, str]:
    after = {key: parse(str(used[key])) + value for key, value in wanted.items()}
    exceeded = sorted(key for key, value in after.items() if parse(str(hard[key])) < value)
    if exceeded:
        raise forbid(
            attributes,
            f"exceeded quota: {name}, requested: {_show(exceeded, wanted)}, used: {_show(exceeded, used)},"
            f" limited: {_show(exceeded, hard)}",
        )
    return {key: str(value) for key, value in after.items()}


def _show(names: list[str], amounts: Any) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in names)

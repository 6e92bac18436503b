"""The resource quota controller: counts what each namespace uses, and notices what was given back.

Admission charges a quota on create; this controller counts again when something is deleted, when a quota is created
or changed, and from time to time. Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.object import Object
from tiphys.api.pods import claimquota
from tiphys.api.pods.claimquota import NO_CLASSES, DeviceNames, may_count_claims, names_of_classes, special_owner
from tiphys.api.pods.quotausage import in_scope, matching, usage_of
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import (
    DEVICE_CLASSES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
    SERVICES,
    ResourcePath,
)
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.discovery import Discovered, discover
from tiphys.controlkit.objects import (
    is_deleting,
    key_of,
    namespace_of,
    split_key,
    status_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

Kind = tuple[str, str]
"""Group and plural."""

_DEVICE_CLAIMS = (claimquota.GROUP, claimquota.PLURAL)
_COUNTED = frozenset(("configmaps", "replicationcontrollers", "resourcequotas", "secrets"))


def kinds_of(constraint: str) -> frozenset[Kind]:
    """The kinds of objects that a quota's constraint is about: none if it is not known, and two if pods may ask for it
    as an extended resource, and claims for devices of the class that stands behind that."""
    if constraint.startswith("count/"):
        plural, _, group = constraint.removeprefix("count/").partition(".")
        return frozenset(((group, plural),))
    if constraint in _COUNTED:
        return frozenset((("", constraint),))
    if constraint == "services" or constraint.startswith("services."):
        return frozenset((("", "services"),))
    claims = constraint == "persistentvolumeclaims" or constraint == "requests.storage"
    if claims or ".storageclass.storage.k8s.io/" in constraint:
        return frozenset((("", "persistentvolumeclaims"),))
    pods = [("", "pods")] if matching("", "pods", {constraint}, {}) or constraint == "pods" else []
    return frozenset((*pods, *([_DEVICE_CLAIMS] if may_count_claims(constraint) else [])))


def calculate(
    quota: Object, objects: Mapping[Kind, Iterable[Object]], now: float, devices: DeviceNames = NO_CLASSES
) -> dict[str, str]:
    """What the namespace uses of each constraint whose kind is in ``objects``."""
    hard = set(quota["spec"].get("hard") or {})
    used: dict[str, Quantity] = {}
    for (group, plural), counted in objects.items():
        own = {name for name in hard if (group, plural) in kinds_of(name)}
        if (group, plural) == _DEVICE_CLAIMS:
            own = matching(group, plural, own, {}, devices)
        used |= {name: used.get(name, Quantity.of(0)) for name in own}
        for obj in counted:
            if not in_scope(quota, plural, obj):
                continue
            for name, amount in usage_of(group, plural, obj, now, devices).items():
                if name in own:
                    used[name] += amount
    return {name: str(amount) for name, amount in used.items()}


def same_amounts(left: Mapping[str, str], right: Mapping[str, str]) -> bool:
    return left.keys() == right.keys() and all(parse(str(left[name])) == parse(str(right[name])) for name in left)


class QuotaInformers:
    """Informers of the kinds that quotas count:

    shared if there is one, of metadata only if it is just counted.
    """

    def __init__(self, context: ControllerContext, changed: Callable[[Object], None]) -> None:
        self._context, self._changed = context, changed
        self._informers: dict[Kind, Informer] = {}
        self._discovered = Discovered((), {})
        self.runner: Runner | None = None

    def start(self, runner: Runner) -> None:
        """Run informers with ``runner``; those of a run that failed have ended with it."""
        self.runner = runner
        self._informers.clear()

    async def get(self, kind: Kind) -> Informer | None:
        """None if the kind is not served."""
        if kind not in self._informers:
            path = await self._path(kind)
            if path is None:
                return None
            self._informers[kind] = self._start(kind, path)
        informer = self._informers[kind]
        await informer.wait_synced()
        return informer

    async def classes(self) -> Informer:
        """Classes of devices, which claims are counted by; only where claims are served."""
        informer = self._context.informers.informer(DEVICE_CLASSES)
        await informer.wait_synced()
        return informer

    async def _path(self, kind: Kind) -> ResourcePath | None:
        for _ in range(2):
            for served in self._discovered.resources:
                if (served.path.group, served.path.plural) == kind and served.path.namespaced:
                    return served.path
            self._discovered = await discover(self._context.client)
        return None

    def _start(self, kind: Kind, path: ResourcePath) -> Informer:
        informers = self._context.informers
        whole = path in (PODS, SERVICES, PERSISTENT_VOLUME_CLAIMS, RESOURCE_CLAIMS)
        shared = informers.informer(path) if whole else informers.existing(path)
        if shared is not None:
            informer = shared
        else:
            assert self.runner is not None
            informer = Informer(self._context.client.metadata_only(), path, self._context.clock)
            self.runner.supervise(informer.run, f"quota of {path.plural}")
        informer.add_handler(
            Callbacks(added=_nothing, updated=self._updated(path), deleted=self._changed),
        )
        return informer

    def _updated(self, path: ResourcePath) -> Callable[[Object, Object], None]:
        """Only some changes give anything back."""

        def updated(old: Object, new: Object) -> None:
            if path == PODS:
                relevant = podkit.is_finished(new) and not podkit.is_finished(old)
                relevant = relevant or is_deleting(new) != is_deleting(old)
            else:
                relevant = old.get("spec") != new.get("spec")
            if relevant:
                self._changed(new)

        return updated


def _nothing(obj: Object) -> None:
    """What is created was counted by admission."""


class ResourceQuotaController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._clock: Clock = context.clock
        self._period = context.config.resource_quota_sync_period
        self._quotas = context.informers.informer(RESOURCE_QUOTAS)
        workers = context.config.concurrent_resource_quota_syncs
        self._controller = context.controller("resourcequota_primary", self.reconcile, workers=workers)
        self._informers = QuotaInformers(context, self._replenish)
        self._controller.handles(
            self._quotas,
            Callbacks(added=self._enqueue, updated=self._quota_changed, deleted=lambda quota: None),
        )

    async def run(self) -> None:
        async with Runner(self._clock, "resource quota ") as runner:
            self._informers.start(runner)
            runner.supervise(self._controller.run, "controller")
            while True:
                await self._clock.sleep(self._period)
                for quota in self._quotas.store.list():
                    self._enqueue(quota)

    def _enqueue(self, quota: Object) -> None:
        self._controller.queue.add(key_of(quota))

    def _quota_changed(self, old: Object, new: Object) -> None:
        if old["spec"] != new["spec"]:
            self._enqueue(new)

    def _replenish(self, obj: Object) -> None:
        for quota in self._quotas.store.list(namespace_of(obj)):
            self._enqueue(quota)

    async def reconcile(self, key: str) -> None:
        """Count what a quota limits, and write its status if it differs."""
        quota = self._quotas.store.get(*split_key(key))
        if quota is None:
            return
        hard = quota["spec"].get("hard") or {}
        objects = {}
        for kind in sorted({kind for name in hard for kind in kinds_of(name)}):
            informer = await self._informers.get(kind)
            if informer is not None:
                objects[kind] = informer.store.list(namespace_of(quota))
        devices = await self._devices(objects[_DEVICE_CLAIMS]) if _DEVICE_CLAIMS in objects else NO_CLASSES
        current = status_of(quota)
        known = {name: value for name, value in (current.get("used") or {}).items() if name in hard}
        used = known | calculate(quota, objects, self._clock.now(), devices)
        fresh = "hard" in current and "used" in current
        if fresh and same_amounts(current["hard"], hard) and same_amounts(current["used"], used):
            return
        await self._client.update_status(RESOURCE_QUOTAS, {**quota, "status": {"hard": hard, "used": used}})

    async def _devices(self, claims: Iterable[Object]) -> DeviceNames:
        """What the claims of a namespace are counted with."""
        classes, pods = await self._informers.classes(), await self._informers.get(("", "pods"))
        special: dict[str, list[Object]] = {}
        for claim in claims:
            if (owner := special_owner(claim)) is not None:
                special.setdefault(owner["uid"], []).append(claim)
        return DeviceNames(
            names_of_classes(classes.store.list()),
            lambda namespace, name: None if pods is None else pods.store.get(namespace, name),
            lambda _, uid: special.get(uid, ()),
        )

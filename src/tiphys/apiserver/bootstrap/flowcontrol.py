"""The default priority levels and flow schemas, and the condition by which each schema says whether its level is there.

Levels and schemas are rows, as all of them are made of the same few parts. Source:
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from tiphys.api import errors
from tiphys.api.apply import apply, excluding, of_paths
from tiphys.api.meta.conditions import find_condition, transition_time
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.registries import Registries

GROUP = "flowcontrol.apiserver.k8s.io"
PRODUCER = "api-priority-and-fairness-config-producer-v1"
_CONSUMER = "api-priority-and-fairness-config-consumer-v1"
_ALL = ["*"]
_EVERYBODY = ("Group:system:unauthenticated", "Group:system:authenticated")
_SYSTEM_ACCOUNTS = "ServiceAccount:kube-system/*"
_LEASES = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": _ALL}
_EVERY_RESOURCE = {"verbs": _ALL, "apiGroups": _ALL, "resources": _ALL, "clusterScope": True, "namespaces": _ALL}
_EVERY_PATH = {"verbs": _ALL, "nonResourceURLs": _ALL}
_ANYTHING: Object = {"resourceRules": [_EVERY_RESOURCE], "nonResourceRules": [_EVERY_PATH]}
_PROBES: Object = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
_ELECTION: Object = {"resourceRules": [{"verbs": ["get", "create", "update"], **_LEASES}]}
_NODES = {"verbs": _ALL, "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": True}
_HEARTBEATS: Object = {"resourceRules": [{**_NODES, "namespaces": _ALL}, {"verbs": _ALL, **_LEASES}]}

_LEVELS = (
    # name, shares, percent that may be lent, queues, hand size
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
    ("catch-all", 5, 0, 0, 0),
)
_SCHEMAS: tuple[tuple[str, str, int, str, tuple[str, ...], Object], ...] = (
    # name, level, precedence, what distinguishes flows, subjects, what they ask for
    ("exempt", "exempt", 1, "", ("Group:system:masters",), _ANYTHING),
    ("probes", "exempt", 2, "", _EVERYBODY, _PROBES),
    ("system-leader-election", "leader-election", 100, "ByUser",
     ("User:system:kube-controller-manager", "User:system:kube-scheduler", _SYSTEM_ACCOUNTS), _ELECTION),
    ("system-node-high", "node-high", 400, "ByUser", ("Group:system:nodes",), _HEARTBEATS),
    ("system-nodes", "system", 500, "ByUser", ("Group:system:nodes",), _ANYTHING),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace",
     ("User:system:kube-controller-manager",), _ANYTHING),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", ("User:system:kube-scheduler",), _ANYTHING),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", (_SYSTEM_ACCOUNTS,), _ANYTHING),
    ("service-accounts", "workload-low", 9000, "ByUser", ("Group:system:serviceaccounts",), _ANYTHING),
    ("global-default", "global-default", 9900, "ByUser", _EVERYBODY, _ANYTHING),
    ("catch-all", "catch-all", 10000, "ByUser", _EVERYBODY, _ANYTHING),
)  # fmt: skip


def priority_levels() -> list[Object]:
    exempt = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    levels = [_object("PriorityLevelConfiguration", "exempt", {"type": "Exempt", "exempt": exempt})]
    for name, shares, lendable, queues, hand in _LEVELS:
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
        response: Object = {"type": "Queue", "queuing": queuing} if queues else {"type": "Reject"}
        limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}
        levels.append(_object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited}))
    return levels


def flow_schemas() -> list[Object]:
    schemas = []
    for name, level, precedence, method, subjects, asked in _SCHEMAS:
        spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
        if method:
            spec["distinguisherMethod"] = {"type": method}
        spec["rules"] = [{"subjects": [_subject(text) for text in subjects], **asked}]
        schemas.append(_object("FlowSchema", name, spec))
    return schemas


def _object(kind: str, name: str, spec: Object) -> Object:
    meta = {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}
    return {"kind": kind, "apiVersion": f"{GROUP}/v1", "metadata": meta, "spec": spec}


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, own = name.partition("/")
        return {"kind": kind, "serviceAccount": {"namespace": namespace, "name": own}}
    return {"kind": kind, kind.lower(): {"name": name}}


# -- the condition Dangling


def dangling(schema: Object, levels: set[str]) -> Object:
    """The condition that a flow schema should have, without its time."""
    level = schema["spec"]["priorityLevelConfiguration"].get("name", "")
    named = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    if level in levels:
        return {"type": "Dangling", "status": "False", "reason": "Found", "message": f"{named} and it exists"}
    return {
        "type": "Dangling",
        "status": "True",
        "reason": "NotFound",
        "message": f"{named} but there is no such object",
    }


class DanglingFollower:
    """Brings the conditions up to date after every change of a schema or a level."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def run(self) -> None:
        changed = asyncio.Event()
        with ExitStack() as stack:
            for plural in ("flowschemas", "prioritylevelconfigurations"):
                stack.enter_context(self._registries.get(GROUP, plural).store.cacher.followed(changed.set))
            while True:
                await report_dangling(self._registries)
                await changed.wait()
                changed.clear()


async def report_dangling(registries: Registries) -> None:
    """Bring the condition of every flow schema up to date."""
    registry = registries.get(GROUP, "flowschemas")
    levels = {entry.name for entry in await registries.get(GROUP, "prioritylevelconfigurations").all()}
    news = []
    for entry in await registry.all():
        schema = registry.shared_object(entry)
        if not _has(schema, wanted := dangling(schema, levels)):
            news.append(_report(registries, entry.name, wanted))
    await asyncio.gather(*news)


def _has(schema: Object, wanted: Object) -> bool:
    condition = find_condition((schema.get("status") or {}).get("conditions"), "Dangling") or {}
    return all(condition.get(key) == value for key, value in wanted.items())


async def _report(registries: Registries, name: str, wanted: Object) -> None:
    registry = registries.get(GROUP, "flowschemas")
    write = registry.write_context(subresource="status", manager=_CONSUMER)
    gvk = registry.strategy.gvk
    filters = {gvk.api_version: excluding(of_paths(*registry.strategy.reset_by_status))}

    async def transform(stored: Object | None) -> Object:
        assert stored is not None
        known = find_condition((stored.get("status") or {}).get("conditions"), "Dangling")
        condition = {**wanted, "lastTransitionTime": transition_time(known, wanted["status"], write.now)}
        applied = {
            "kind": gvk.kind,
            "apiVersion": gvk.api_version,
            "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }
        return apply(
            stored,
            applied,
            _CONSUMER,
            force=True,
            gvk=gvk,
            schema=schema_for(gvk),
            now=write.now,
            subresource="status",
            filters=filters,
        )

    try:
        await updating.update(registry, updating.Update("", name, transform, updating.StatusRules(registry)), write)
    except errors.StatusError as error:
        if error.code != 404:
            raise

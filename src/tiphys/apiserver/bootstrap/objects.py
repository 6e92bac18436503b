"""What every cluster has from its first second: namespaces, policy, priority classes, and the service ``kubernetes``.

``ensure`` makes what is missing when the server starts; ``keep`` looks after what may be lost later.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces
"""

from __future__ import annotations

import asyncio
import itertools

import orjson

from tiphys.api.apply import apply, excluding, of_paths
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.apiserver.bootstrap import apiservices, flowcontrol
from tiphys.apiserver.bootstrap.addressleases import RENEW_SECONDS
from tiphys.apiserver.bootstrap.identity import COLLECT_SECONDS, IdentityLease
from tiphys.apiserver.bootstrap.kubernetes import KubernetesService
from tiphys.apiserver.bootstrap.policy import bootstrap_policy
from tiphys.apiserver.bootstrap.reconciling import reconcile
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.making import make_if_missing
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io"
_RANGE, _RANGE_CONTROLLER = "kubernetes", "kubernetes-service-cidr-controller"
_NAMESPACES_EVERY = 6
"""Of how many rounds one looks after the namespaces."""
_COLLECT_EVERY = int(COLLECT_SECONDS / RENEW_SECONDS)
"""The same for the leases of servers that are gone."""
_PRIORITIES = (
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


class Bootstrap:
    def __init__(self, config: Config, registries: Registries, clock: Clock) -> None:
        self._config = config
        self._registries = registries
        self._clock = clock
        self._service = KubernetesService(config, registries)
        self._identity = IdentityLease(config, registries)

    async def ensure(self) -> None:
        await asyncio.gather(*(self._ensure("", "namespaces", namespace(name)) for name in NAMESPACES))
        await self._ensure_policy()
        await asyncio.gather(
            *(self._ensure("scheduling.k8s.io", "priorityclasses", priority_class(*row)) for row in _PRIORITIES),
            *(self._ensure(group, plural, obj) for group, plural, obj in self._further()),
        )
        await self._ensure_flow_control()
        await apiservices.make_builtin(self._registries)
        await self._ready_range()
        await self._service.ensure()
        await self._identity.claim()

    async def keep(self) -> None:
        """Say that this server lives, and repair now and then what somebody may have deleted."""
        for number in itertools.count():
            if number % _COLLECT_EVERY == 0:
                await self._identity.collect()
            await self._clock.sleep(RENEW_SECONDS)
            if number % _NAMESPACES_EVERY == _NAMESPACES_EVERY - 1:
                for name in NAMESPACES:
                    await self._ensure("", "namespaces", namespace(name))
            await self._service.ensure()
            await self._identity.renew()

    async def withdraw(self) -> None:
        """This server goes away."""
        await self._identity.withdraw()
        await self._service.withdraw()

    async def _ensure_policy(self) -> None:
        policy = bootstrap_policy()
        rows = (
            ("clusterroles", policy.clusterroles),
            ("clusterrolebindings", policy.clusterrolebindings),
            ("roles", policy.roles),
            ("rolebindings", policy.rolebindings),
        )
        registries = {plural: self._registries.get(_RBAC, plural) for plural, _ in rows}
        await asyncio.gather(*(reconcile(registries[plural], obj) for plural, objects in rows for obj in objects))

    async def _ensure_flow_control(self) -> None:
        rows = (
            ("prioritylevelconfigurations", flowcontrol.priority_levels()),
            ("flowschemas", flowcontrol.flow_schemas()),
        )
        for plural, objects in rows:
            registry = self._registries.get(flowcontrol.GROUP, plural)
            await asyncio.gather(*(make_if_missing(registry, obj, flowcontrol.PRODUCER) for obj in objects))
        await flowcontrol.report_dangling(self._registries)

    def _further(self) -> list[tuple[str, str, Object]]:
        ranges = list(self._config.service_cluster_ip_ranges)
        return [
            ("", "configmaps", self._authentication_map()),
            ("", "configmaps", token_tracking(format_time(self._clock.now()))),
            ("networking.k8s.io", "servicecidrs", service_cidr(_RANGE, ranges)),
        ]

    async def _ready_range(self) -> None:
        """Services can have addresses of the server's own range at once; its status says so, as its controller does."""
        registry = self._registries.get("networking.k8s.io", "servicecidrs")
        write = registry.write_context()
        entry = await registry.store.get("", _RANGE)
        if entry is None or registry.object(entry).get("status", {}).get("conditions"):
            return

        async def transform(stored: Object | None) -> Object:
            gvk = registry.strategy.gvk
            filters = {gvk.api_version: excluding(of_paths(*registry.strategy.reset_by_status))}
            applied = ready_range(write.now)
            return apply(
                stored,
                applied,
                _RANGE_CONTROLLER,
                force=True,
                gvk=gvk,
                schema=schema_for(gvk),
                now=write.now,
                subresource="status",
                filters=filters,
            )

        await updating.update(registry, updating.Update("", _RANGE, transform, updating.StatusRules(registry)), write)

    def _authentication_map(self) -> Object:
        data: dict[str, str] = {}
        if self._config.client_ca:
            data["client-ca-file"] = self._config.client_ca.decode()
        if proxy := self._config.front_proxy:
            data["requestheader-client-ca-file"] = proxy.ca.decode()
            data["requestheader-allowed-names"] = _json(proxy.names)
            data["requestheader-extra-headers-prefix"] = _json(proxy.extra_prefixes)
            data["requestheader-group-headers"] = _json(proxy.group_headers)
            data["requestheader-uid-headers"] = _json(proxy.uid_headers)
            data["requestheader-username-headers"] = _json(proxy.username_headers)
        meta = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
        config_map: Object = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}
        return config_map | ({"data": data} if data else {})

    async def _ensure(self, group: str, plural: str, obj: Object) -> None:
        registry = self._registries.get(group, plural)
        await make_if_missing(registry, obj)


def _json(words: tuple[str, ...]) -> str:
    return orjson.dumps(words).decode()


def namespace(name: str) -> Object:
    return {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}


def priority_class(name: str, value: int, description: str) -> Object:
    head = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name}}
    return head | {"value": value, "description": description}


def token_tracking(now: str) -> Object:
    """Since when the use of tokens in secrets is noted; who cleans them up asks for it."""
    meta = {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": {"since": now[:10]}}


def ready_range(now: str) -> Object:
    head = {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": _RANGE}}
    text = "Kubernetes default Service CIDR is ready"
    ready = {"type": "Ready", "status": "True", "reason": "", "message": text, "lastTransitionTime": now}
    return head | {"status": {"conditions": [ready]}}


def service_cidr(name: str, ranges: list[str]) -> Object:
    head = {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": name}}
    return head | {"spec": {"cidrs": ranges}}

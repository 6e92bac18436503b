"""The service ``default/kubernetes``, by which pods reach the API, and its endpoints: one address per living server.

Source: https://kubernetes.io/docs/tasks/administer-cluster/access-cluster-api/
"""

from __future__ import annotations

import ipaddress
import logging

from tiphys.api import errors
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.bootstrap.addressleases import AddressLeases
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry import creating, updating
from tiphys.apiserver.registry.making import owned, prepared
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry, no_validation
from tiphys.apiserver.registry.services.services import ServiceStrategy

log = logging.getLogger(__name__)


_NAME, _NAMESPACE, _PORT_NAME = "kubernetes", "default", "https"
_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_DISCOVERY = "discovery.k8s.io"


class KubernetesService:
    def __init__(self, config: Config, registries: Registries) -> None:
        self._config = config
        self._registries = registries
        self._leases = AddressLeases(registries.feed.backend, config.storage_root)
        self._withdrawn = False
        self._reconciles = config.endpoint_reconciler
        if ipaddress.ip_address(config.advertise_address).is_loopback:
            log.warning(
                "%s cannot be reached by pods: the service kubernetes gets no endpoint", config.advertise_address
            )
            self._reconciles = False

    async def ensure(self) -> None:
        await self._ensure_service()
        if self._reconciles and not self._withdrawn:
            await self._leases.renew(self._config.advertise_address)
            await self._write_endpoints()

    async def withdraw(self) -> None:
        """Take this server's address out, for good."""
        self._withdrawn = True
        if self._reconciles:
            await self._leases.withdraw(self._config.advertise_address)
            await self._write_endpoints()

    async def _ensure_service(self) -> None:
        registry = self._registries.get("", "services")
        if await registry.store.cached(_NAMESPACE, _NAME) is not None:
            return
        assert isinstance(registry.strategy, ServiceStrategy)
        pool = registry.strategy.pools[registry.strategy.families[0]]
        service = self._service(pool.first())
        write = registry.write_context(namespace=_NAMESPACE)
        owned(registry, None, prepared(registry, service), write)
        try:
            await creating.create(registry, service, write, no_validation)
        except errors.StatusError as error:
            if error.code != 409:
                raise

    def _service(self, address: str) -> Object:
        port: Object = {"name": _PORT_NAME, "protocol": "TCP", "port": 443, "targetPort": self._config.advertise_port}
        if self._config.kubernetes_node_port:
            port["nodePort"] = self._config.kubernetes_node_port
        return {
            "kind": "Service",
            "apiVersion": "v1",
            "metadata": {"name": _NAME, "namespace": _NAMESPACE, "labels": dict(_LABELS)},
            "spec": {
                "ports": [port],
                "clusterIP": address,
                "clusterIPs": [address],
                "type": "NodePort" if self._config.kubernetes_node_port else "ClusterIP",
                "sessionAffinity": "None",
            },
        }

    async def _write_endpoints(self) -> None:
        """Bring the endpoints, old form and new, to the addresses of the servers that live."""
        addresses = await self._leases.addresses()
        await self._write(self._registries.get("", "endpoints"), self._endpoints(addresses))
        await self._write(self._registries.get(_DISCOVERY, "endpointslices"), self._slice(addresses))

    async def _write(self, registry: Registry, wanted: Object) -> None:
        wanted = prepared(registry, wanted)
        entry = await registry.store.get(_NAMESPACE, _NAME)
        if entry is not None and _same(registry.object(entry), wanted):
            return

        write = registry.write_context(namespace=_NAMESPACE)

        async def transform(stored: Object | None) -> Object:
            new = copy(wanted)
            if stored is not None:
                new["metadata"] = copy(stored["metadata"]) | {"labels": new["metadata"]["labels"]}
            return owned(registry, stored, new, write)

        change = updating.Update(_NAMESPACE, _NAME, transform, updating.ObjectRules(registry), create=True)
        await updating.update(registry, change, write)

    def _endpoints(self, addresses: list[str]) -> Object:
        head = _head("Endpoints", "v1", {"endpointslice.kubernetes.io/skip-mirror": "true"})
        if not addresses:
            return head
        port = {"name": _PORT_NAME, "port": self._config.advertise_port, "protocol": "TCP"}
        return head | {"subsets": [{"addresses": [{"ip": ip} for ip in addresses], "ports": [port]}]}

    def _slice(self, addresses: list[str]) -> Object:
        head = _head("EndpointSlice", f"{_DISCOVERY}/v1", {"kubernetes.io/service-name": _NAME})
        port = {"name": _PORT_NAME, "protocol": "TCP", "port": self._config.advertise_port}
        endpoints = [{"addresses": [ip], "conditions": {"ready": True}} for ip in addresses]
        family = f"IPv{ipaddress.ip_address(self._config.advertise_address).version}"
        return head | {"addressType": family, "endpoints": endpoints, "ports": [port]}


def _head(kind: str, api_version: str, labels: dict[str, str]) -> Object:
    meta: Object = {"name": _NAME, "namespace": _NAMESPACE, "labels": labels}
    return {"kind": kind, "apiVersion": api_version, "metadata": meta}


def _same(current: Object, wanted: Object) -> bool:
    """Whether they say the same beside what the server itself writes into metadata."""
    labels = current["metadata"].get("labels") == wanted["metadata"]["labels"]
    return labels and {**current, "metadata": None} == {**wanted, "metadata": None}

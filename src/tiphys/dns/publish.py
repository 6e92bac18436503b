"""Makes the cluster's DNS address lead here: Service kube-system/kube-dns, and an EndpointSlice for this node's server.

The Service has no selector: nothing but these slices says where it leads. If a Service of that name has a selector,
another DNS (CoreDNS, say) serves the cluster, and it is left alone.

Source: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import ENDPOINT_SLICES, SERVICES
from tiphys.client.rest import Client
from tiphys.dns.config import DNSConfig
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)


NAMESPACE, NAME = "kube-system", "kube-dns"
CHECK_EVERY = 60.0
RETRY_AFTER = 1.0


def service(config: DNSConfig) -> Object:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": config.port},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": config.port},
    ]
    labels = {"k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {"clusterIP": config.service_ip, "clusterIPs": [config.service_ip], "ports": ports},
    }


def endpoint_slice(config: DNSConfig) -> Object:
    """The EndpointSlice with this node's DNS server, which only this node's clients should use."""
    ports = [
        {"name": "dns", "port": config.port, "protocol": "UDP"},
        {"name": "dns-tcp", "port": config.port, "protocol": "TCP"},
    ]
    endpoint = {
        "addresses": [config.address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": config.node_name,
        # A node asks its own server, if it has one: others may not pass its questions on.
        "hints": {"forNodes": [{"name": config.node_name}]},
    }
    labels = {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": "dns.tiphys.io"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{NAME}-{config.node_name}", "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv6" if ":" in config.address else "IPv4",
        "endpoints": [endpoint],
        "ports": ports,
    }


class Publisher:
    """Keeps both objects as they should be."""

    def __init__(
        self, *, config: DNSConfig, client: Client, clock: Clock, services: Informer, slices: Informer
    ) -> None:
        self._config, self._client, self._clock = config, client, clock
        self._services, self._slices = services.store, slices.store
        self._wake = asyncio.Event()
        services.add_handler(Callbacks(changed=self._changed))
        slices.add_handler(Callbacks(changed=self._changed))

    def _changed(self, obj: Object) -> None:
        meta = obj["metadata"]
        if meta["namespace"] == NAMESPACE and meta["name"].startswith(NAME):
            self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._ensure()
                wait = CHECK_EVERY
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot publish the cluster's DNS: %s", error)
                wait = RETRY_AFTER
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _ensure(self) -> None:
        if await self._ensure_service():
            await self._ensure_slice()

    async def _ensure_service(self) -> bool:
        """Whether the Service leads to slices like ours."""
        wanted = service(self._config)
        current = self._services.get(NAMESPACE, NAME)
        if current is None:
            try:
                await self._client.create(SERVICES, wanted, namespace=NAMESPACE)
            except errors.AlreadyExists:
                return True
            log.info("the cluster's DNS is at %s", self._config.service_ip)
            return True
        if current["spec"].get("selector"):
            log.info("service %s/%s has a selector: another DNS serves the cluster", NAMESPACE, NAME)
            return False
        if current["spec"].get("clusterIP") != self._config.service_ip:
            log.warning("service %s/%s has address %s", NAMESPACE, NAME, current["spec"].get("clusterIP"))
        return True

    async def _ensure_slice(self) -> None:
        wanted = endpoint_slice(self._config)
        name = wanted["metadata"]["name"]
        current = self._slices.get(NAMESPACE, name)
        if current is None:
            try:
                await self._client.create(ENDPOINT_SLICES, wanted, namespace=NAMESPACE)
            except errors.AlreadyExists:
                current = await self._client.get(ENDPOINT_SLICES, name, NAMESPACE)
            else:
                return
        if current["addressType"] != wanted["addressType"]:
            await self._client.delete(ENDPOINT_SLICES, name, NAMESPACE)
            await self._client.create(ENDPOINT_SLICES, wanted, namespace=NAMESPACE)
            return
        if any(current.get(part) != wanted[part] for part in ("endpoints", "ports")):
            version = {"resourceVersion": current["metadata"]["resourceVersion"]}
            wanted["metadata"] = {**wanted["metadata"], **version}
            await self._client.update(ENDPOINT_SLICES, wanted)

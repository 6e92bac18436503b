"""Where the service of an APIService is reached, and by which connections.

By default at its cluster IP, which the service proxy of this machine spreads over the endpoints; with
``--enable-aggregator-routing`` at one of the ready endpoints, in turn, which needs no service proxy here.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.aggregator.services import Remote
from tiphys.apiserver.config import ProxyCertificate
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.webhooks.client import service_endpoints
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Transport
from tiphys.wire.tls.contexts import client_context
from tiphys.wire.transports import Transports

_ROUTED = ("ClusterIP", "LoadBalancer", "NodePort")


class Unroutable(Exception):
    """There is no address for a service; the text says why, as upstream words it."""


class _Key(NamedTuple):
    """All that says one kind of connection from another. ``stamp`` is that of the files of the own certificate."""

    host: str
    port: int
    name: str
    ca: bytes | None
    insecure: bool
    stamp: tuple[int, ...]


class Backends:
    """``certificate`` is shown to the services, which know this server by it; None: they are shown none."""

    def __init__(self, registries: Registries, certificate: ProxyCertificate | None, *, to_endpoints: bool) -> None:
        self._registries = registries
        self._certificate = certificate
        self._to_endpoints = to_endpoints
        self._turns = itertools.count()
        self._transports: Transports[_Key] = Transports(self._make)

    async def resolve(self, remote: Remote) -> tuple[str, int]:
        """The address and port of a service. Raises ``Unroutable``."""
        services = self._registries.get("", "services")
        service = await services.shared(remote.namespace, remote.service)
        if service is None:
            raise Unroutable(f"service {quote(remote.service)} not found")
        spec = service["spec"]
        kind = spec.get("type") or "ClusterIP"
        if kind == "ExternalName":
            return spec["externalName"], remote.port
        if kind not in _ROUTED:
            raise Unroutable(f"unsupported service type {quote(kind)}")
        if not self._to_endpoints and spec.get("clusterIP") == "None":
            raise Unroutable('cannot route to service with ClusterIP "None"')
        port = next((port for port in spec.get("ports") or () if port["port"] == remote.port), None)
        if port is None:
            raise Unroutable(f"no service port {remote.port} found for service {quote(remote.service)}")
        if not self._to_endpoints:
            return spec["clusterIP"], remote.port
        return await self._endpoint(remote, port)

    async def _endpoint(self, remote: Remote, port: Object) -> tuple[str, int]:
        endpoints = await service_endpoints(self._registries, remote.namespace, remote.service, port.get("name") or "")
        if not endpoints:
            raise Unroutable(f"no endpoints available for service {quote(remote.service)}")
        return endpoints[next(self._turns) % len(endpoints)]

    def transport(self, remote: Remote, host: str, port: int) -> Transport:
        """Raises OSError or ssl.SSLError if a certificate cannot be used."""
        stamp = () if self._certificate is None else _stamp(self._certificate)
        return self._transports.get(_Key(host, port, remote.host, remote.ca, remote.insecure, stamp))

    def _make(self, key: _Key) -> SocketTransport:
        own = self._certificate
        files = (None, None) if own is None else (own.cert, own.key)
        context = client_context(key.ca, *files, verify=not key.insecure)
        return SocketTransport(key.host, key.port, context, key.name)

    async def close(self) -> None:
        await self._transports.close()


def _stamp(certificate: ProxyCertificate) -> tuple[int, ...]:
    """Changes when the files do: a renewed certificate is shown by new connections."""
    paths: tuple[Path, ...] = (certificate.cert, certificate.key)
    return tuple(path.stat().st_mtime_ns for path in paths)

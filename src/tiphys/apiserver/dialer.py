"""``SocketDialer``: the API server's way to kubelets, pods and services, over sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

from tiphys.apiserver.streaming.addresses import NOT_ALLOWED, is_allowed
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Transport
from tiphys.wire.tls.following import FollowedCertificate
from tiphys.wire.transports import Transports

Key = tuple[str, str, int]


class SocketDialer:
    """Keeps a transport per address. ``kubelet_tls`` carries the client certificate that kubelets know;
    ``certificate`` keeps it renewed.

    ``own_kubelet``: address and port of the kubelet on the API server's own machine, which may be on loopback.
    """

    def __init__(
        self,
        kubelet_tls: ssl.SSLContext | None,
        own_kubelet: tuple[str, int] | None = None,
        certificate: FollowedCertificate | None = None,
    ) -> None:
        self._kubelet_tls = kubelet_tls
        self._certificate = certificate
        self._own_kubelet = own_kubelet
        self._transports: Transports[Key] = Transports(self._make)

    async def refuses(self, host: str, port: int) -> str:
        """Why nobody may be connected to ``host``, an address or a name; ``""`` if they may."""
        if (host, port) == self._own_kubelet:
            return ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return await self._refuses_name(host, port)
        return "" if is_allowed(host) else NOT_ALLOWED

    async def _refuses_name(self, host: str, port: int) -> str:
        try:
            entries = await asyncio.get_running_loop().getaddrinfo(host, port)
        except OSError:
            return f"lookup {host}: no such host"
        return "" if all(is_allowed(str(entry[4][0])) for entry in entries) else NOT_ALLOWED

    def kubelet(self, node: str, host: str, port: int) -> Transport:
        return self._transports.get(("kubelet", host, port))

    def address(self, scheme: str, host: str, port: int) -> Transport:
        """Pods and services show certificates that no authority of the cluster has signed, so they are not checked."""
        return self._transports.get((scheme, host, port))

    def _make(self, key: Key) -> SocketTransport:
        kind, host, port = key
        tls = self._kubelet_tls if kind == "kubelet" else _unverified() if kind == "https" else None
        own = kind == "kubelet" and (host, port) == self._own_kubelet
        # Asked again of the very address that is connected to: a name may say something else the second time.
        certificate = self._certificate if kind == "kubelet" else None
        return SocketTransport(host, port, tls=tls, allowed=None if own else is_allowed, certificate=certificate)

    async def close(self) -> None:
        await self._transports.close()


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

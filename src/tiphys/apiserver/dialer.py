"""``SocketDialer``: the API server's way to kubelets, pods and services, over sockets."""

from __future__ import annotations

import ssl

from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Transport


class SocketDialer:
    """Keeps a transport per address. ``kubelet_tls`` carries the client certificate that kubelets know."""

    def __init__(self, kubelet_tls: ssl.SSLContext | None) -> None:
        self._kubelet_tls = kubelet_tls
        self._transports: dict[tuple[str, str, int], SocketTransport] = {}

    def kubelet(self, node: str, host: str, port: int) -> Transport:
        return self._transport("kubelet", host, port, self._kubelet_tls)

    def address(self, scheme: str, host: str, port: int) -> Transport:
        """Pods and services show certificates that no authority of the cluster has signed, so they are not checked."""
        return self._transport(scheme, host, port, _unverified() if scheme == "https" else None)

    def _transport(self, kind: str, host: str, port: int, tls: ssl.SSLContext | None) -> SocketTransport:
        key = (kind, host, port)
        found = self._transports.get(key)
        if found is None:
            found = self._transports[key] = SocketTransport(host, port, tls=tls)
        return found

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

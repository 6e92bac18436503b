"""Connections out of the API server: to kubelets with its client certificate, to pods and services without."""

from __future__ import annotations

import ssl

from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Transport


class SocketDialer:
    """A ``NodeDialer``. Transports are kept, as each has a pool of connections.

    ``kubelet_tls`` presents the API server's client certificate and trusts the kubelets' authority.
    """

    def __init__(self, kubelet_tls: ssl.SSLContext) -> None:
        self._kubelet_tls = kubelet_tls
        self._any_tls: ssl.SSLContext | None = None
        self._transports: dict[tuple[str, str, int], Transport] = {}

    def kubelet(self, node: str, host: str, port: int) -> Transport:
        return self._transport(f"kubelet {node}", host, port, self._kubelet_tls)

    def address(self, scheme: str, host: str, port: int) -> Transport:
        return self._transport(scheme, host, port, self._unverified() if scheme == "https" else None)

    def _transport(self, kind: str, host: str, port: int, tls: ssl.SSLContext | None) -> Transport:
        key = (kind, host, port)
        if key not in self._transports:
            self._transports[key] = SocketTransport(host, port, tls=tls)
        return self._transports[key]

    def _unverified(self) -> ssl.SSLContext:
        """Pods and services have no certificate that the API server could know, so the original checks none."""
        if self._any_tls is None:
            from tiphys.wire.tls import client_context

            self._any_tls = client_context(verify=False)
        return self._any_tls

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()
        self._transports.clear()

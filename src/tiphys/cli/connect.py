"""A client of the cluster's API server, with the credentials of its administrator."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from tiphys.client.rest import Client
from tiphys.cluster import kubeconfig
from tiphys.cluster.settings import Settings
from tiphys.wire.client import SocketTransport
from tiphys.wire.tls import client_context


def admin_client(settings: Settings, timeout: float = 30) -> Client:
    """Needs a running event loop. The caller closes it."""
    return client_from(settings, "admin", "tiphys", timeout)


def client_from(settings: Settings, name: str, user_agent: str, timeout: float = 30) -> Client:
    """A client with the kubeconfig of one component."""
    server, ca, certificate, key = kubeconfig.credentials(kubeconfig.load(settings.kubeconfig(name)))
    return _client(server, client_context(ca=ca, cert=certificate, key=key), user_agent, timeout)


def bare_client(settings: Settings, user_agent: str, timeout: float = 30) -> Client:
    """A client without credentials, to be given a token."""
    return _client(settings.server, client_context(ca=settings.pki / "ca.crt"), user_agent, timeout)


def _client(server: str, tls: ssl.SSLContext, user_agent: str, timeout: float) -> Client:
    address = urlsplit(server)
    assert address.hostname is not None
    assert address.port is not None
    return Client(SocketTransport(address.hostname, address.port, tls=tls), user_agent=user_agent, timeout=timeout)

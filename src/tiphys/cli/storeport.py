"""The store's etcd API on loopback, served by the API server's process: for etcdctl and for other API servers.

Like kubeadm's etcd it requires its own client certificate authority; `apiserver-etcd-client` in the PKI is one.
"""

from __future__ import annotations

import socket

from tiphys.cluster.settings import Settings
from tiphys.store.embedded import Embedded
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.server import EtcdServer
from tiphys.wire.tls.contexts import server_context

LOOPBACK = "127.0.0.1"


async def serve_store(settings: Settings, store: Embedded, listening: socket.socket) -> EtcdServer:
    """Serve who connects to a socket that listens already, on the port of the settings."""
    pki = settings.pki
    tls = server_context(pki / "etcd/server.crt", pki / "etcd/server.key", pki / "etcd/ca.crt")
    member = Member(store, settings.node_name, [f"https://{LOOPBACK}:{settings.etcd_port}"])
    server = EtcdServer(member)
    await server.listen_on(listening, tls)
    return server

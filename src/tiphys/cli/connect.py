"""A client of the cluster's API server, with the credentials of its administrator."""

from __future__ import annotations

from tiphys.client.kubeconfig import client_from_file
from tiphys.client.rest import Client
from tiphys.cluster.settings import Settings


def admin_client(settings: Settings, timeout: float = 30) -> Client:
    """Needs a running event loop. The caller closes it."""
    return client_from_file(settings.kubeconfig("admin"), "tiphys", timeout=timeout)

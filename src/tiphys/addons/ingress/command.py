"""The two processes of the ingress add-on: haproxy, and the controller that gives it what to serve.

Source: https://docs.haproxy.org/2.6/management.html (master-worker mode)
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tiphys.addons.ingress.configuration import Listening
from tiphys.addons.ingress.controller import IngressController
from tiphys.addons.ingress.haproxy import HAProxy
from tiphys.addons.ingress.ports import HTTP_PORT, HTTPS_PORT
from tiphys.client.kubeconfig import connected
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import Ready, whenever


def proxy_of(folder: Path, addresses: Sequence[str]) -> HAProxy:
    """The proxy with its files in ``folder``, listening on a node's addresses."""
    return HAProxy(folder, Listening(addresses, HTTP_PORT, HTTPS_PORT, folder / "admin.sock"))


def answers(address: str) -> bool:
    """Whether the proxy takes connections."""
    try:
        socket.create_connection((address, HTTP_PORT), timeout=1).close()
    except OSError:
        return False
    return True


async def run(proxy: HAProxy, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Run the controller until cancelled; haproxy is run by somebody else. ``ready`` is called once it knows all."""
    async with connected(kubeconfig, "tiphys-ingress") as client:
        await IngressController(client=client, clock=SystemClock(), proxy=proxy).run(ready)

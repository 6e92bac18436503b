"""``tiphys metrics-relay``: on each node, the metrics of the components that listen on loopback, for whom RBAC lets.

The API server is asked who calls and whether they may; then the component is asked with the relay's own token, so that
no caller's credentials travel on. As kube-rbac-proxy stands before the ports of upstream's components.

Source: https://github.com/brancz/kube-rbac-proxy
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tiphys.addons.monitoring.targets import RELAY_PORT
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, credentials_from_file
from tiphys.controlkit.serving import settings
from tiphys.controlkit.serving.port import open_port
from tiphys.controlkit.serving.settings import PortSettings
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, launch
from tiphys.runtime.flags import FlagParser
from tiphys.wire.client import SocketTransport
from tiphys.wire.health import plain
from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.tls.contexts import client_context

log = logging.getLogger(__name__)

_MOST_BYTES = 32 << 20
_SECONDS = 10.0


class Component(NamedTuple):
    """A port on loopback; ``secure`` for one that asks by TLS who calls."""

    port: int
    secure: bool


COMPONENTS = {
    "kube-controller-manager": Component(10257, secure=True),
    "kube-scheduler": Component(10259, secure=True),
    "kube-proxy": Component(10249, secure=False),
}
_PREFIX = "/metrics/"


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("metrics-relay", "Serves the metrics of this node's components that listen on loopback.")
    parser.add_argument("--kubeconfig", type=Path, default=SERVICE_ACCOUNT,
        help="who this is, and who is asked about callers (default: as this pod)")  # fmt: skip
    settings.add_flags(parser, RELAY_PORT, tolerate_lookup_failure=False)
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    serving = settings.port_settings(flags, _parser())
    if serving is None:
        raise CannotStart("--secure-port=0: without its port the relay does nothing; give another")
    delegation = serving.delegation
    delegation = replace(
        delegation,
        authentication=delegation.authentication or flags.kubeconfig,
        authorization=delegation.authorization or flags.kubeconfig,
    )
    return run(replace(serving, delegation=delegation), credentials_from_file(flags.kubeconfig).token)


async def run(serving: PortSettings, token: Callable[[], str] | None) -> None:
    """Serve until cancelled. Raises ``OSError`` if the port is taken."""
    relay = Relay(COMPONENTS, token)
    try:
        async with open_port(serving, relay, SystemClock()):
            await asyncio.Event().wait()
    finally:
        await relay.close()


class Relay:
    """A handler of ``/metrics/COMPONENT``."""

    def __init__(self, components: Mapping[str, Component], token: Callable[[], str] | None) -> None:
        # A component signs its certificate itself, and nobody is between it and the relay: they meet on loopback.
        tls = client_context(verify=False)
        self._transports = {
            name: SocketTransport("127.0.0.1", each.port, tls if each.secure else None, max_idle=1)
            for name, each in components.items()
        }
        self._components = components
        self._token = token

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    async def __call__(self, request: Request) -> Response:
        name = request.path.removeprefix(_PREFIX)
        if not request.path.startswith(_PREFIX) or name not in self._components:
            return plain(404, f"there are {', '.join(_PREFIX + each for each in self._components)}\n")
        if request.method != "GET":
            return plain(405, "metrics are read by GET\n")
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._fetch(name)
        except TimeoutError:
            return plain(504, f"{name} did not answer within {_SECONDS:.0f} s\n")
        except OSError as error:  # ssl.SSLError and ConnectionError are some
            log.warning("cannot read the metrics of %s: %s", name, error)
            return plain(502, f"{name} does not answer on its port of loopback, {self._components[name].port}\n")

    async def _fetch(self, name: str) -> Response:
        headers = Headers({"accept": "text/plain;version=0.0.4"})
        if self._components[name].secure and self._token is not None:
            headers["authorization"] = f"Bearer {self._token()}"
        answer = await self._transports[name].send(Request("GET", "/metrics", headers=headers))
        body = await answer.read(_MOST_BYTES)
        return Response(answer.status, {"Content-Type": answer.headers.get("content-type", "text/plain")}, body)

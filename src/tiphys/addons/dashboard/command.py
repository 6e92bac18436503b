"""``tiphys dashboard-server``: the dashboard in a cluster, behind a Service. Users log in with a token of their own."""

from __future__ import annotations

import argparse
import os
import socket
import ssl
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.addons.dashboard.handler import Door
from tiphys.addons.dashboard.server import DashboardConfig, run
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, launch
from tiphys.runtime.flags import FlagParser
from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.tls.contexts import client_context, server_context
from tiphys.wire.tls.selfsigned import ensure_certificate


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("dashboard-server", "Serves the dashboard, which acts as whoever logs in.")
    add = parser.add_argument
    add("--server", default="", help="URL of the API server (default: as a pod finds it)")
    add("--certificate-authority", type=Path, help="who signs the API server's certificate")
    add("--bind-address", default="0.0.0.0", help="where to listen")
    add("--secure-port", type=int, default=8443, help="the port")
    add("--tls-cert-file", type=Path, help="the server's certificate, with its chain")
    add("--tls-private-key-file", type=Path, help="its key")
    add("--cert-dir", type=Path, default=Path("dashboard.local.config/certificates"), help="where else they are made")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if (flags.tls_cert_file is None) != (flags.tls_private_key_file is None):
        raise CannotStart("--tls-cert-file and --tls-private-key-file belong together; give both or none")
    if not 0 <= flags.secure_port <= 65535:
        raise CannotStart(f"--secure-port: {flags.secure_port} is no port; use 1 to 65535")
    return _serve(flags)


async def _serve(flags: argparse.Namespace) -> None:
    door = Door(connect(flags.server or _of_pod(), flags.certificate_authority))
    cert, key = flags.tls_cert_file, flags.tls_private_key_file
    try:
        if cert is None:
            cert, key = ensure_certificate(flags.cert_dir, (socket.gethostname(), "localhost", "127.0.0.1"))
        tls = server_context(cert, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CannotStart(f"the server's certificate cannot be used: {error}") from error
    await run(DashboardConfig(flags.bind_address, flags.secure_port, tls), door, SystemClock(), lambda port: None)


def _of_pod() -> str:
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{what}", "") for what in ("HOST", "PORT"))
    if not (host and port):
        raise CannotStart("--server is not given, and this is no pod; give the API server's URL")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def connect(server: str, authority: Path | None) -> SocketTransport:
    """Connections to the API server that show no credentials. Raises ``CannotStart``."""
    try:
        address = parse_url(server)
        tls = client_context(authority) if address.secure else None
    except (ValueError, ssl.SSLError, OSError) as error:
        raise CannotStart(f"--server or --certificate-authority cannot be used: {error}") from error
    return SocketTransport(address.host, address.port, tls)

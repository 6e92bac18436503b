"""`tiphys dashboard`: the dashboard on this machine, acting as the user of a kubeconfig.

It listens on loopback only, and lets in who knows the code that it shows here: other users of the machine reach the
port, but not the cluster. The code is typed in, as what stands in a URL stays in histories and logs.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from tiphys.addons.dashboard.handler import Door
from tiphys.addons.dashboard.server import DashboardConfig, run
from tiphys.addons.dashboard.sessions import Identity
from tiphys.cli.console import fail
from tiphys.cli.options import parser
from tiphys.client.kubeconfig import KubeconfigError, transport_from_file
from tiphys.cluster import kubeconfig
from tiphys.cluster.settings import Settings
from tiphys.runtime import component, logs
from tiphys.runtime.clock import SystemClock

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_LETTERS = 24
"""Of 31 each: 118 bits."""


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C; returns the exit status."""
    options = parser("dashboard", "Open the dashboard on this machine, as the user of a kubeconfig.")
    options.add_argument("--kubeconfig", type=Path, help="whom to act as (default: `tiphys up`'s, or $KUBECONFIG)")
    options.add_argument("--port", type=_port, default=8001, help="port on loopback, 0 for any (default 8001)")
    options.add_argument("--no-browser", action="store_true", help="open no browser; show where to go")
    arguments = options.parse_args(argv)
    logs.configure(0)
    try:
        component.run(lambda: _serve(arguments))
    except component.CannotStart as error:
        fail(error)
    return 0


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; use 0 to 65535")
    return port


async def _serve(arguments: argparse.Namespace) -> None:
    path = _kubeconfig(arguments)
    transport, token = transport_from_file(path)
    anonymous, _ = transport_from_file(path, anonymous=True)
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    door = Door(anonymous, Identity(transport, token), code)

    def ready(port: int) -> None:
        url = f"http://127.0.0.1:{port}/"
        print(f"Dashboard: {url}\n  code to log in: {code}\n  acts as the user of {path}; Ctrl-C ends it", flush=True)
        if not arguments.no_browser and _has_browser():
            webbrowser.open(url)

    try:
        await run(DashboardConfig("127.0.0.1", arguments.port), door, SystemClock(), ready)
    finally:
        await transport.close()
        await anonymous.close()


def _kubeconfig(arguments: argparse.Namespace) -> Path:
    if arguments.kubeconfig is not None:
        return Path(arguments.kubeconfig)
    ours = Settings.load(arguments.data_dir.absolute())
    path = ours.kubeconfig("admin") if ours is not None else kubeconfig.user_file()
    if not path.exists():
        raise KubeconfigError(f"there is no cluster in {arguments.data_dir} and no {path}; give --kubeconfig")
    return path


def _has_browser() -> bool:
    return sys.stdout.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

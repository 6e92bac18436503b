"""What the processes of `tiphys up` have in common."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready
from tiphys.controlkit.serving.settings import Delegation, PortSettings
from tiphys.runtime import component as running
from tiphys.runtime import logs
from tiphys.wire.reserving import reserve

log = logging.getLogger(__name__)

Main = Callable[[Settings, Ready], Coroutine[Any, Any, None]]


def component(
    name: str,
    settings: Settings,
    main: Main,
    needs: tuple[str, ...] = (),
    *,
    before_start: Callable[[], None] | None = None,
) -> Program:
    """A process whose main coroutine runs until SIGTERM or SIGINT cancels it."""

    def run(ready: Ready) -> None:
        logs.configure(settings.verbosity)
        try:
            running.run(lambda: main(settings, ready))
        except running.CannotStart as error:
            raise SystemExit(str(error)) from error

    return Program(name, run, needs, before_start=before_start)


def loopback_port(settings: Settings, name: str, port: int, kubeconfig: Path) -> PortSettings | None:
    """A component's port on loopback; None if another cluster on this machine has it."""
    try:
        reserve("127.0.0.1", port).close()
    except OSError as error:
        log.warning("port %d of loopback, for the metrics of %s, is taken: %s", port, name, error.strerror)
        return None
    delegation = Delegation(authentication=kubeconfig, authorization=kubeconfig, tolerate_lookup_failure=True)
    pair = settings.pki / "loopback.crt", settings.pki / "loopback.key"
    return PortSettings("127.0.0.1", port, name, pair, delegation=delegation)


def accepts_connections(path: Path) -> bool:
    """Whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

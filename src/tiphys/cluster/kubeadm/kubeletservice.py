"""The kubelet as a service of the node: systemd's where there is a unit, and otherwise a daemon of our own.

Both run it with the flags of kubeadm's drop-in. The daemon keeps it running under a supervisor, whose lock says that it
lives. Source: https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubelet-integration/
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tiphys import KUBERNETES_VERSION
from tiphys.cluster import lifecycle
from tiphys.cluster.containerd import systemd_is_init
from tiphys.cluster.kubeadm import layout
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.settings import Settings
from tiphys.cluster.supervisor import Program, Ready, Supervisor
from tiphys.runtime import logs

ENVIRONMENT = "KUBELET_KUBEADM_ARGS"
EXTRA_FILE, EXTRA = "/etc/default/kubelet", "KUBELET_EXTRA_ARGS"


class KubeletService(Protocol):
    """What keeps the kubelet running."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def version(self) -> str:
        """``v1.36.0`` of the kubelet that runs or will run. Raises ``OSError`` if it cannot be asked."""
        ...

    @property
    def trouble(self) -> str:
        """Where to look if the kubelet does not work."""
        ...


def kubelet_service(places: HostRoot) -> KubeletService:
    """The service of this node."""
    if places.root == Path("/") and systemd_is_init() and _unit_exists():
        return SystemdService()
    return DaemonService(places)


class SystemdService:
    """The unit kubelet.service, which reads the environment file itself."""

    trouble = "'systemctl status kubelet' and 'journalctl -xeu kubelet'"

    def start(self) -> None:
        _systemctl("daemon-reload")
        _systemctl("restart", "kubelet")

    def stop(self) -> None:
        _systemctl("stop", "kubelet")

    def version(self) -> str:
        done = subprocess.run(["kubelet", "--version"], capture_output=True, text=True, check=False)
        return done.stdout.strip().removeprefix("Kubernetes ")


class DaemonService:
    """A supervisor of one program, for machines without systemd."""

    def __init__(self, places: HostRoot) -> None:
        self._places = places
        self._settings = Settings(
            data_dir=places.on_disk("/var/log/tiphys"), run_dir=places.on_disk("/run/tiphys/kubelet")
        )

    @property
    def trouble(self) -> str:
        return f"the log {self._settings.logs / 'kubelet.log'}"

    def start(self) -> None:
        """Start the kubelet with the flags that the files hold now; one that runs is ended first."""
        self.stop()
        try:
            lifecycle.start_daemon(self._settings, self._supervise)
        except lifecycle.AlreadyRunning as error:
            raise KubeadmError("another command is starting the kubelet; wait for it, and run this again") from error

    def stop(self) -> None:
        try:
            lifecycle.stop(self._settings)
        except lifecycle.StillRunning as error:
            raise KubeadmError(f"the kubelet's {error}; end that process, and run this again") from error

    def version(self) -> str:
        return KUBERNETES_VERSION

    def _supervise(self) -> None:
        logs.configure(0)
        program = Program("kubelet", self._kubelet)
        Supervisor([program], self._settings.logs, self._settings.state_file).run()

    def _kubelet(self, ready: Ready) -> None:
        from tiphys.kubelet.command import main

        ready()
        raise SystemExit(main(flags(self._places)))


def flags(places: HostRoot) -> list[str]:
    """The kubelet's command line, as kubeadm's drop-in makes it from the files that are there."""

    def at(path: str) -> str:
        return str(places.on_disk(path))

    return [
        f"--bootstrap-kubeconfig={at(layout.BOOTSTRAP_CONF)}",
        f"--kubeconfig={at(layout.KUBELET_CONF)}",
        f"--config={at(layout.KUBELET_CONFIG)}",
        *environment_flags(places.on_disk(layout.KUBELET_FLAGS), ENVIRONMENT),
        *environment_flags(places.on_disk(EXTRA_FILE), EXTRA),
    ]


def environment_flags(file: Path, variable: str) -> list[str]:
    """The words of a variable in an environment file; none if file or variable is missing."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    values = [line.partition("=")[2] for line in lines if line.partition("=")[0].strip() == variable]
    return [word for value in values for word in shlex.split(" ".join(shlex.split(value)))]


def service_is_active(name: str) -> bool:
    """Whether a service of systemd's runs."""
    if not systemd_is_init():
        return False
    return subprocess.run(["systemctl", "is-active", "--quiet", name], check=False).returncode == 0


def _unit_exists() -> bool:
    done = subprocess.run(["systemctl", "cat", "kubelet.service"], capture_output=True, check=False)
    return done.returncode == 0


def _systemctl(*words: str, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> None:
    done = run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KubeadmError(f"`systemctl {' '.join(words)}` failed: {done.stderr.strip()}")

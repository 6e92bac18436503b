"""Where a node keeps its files: kubeadm's paths, below a root that tests and images may move.

What files say is always the path that the node's components see; only where a file is written is below the root.
Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "/etc/kubernetes"
MANIFESTS = f"{KUBERNETES}/manifests"
TEMPORARY = f"{KUBERNETES}/tmp"
PKI = f"{KUBERNETES}/pki"
KUBELET = "/var/lib/kubelet"
ETCD_DATA = "/var/lib/etcd"

ADMIN = f"{KUBERNETES}/admin.conf"
SUPER_ADMIN = f"{KUBERNETES}/super-admin.conf"
KUBELET_CONF = f"{KUBERNETES}/kubelet.conf"
BOOTSTRAP_CONF = f"{KUBERNETES}/bootstrap-kubelet.conf"
CONTROLLER_MANAGER_CONF = f"{KUBERNETES}/controller-manager.conf"
SCHEDULER_CONF = f"{KUBERNETES}/scheduler.conf"
VIRTUAL_ADDRESS_CONF = f"{KUBERNETES}/virtual-address.conf"

KUBELET_CONFIG = f"{KUBELET}/config.yaml"
KUBELET_INSTANCE = f"{KUBELET}/instance-config.yaml"
KUBELET_FLAGS = f"{KUBELET}/kubeadm-flags.env"

PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class HostRoot:
    """The root below which the node's files are: ``/``, or a folder that stands for it."""

    root: Path = Path("/")

    def on_disk(self, path: str | Path) -> Path:
        """Where the file is that a component sees at ``path``."""
        return self.root / str(path).lstrip("/")

    def manifest(self, component: str) -> Path:
        return self.on_disk(f"{MANIFESTS}/{component}.yaml")


def write_file(path: Path, data: bytes, mode: int = PRIVATE, *, folder_mode: int = 0o755) -> None:
    """Replace a file's content at once and durably, with exactly this mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=folder_mode)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)


def rewrite_file(path: Path, data: bytes) -> None:
    """Change the content of the very file that is there, durably: a container that has it mounted sees no other one.

    It is one write over the old content; a reader may see half of it, and reads it again.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(data)
        file.truncate(len(data))
        os.fsync(descriptor)

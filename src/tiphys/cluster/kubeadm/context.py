"""What the phases of init and of a control plane's join share: the configuration, the files, and how far to go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tiphys.cluster.kubeadm import layout
from tiphys.cluster.kubeadm.certificates import disk
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.layout import HostRoot

Say = Callable[[str], None]


def print_now(text: str) -> None:
    print(text, flush=True)


@dataclass(slots=True)
class Installation:
    """One run of init. ``places`` is where files are written: of a dry run, a folder of its own below ``tmp``."""

    configuration: Configuration
    places: HostRoot = field(default_factory=HostRoot)
    dry_run: bool = False
    ignored: frozenset[str] = frozenset()
    """Names of checks that only warn, in lower case; ``all`` for each."""
    upload_certs: bool = False
    show_certificate_key: bool = True
    show_token: bool = True
    kubeconfig: str = layout.ADMIN
    kubeconfig_dir: str = layout.KUBERNETES
    say: Say = print_now
    warn: Say = print_now
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    virtual_address: bool = False
    """Whether the control planes themselves hold the address of the endpoint."""
    secondary: bool = False
    """Whether other control planes are there already."""

    @property
    def pki(self) -> Path:
        return self.places.on_disk(self.configuration.certificates)

    @property
    def external_ca(self) -> bool:
        return disk.is_external(self.pki, "ca")

    @property
    def kubeconfigs(self) -> Path:
        return self.places.on_disk(self.kubeconfig_dir)

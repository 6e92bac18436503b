"""What devices add to a container beside its spec: variables, mounts, device files, annotations, CDI devices. Pure.

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tiphys.kubelet.container.runtime_config import DevicePoint, MountPoint

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(slots=True)
class ContainerExtras:
    environment: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, MountPoint] = field(default_factory=dict)
    """By the path in the container."""
    devices: dict[str, DevicePoint] = field(default_factory=dict)
    """By the path in the container."""
    annotations: dict[str, str] = field(default_factory=dict)
    cdi: list[str] = field(default_factory=list)
    """Fully qualified names of CDI devices, each once."""

    def add(self, more: ContainerExtras) -> None:
        """Take in what another device wants. What is there already stays, as a container has one of each."""
        _fill(self.environment, more.environment, "environment variable")
        _fill(self.mounts, more.mounts, "mount")
        _fill(self.devices, more.devices, "device")
        _fill(self.annotations, more.annotations, "annotation")
        self.add_cdi(more.cdi)

    def add_cdi(self, names: Iterable[str]) -> None:
        known = set(self.cdi)
        for name in names:
            if name not in known:
                known.add(name)
                self.cdi.append(name)


def _fill(into: dict[str, _T], more: dict[str, _T], what: str) -> None:
    for key, value in more.items():
        if into.setdefault(key, value) != value:
            log.error("two devices want another %s %s: %s and %s", what, key, into[key], value)

"""The SELinux label of a volume that one pod alone has: it is mounted with it, so that no file has to be labelled.

Only where the kernel has SELinux, the driver says ``seLinuxMount``, and the volume is ReadWriteOncePod; elsewhere the
runtime labels files, or there are no labels. Source: KEP-1710,
https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#efficient-selinux-volume-relabeling
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tiphys.api.object import Object
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.volumes.failures import MountFailure


def machine_label(root: Path = Path("/")) -> str:
    """What files of containers have where nothing else is said; empty if the kernel has no SELinux."""
    if not (root / "sys/fs/selinux/enforce").exists():
        return ""
    try:
        chosen = _value(root / "etc/selinux/config", "SELINUXTYPE")
        return _value(root / "etc/selinux" / chosen / "contexts/lxc_contexts", "file").strip('"')
    except OSError:
        return ""


def _value(path: Path, name: str) -> str:
    """Of the lines ``name = value``. Raises ``OSError``."""
    for line in path.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            return value.strip()
    return ""


def label_of(pod: Pod, name: str, machine: str) -> str:
    """The label that all containers want that mount a volume; empty if the runtime is to label its files.

    ``name`` is the pod's for the volume. Raises ``MountFailure``.
    """
    own = pods.spec_of(pod).get("securityContext") or {}
    if not machine or own.get("seLinuxChangePolicy") == "Recursive":
        return ""
    contexts = ((user.get("securityContext") or {}).get("seLinuxOptions") for user in _users(pod, name))
    options = [chosen for each in contexts if (chosen := each or own.get("seLinuxOptions"))]
    wanted = sorted({_label(each, machine) for each in options})
    if len(wanted) > 1:
        raise MountFailure(f"multiple SELinux labels found: {','.join(wanted)}")
    return wanted[0] if wanted else ""


def _users(pod: Pod, name: str) -> Iterator[ContainerSpec]:
    for _, container in pods.all_containers(pod):
        if any(mount["name"] == name for mount in container.get("volumeMounts") or ()):
            yield container


def _label(options: Object, machine: str) -> str:
    """Role and type are of the process alone. Without a level the runtime chooses one, and nobody else knows it."""
    if not options.get("level"):
        return ""
    user, role, kind, _ = machine.split(":", 3)
    return ":".join((options.get("user") or user, role, kind, options["level"]))

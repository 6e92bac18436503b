"""What the cgroups of pods are called: as paths, and as systemd's slices. Pure.

A name is its parts from the top of the hierarchy: ``("kubepods", "burstable", "pod<uid>")``. Source:
https://kubernetes.io/docs/setup/production-environment/container-runtimes/#cgroup-drivers and systemd.slice(5).
"""

from __future__ import annotations

from tiphys.api.pods.qos import BEST_EFFORT, BURSTABLE, qos_of
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod

Name = tuple[str, ...]

BURSTABLE_CLASS, BEST_EFFORT_CLASS = "burstable", "besteffort"
_CLASSES = {BURSTABLE: (BURSTABLE_CLASS,), BEST_EFFORT: (BEST_EFFORT_CLASS,)}
_SLICE = ".slice"


def of_all_pods(root: str) -> Name:
    """``root`` is the kubelet's ``cgroupRoot``: a path, empty for the top."""
    return (*(part for part in root.split("/") if part), "kubepods")


def of_pod(top: Name, pod: Pod) -> Name:
    return (*top, *_CLASSES.get(qos_of(pod), ()), f"pod{pods.uid_of(pod)}")


def of_uid(top: Name, uid: str) -> list[Name]:
    """Those that a pod may have of whose quality of service nothing is known."""
    return [(*top, *middle, f"pod{uid}") for middle in ((), *_CLASSES.values())]


def parse(text: str, *, slices: bool) -> Name:
    """The name of a cgroup as an operator writes it: a path or, with ``slices``, systemd's unit or its path."""
    if not slices:
        return tuple(part for part in text.split("/") if part)
    unit = text.rstrip("/").rpartition("/")[2].removesuffix(_SLICE)
    return tuple(part.replace("_", "-") for part in unit.split("-"))


def path_of(name: Name) -> str:
    return "/" + "/".join(name)


def slice_of(name: Name) -> str:
    """systemd's unit. A dash in it separates the names of slices, so those in a part become underscores."""
    return "-".join(part.replace("-", "_") for part in name) + _SLICE


def place(parent: str, container_id: str = "") -> str:
    """Where a pod's cgroup, or that of a container in it, lies below the top; empty if pods have none of their own.

    systemd keeps a slice below those that its name begins with, and containerd a container in a scope of its own.
    """
    if not parent:
        return ""
    if not parent.endswith(_SLICE):
        return "/".join(part for part in (parent.strip("/"), container_id) if part)
    names = parent.removesuffix(_SLICE).split("-")
    slices = [f"{'-'.join(names[:count])}{_SLICE}" for count in range(1, len(names) + 1)]
    return "/".join([*slices, f"cri-containerd-{container_id}.scope"] if container_id else slices)

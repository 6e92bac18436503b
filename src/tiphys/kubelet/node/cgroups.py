"""Cgroups of pods: made before their containers, with the pod's limits, and removed after them.

Version 2 has one hierarchy, version 1 one for each controller. With the systemd driver the slices are made by systemd
when the runtime asks for them, and nothing is done here. Source: the kernel's cgroup-v1 and cgroup-v2 documents.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tiphys.api.pods import resources as pod_resources
from tiphys.api.pods.qos import BEST_EFFORT, qos_of
from tiphys.api.pods.resources import whole
from tiphys.kubelet.container.resources import QUOTA_PERIOD, quota, shares
from tiphys.kubelet.pod.pods import Pod

_V1_CONTROLLERS = ("cpu", "memory", "pids")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


class Cgroups:
    """``parent`` names given here are paths from the top of the hierarchy, such as ``/kubepods/burstable/pod1``.

    ``pod_pids`` is how many processes a pod may have, if any number above 0.
    """

    def __init__(self, mount: Path = Path("/sys/fs/cgroup"), *, pod_pids: int = -1) -> None:
        self._pod_pids = pod_pids
        self._mount = mount
        self.unified = (mount / "cgroup.controllers").exists()
        """Whether there is one hierarchy: version 2."""

    def ensure(self, parent: str, pod: Pod, *, quota: bool = True) -> None:
        """Make a pod's cgroup with the pod's limits, that of processor time only with ``quota``. Raises ``OSError``."""
        if not parent or parent.endswith(".slice"):
            return
        limits = pod_limits(pod) | {"pids": max(0, self._pod_pids)}
        self._write(parent, limits | ({} if quota else {"quota": 0}))

    def _write(self, parent: str, limits: dict[str, int]) -> None:
        for folder, controllers in self._folders(parent):
            self._make(folder, controllers)
            for name, text in (self._v2_values(limits) if self.unified else self._v1_values(limits)).items():
                file = folder / name
                if file.exists() and file.read_text().strip() != text:
                    with contextlib.suppress(OSError):  # a limit below what is in use now is refused by the kernel
                        file.write_text(text)

    def limit_all(self, top: str, milli_cpu: int, memory: int) -> None:
        """Make the cgroup of all pods, with what the node gives them together. Raises ``OSError``."""
        self._write(top, {"shares": shares(milli_cpu), "quota": 0, "memory": memory})

    def _folders(self, parent: str) -> list[tuple[Path, tuple[str, ...]]]:
        inside = parent.strip("/")
        if self.unified:
            return [(self._mount / inside, _V2_CONTROLLERS)]
        return [(self._mount / c / inside, ()) for c in _V1_CONTROLLERS if (self._mount / c).is_dir()]

    def _make(self, folder: Path, controllers: tuple[str, ...]) -> None:
        if folder.is_dir():
            return
        if folder.parent != self._mount:
            self._make(folder.parent, controllers)
        if controllers:
            available = (folder.parent / "cgroup.controllers").read_text().split()
            enabled = (folder.parent / "cgroup.subtree_control").read_text().split()
            for controller in controllers:
                if controller in available and controller not in enabled:
                    with contextlib.suppress(OSError):
                        (folder.parent / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir(exist_ok=True)

    def _v1_values(self, limits: dict[str, int]) -> dict[str, str]:
        values = {"cpu.shares": str(limits["shares"])}
        if limits["quota"]:
            values |= {"cpu.cfs_period_us": str(QUOTA_PERIOD), "cpu.cfs_quota_us": str(limits["quota"])}
        if limits["memory"]:
            values["memory.limit_in_bytes"] = str(limits["memory"])
        if limits.get("pids"):
            values["pids.max"] = str(limits["pids"])
        return values

    def _v2_values(self, limits: dict[str, int]) -> dict[str, str]:
        weight = 1 + (limits["shares"] - 2) * 9999 // 262142
        values = {"cpu.weight": str(weight)}
        if limits["quota"]:
            values["cpu.max"] = f"{limits['quota']} {QUOTA_PERIOD}"
        if limits["memory"]:
            values["memory.max"] = str(limits["memory"])
        if limits.get("pids"):
            values["pids.max"] = str(limits["pids"])
        return values

    def remove(self, parent: str) -> None:
        """End what is left in a pod's cgroup, and remove it. Raises ``OSError`` until all of it has ended.

        Something is left when the runtime was killed while it made a container: a process that nobody knows of.
        """
        if not parent or parent.endswith(".slice"):
            return
        tops = [self._mount] if self.unified else [entry for entry in self._mount.iterdir() if entry.is_dir()]
        for top in tops:
            folder = top / parent.strip("/")
            if folder.is_dir():
                for inner in sorted((p for p in (folder, *folder.rglob("*")) if p.is_dir()), reverse=True):
                    _kill_processes(inner)
                    inner.rmdir()

    def remove_pod(self, top: str, uid: str) -> None:
        """Remove a pod's cgroup below that of all pods, whatever its quality of service was. Raises ``OSError``."""
        for middle in ("", "burstable/", "besteffort/"):
            self.remove(f"{top}/{middle}pod{uid}")


def place(parent: str, container_id: str = "") -> str:
    """Where a pod's cgroup, or that of a container in it, lies below the top; empty if pods have none of their own.

    systemd keeps a slice below those that its name begins with, and containerd a container in a scope of its own.
    """
    if not parent:
        return ""
    if not parent.endswith(".slice"):
        return "/".join(part for part in (parent.strip("/"), container_id) if part)
    names = parent.removesuffix(".slice").split("-")
    slices = [f"{'-'.join(names[:count])}.slice" for count in range(1, len(names) + 1)]
    return "/".join([*slices, f"cri-containerd-{container_id}.scope"] if container_id else slices)


def _kill_processes(cgroup: Path) -> None:
    inside = cgroup / "cgroup.procs"
    for pid in inside.read_text().split() if inside.exists() else ():
        if int(pid):  # 0 stands for processes of another process namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def pod_limits(pod: Pod) -> dict[str, int]:
    """shares, quota and memory of the whole pod; a limit of 0 is none, as when any container has none."""
    requests = whole(pod_resources.pod_requests(pod))
    result = {"shares": shares(requests.get("cpu", 0)), "quota": 0, "memory": 0}
    if qos_of(pod) == BEST_EFFORT:
        return result | {"shares": 2}
    each: list[pod_resources.Amounts] = []
    limits = whole(pod_resources.pod_limits(pod, each=each.append))
    pod_level = pod_resources.amounts((pod["spec"].get("resources") or {}).get("limits"))
    for key, name in (("quota", "cpu"), ("memory", "memory")):
        if pod_level.get(name) or all(container.get(name) for container in each):
            result[key] = quota(limits.get(name, 0)) if key == "quota" else limits.get(name, 0)
    return result

"""Containers that the kernel ended for their memory, though the runtime does not know.

A runtime hears of that from the container's cgroup. With version 2 of cgroups and systemd's driver that is removed as
soon as its last process has ended, often before the runtime has read it: the container has ended with ``Error`` then,
for good. The pod's own cgroup is still there, and counts what was killed in it and below. Source: the kernel's
cgroup-v2 document, on ``memory.events``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiphys.kubelet.cgroups.files import CGROUPS
from tiphys.kubelet.pod.observed import ObservedContainer
from tiphys.kubelet.runtime.service import ContainerState

OUT_OF_MEMORY = "OOMKilled"
_UNEXPLAINED = "Error"
_KILLED = 137


def count_kills(path: str, mount: Path = CGROUPS) -> int | None:
    """How many processes were ever killed for memory in a cgroup and below it; None if it is gone, or of version 1."""
    try:
        lines = (mount / path.strip("/") / "memory.events").read_text().splitlines()
    except OSError:
        return None
    return int(dict(line.split() for line in lines).get("oom_kill", 0))


@dataclass(slots=True)
class _Account:
    kills: int = 0
    """How many of the pod's kills are explained by containers that have ended."""
    judged: set[str] = field(default_factory=set)
    killed: set[str] = field(default_factory=set)


class MemoryKills:
    """``count(uid)`` gives how many processes of a pod were ever killed for memory, None if nobody counts.

    A container is judged once, when it is first seen to have ended. Of those that end at the same time the kernel's
    count does not say which it was: those that the runtime knows of come first.
    """

    def __init__(self, count: Callable[[str], int | None]) -> None:
        self._count = count
        self._accounts: dict[str, _Account] = {}

    def explain(self, uid: str, containers: Sequence[ObservedContainer]) -> list[ObservedContainer]:
        """The containers of a pod, with the reason of those that were killed for memory."""
        account = self._accounts.setdefault(uid, _Account())
        ended = [c for c in containers if c.state is ContainerState.EXITED and c.id not in account.judged]
        suspects = [c for c in ended if c.reason == OUT_OF_MEMORY or _is_unexplained(c)]
        if suspects and (kills := self._count(uid)) is not None:
            known = sum(c.reason == OUT_OF_MEMORY for c in suspects)
            left = max(0, kills - account.kills - known)
            unexplained = sorted(filter(_is_unexplained, suspects), key=lambda c: c.finished_at)
            account.killed |= {container.id for container in unexplained[:left]}
            account.kills = kills
        account.judged |= {container.id for container in ended}
        return [replace(c, reason=OUT_OF_MEMORY) if c.id in account.killed else c for c in containers]

    def forget(self, uid: str) -> None:
        self._accounts.pop(uid, None)


def _is_unexplained(container: ObservedContainer) -> bool:
    return container.reason == _UNEXPLAINED and container.exit_code == _KILLED

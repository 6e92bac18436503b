"""The CPU manager's static policy: guaranteed containers that ask for whole processors have them for themselves.

All other containers share what is left, which changes as such containers come and go. Who has what is in
``cpu_manager_state``, in upstream's form. Source:
https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tiphys.api.pods.qos import GUARANTEED, qos_of
from tiphys.api.pods.resources import has_pod_level
from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt, spewed_map, spewed_struct
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import milli
from tiphys.kubelet.topology.cpu_choice import NotEnoughCpus, choose
from tiphys.kubelet.topology.cpu_distribution import distribute
from tiphys.kubelet.topology.cpu_options import CpuOption, CpuOptions
from tiphys.kubelet.topology.cpusets import NONE, Cpus, CpuTopology, parse, text_of
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import Hint, Hints, Nodes, made_of
from tiphys.kubelet.topology.needs import is_over, over_before, pod_needs

log = logging.getLogger(__name__)

CHECKPOINT = "cpu_manager_state"
_POLICY = "static"


class CpuStateUnfit(Exception):
    """What an earlier kubelet has recorded does not fit how this one is to work; the message says the remedy."""


Assignments = dict[str, dict[str, Cpus]]
"""By the pod's uid and container."""


class CpuManager:
    """``root`` is the kubelet's folder; ``reserved`` the processors that no container gets for itself.

    Raises ``CpuStateUnfit``, ``OSError``.
    """

    def __init__(self, root: Path, topology: CpuTopology, reserved: Cpus, options: CpuOptions = frozenset()) -> None:
        self._path = root / CHECKPOINT
        self._topology = topology
        self._reserved = reserved
        self._options = options
        self._initial = topology.all - (reserved if CpuOption.STRICT in options else NONE)
        self._assigned: Assignments = {}
        self._reusable: dict[str, Cpus] = {}
        self._restore()

    @property
    def shared(self) -> Cpus:
        """The processors of all containers that have none for themselves."""
        return self._initial - frozenset(
            cpu for of_pod in self._assigned.values() for c in of_pod.values() for cpu in c
        )

    @property
    def allocatable(self) -> Cpus:
        """The processors that containers can have for themselves."""
        return self._topology.all - self._reserved

    def cpus_of(self, uid: str, container: str) -> Cpus:
        """What a container may run on."""
        return self.exclusive(uid, container) or self.shared

    def exclusive(self, uid: str, container: str) -> Cpus:
        return self._assigned.get(uid, {}).get(container, NONE)

    def wanted(self, pod: Pod, container: ContainerSpec) -> int:
        """How many processors a container is to have for itself."""
        if qos_of(pod) != GUARANTEED or has_pod_level(pods.spec_of(pod)):
            return 0
        asked = milli(((container.get("resources") or {}).get("requests") or {}).get("cpu"))
        return asked // 1000 if asked % 1000 == 0 else 0

    def hints(self, pod: Pod, container: ContainerSpec) -> Hints:
        """Where the processors can be that a container asks for."""
        uid, wanted = pods.uid_of(pod), self.wanted(pod, container)
        if not wanted:
            return {}
        own = self.exclusive(uid, container["name"])
        if own and len(own) != wanted:
            return {"cpu": []}
        free, reusable = (own, own) if own else (self._free(), self._reusable.get(uid, NONE))
        return {"cpu": self._hints(free, reusable, wanted)}

    def _hints(self, free: Cpus, reusable: Cpus, wanted: int) -> list[Hint]:
        def has(nodes: Nodes) -> int:
            if self._topology.in_nodes(nodes, reusable) != reusable:
                return -1
            return len(self._topology.in_nodes(nodes, free | reusable))

        everything = self._topology
        also = self._is_by_socket if CpuOption.BY_SOCKET in self._options else _never
        return made_of(everything.nodes, lambda nodes: len(everything.in_nodes(nodes)), has, wanted, also)

    def _is_by_socket(self, nodes: Nodes, least: int) -> bool:
        """Whether a set of nodes spans as few sockets as the request needs."""
        nodes_per_socket = len(self._topology.nodes) // len(self._topology.sockets)
        return nodes_per_socket > 0 and len(self._topology.sockets_of(nodes)) == -(-least // nodes_per_socket)

    def pod_hints(self, pod: Pod) -> Hints:
        """Where the processors can be that all containers of a pod ask for together."""
        wanted = pod_needs(pod, lambda container: {"cpu": self.wanted(pod, container)}).get("cpu", 0)
        if not wanted:
            return {}
        own = NONE
        for container in (*pods.init_containers(pod), *pods.containers(pod)):
            if given := self.exclusive(pods.uid_of(pod), container["name"]):
                if len(given) != self.wanted(pod, container):
                    return {"cpu": []}
                own |= given
        if len(own) == wanted:
            return {"cpu": self._hints(own, NONE, wanted)}
        reusable = self._reusable.get(pods.uid_of(pod), NONE) | own
        return {"cpu": self._hints(self._free(), reusable, wanted)}

    def allocate(self, pod: Pod, container: ContainerSpec, affinity: Nodes | None) -> None:
        """Raises ``AssignmentFailure``."""
        uid, name, wanted = pods.uid_of(pod), container["name"], self.wanted(pod, container)
        if not wanted or is_over(pod, container, self._assigned.get(uid, {})):
            return
        if not self.exclusive(uid, name):
            self._check_cores(wanted)
            cpus = self._chosen(wanted, affinity, self._reusable.get(uid, NONE))
            self._assigned.setdefault(uid, {})[name] = cpus
            self._write()
        self._pass_on(pod, container)

    def _check_cores(self, wanted: int) -> None:
        per_core = self._topology.per_core
        if CpuOption.FULL_CORES not in self._options:
            return
        if wanted % per_core:
            message = f"SMT Alignment Error: requested {wanted} cpus not multiple cpus per core = {per_core}"
            raise AssignmentFailure(message, "SMTAlignmentError")
        free = len(self.shared - self._topology.siblings(self._reserved))
        if wanted > free:
            message = (
                f"SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, "
                f"requested CPUs = {wanted}, CPUs per core = {per_core}"
            )
            raise AssignmentFailure(message, "SMTAlignmentError")

    def _free(self) -> Cpus:
        return self.shared - self._reserved

    def _chosen(self, wanted: int, affinity: Nodes | None, reusable: Cpus) -> Cpus:
        """Of the nodes of the affinity as many as there are, the rest from anywhere."""
        available, near = self._free() | reusable, NONE
        try:
            if affinity is not None:
                aligned = self._aligned(affinity, available)
                near = self._take(aligned, min(wanted, len(aligned)))
            return near | self._take(available - near, wanted - len(near))
        except NotEnoughCpus as error:
            raise AssignmentFailure(str(error)) from error

    def _aligned(self, affinity: Nodes, available: Cpus) -> Cpus:
        if CpuOption.BY_SOCKET in self._options:
            return self._topology.in_sockets(self._topology.sockets_of(affinity), available)
        return self._topology.in_nodes(affinity, available)

    def _take(self, available: Cpus, wanted: int) -> Cpus:
        """Raises ``NotEnoughCpus``."""
        options, spread = self._options, CpuOption.ACROSS_CORES in self._options
        if CpuOption.ACROSS_NODES in options:
            group = self._topology.per_core if CpuOption.FULL_CORES in options else 1
            return distribute(self._topology, available, wanted, group, spread=spread)
        return choose(self._topology, available, wanted, spread=spread, by_cache=CpuOption.BY_CACHE in options)

    def _pass_on(self, pod: Pod, container: ContainerSpec) -> None:
        """Containers of a pod that come after an init container may have what it had."""
        uid, name = pods.uid_of(pod), container["name"]
        before, own = self._reusable.get(uid, NONE), self.exclusive(uid, name)
        initial = any(c["name"] == name and not pods.is_sidecar(c) for c in pods.init_containers(pod))
        self._reusable[uid] = before | own if initial else before - own

    def starts(self, pod: Pod, container: ContainerSpec) -> bool:
        """A container is made: init containers before it have ended, and their processors are free, but for those that
        it has as well. Returns whether there are such."""
        of_pod = self._assigned.get(pods.uid_of(pod), {})
        over = [name for name in over_before(pod, container) if name in of_pod]
        for name in over:
            del of_pod[name]
        if over:
            self._write()
        return bool(over)

    def keep_only(self, active: Collection[str]) -> bool:
        """Processors of all other pods are free; returns whether there were such pods."""
        for uid in [uid for uid in self._reusable if uid not in active]:
            del self._reusable[uid]
        gone = [uid for uid in self._assigned if uid not in active]
        for uid in gone:
            del self._assigned[uid]
        if gone:
            self._write()
        return bool(gone)

    def holders(self) -> set[str]:
        """Uids of the pods that have processors for themselves."""
        return set(self._assigned)

    # The record.

    def _write(self) -> None:
        try:
            checkpoints.write(self._path, to_checkpoint(self.shared, self._assigned))
        except OSError as error:
            log.error("cannot write down which processors pods have: %s", error)

    def _restore(self) -> None:
        remedy = (
            f"drain this node and delete the CPU manager checkpoint file {self._path} before restarting the kubelet"
        )
        try:
            document = checkpoints.read(self._path)
            if document is not None:
                shared, self._assigned = from_checkpoint(document)
        except CheckpointCorrupt as error:
            raise CpuStateUnfit(f"could not restore state from checkpoint: {error}, please {remedy}") from error
        if document is None:
            self._write()
        elif shared != self.shared or not self._initial >= shared:
            what = f"the machine's processors are {text_of(self._initial)}, and the record knows others"
            raise CpuStateUnfit(f"{what}; please {remedy}")


def _never(nodes: Nodes, least: int) -> bool:
    return False


def to_checkpoint(shared: Cpus, assigned: Assignments) -> dict[str, Any]:
    """The document to write."""
    document: dict[str, Any] = {"policyName": _POLICY, "defaultCpuSet": text_of(shared)}
    entries = {uid: {name: text_of(cpus) for name, cpus in sorted(c.items())} for uid, c in sorted(assigned.items())}
    if entries:
        document["entries"] = entries
    return {**document, "checksum": checksum(_POLICY, text_of(shared), entries)}


def checksum(policy: str, shared: str, entries: Mapping[str, Mapping[str, str]]) -> int:
    """As upstream counts it."""
    return checkpoints.checksum(
        "(*state.CPUManagerCheckpoint)"
        + spewed_struct(
            {
                "PolicyName": f"(string){policy}",
                "DefaultCPUSet": f"(string){shared}",
                "Entries": "(map[string]map[string]string)" + spewed_map(entries, spewed_map),
                "Checksum": "(checksum.Checksum)0",
            }
        )
    )


def from_checkpoint(document: Any) -> tuple[Cpus, Assignments]:
    """What is shared, and what containers have. Raises ``CheckpointCorrupt``."""
    try:
        policy, shared, entries = document["policyName"], document["defaultCpuSet"], document.get("entries") or {}
        if checksum(policy, shared, entries) != document["checksum"]:
            raise CheckpointCorrupt("checkpoint is corrupted")
        if policy != _POLICY:
            raise CheckpointCorrupt(f'configured policy "{_POLICY}" differs from state checkpoint policy "{policy}"')
        assigned = {uid: {name: parse(text) for name, text in of_pod.items()} for uid, of_pod in entries.items()}
        return parse(shared), assigned
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointCorrupt(f"the checkpoint has another form: {error!r}") from error

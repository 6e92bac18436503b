"""The memory manager's static policy: guaranteed containers have their memory on as few NUMA nodes as can be.

Who has what is in ``memory_manager_state``, in upstream's form. Source:
https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/ (KEP-1769)
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tiphys.api.pods.qos import GUARANTEED, qos_of
from tiphys.api.pods.resources import has_pod_level
from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import value
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import Hint, Hints, Nodes
from tiphys.kubelet.topology.memory_record import Assignments, from_checkpoint, to_checkpoint
from tiphys.kubelet.topology.memory_state import MEMORY, Block, MemoryState, NoMemory, Request, initial, same
from tiphys.kubelet.topology.needs import is_over, over_before, pod_needs
from tiphys.kubelet.topology.numa import Numa

log = logging.getLogger(__name__)

CHECKPOINT = "memory_manager_state"


class MemoryStateUnfit(Exception):
    """What an earlier kubelet has recorded does not fit how this one is to work; the message says the remedy."""


class MemoryManager:
    """``root`` is the kubelet's folder; ``system`` what each node keeps for the system, in bytes by resource.

    Raises ``MemoryStateUnfit``, ``OSError``.
    """

    def __init__(self, root: Path, numa: Numa, system: Mapping[int, Request]) -> None:
        self._path = root / CHECKPOINT
        self._empty = initial(numa, system)
        self._state = copy.deepcopy(self._empty)
        self._assigned: Assignments = {}
        self._reusable: dict[str, dict[Nodes, dict[str, int]]] = {}
        """Memory of a pod's init containers, by nodes and resource, that its next containers may have."""
        self._restore()

    @property
    def allocatable(self) -> list[Block]:
        """What containers can have of each node."""
        return [
            Block((number,), resource, table.allocatable)
            for number, node in sorted(self._empty.nodes.items())
            for resource, table in sorted(node.memory.items())
            if table.allocatable
        ]

    def blocks_of(self, uid: str, container: str) -> list[Block]:
        return self._assigned.get(uid, {}).get(container, [])

    def nodes_of(self, uid: str, container: str) -> Nodes:
        """The nodes whose memory a container may use; empty: those of all."""
        return frozenset(number for block in self.blocks_of(uid, container) for number in block.nodes)

    def wanted(self, pod: Pod, container: ContainerSpec) -> Request:
        """The memory and huge pages that a container is to have on nodes of its own choice."""
        if qos_of(pod) != GUARANTEED or has_pod_level(pods.spec_of(pod)):
            return {}
        requests = (container.get("resources") or {}).get("requests") or {}
        return {name: value(size) for name, size in requests.items() if name == MEMORY or name.startswith("hugepages-")}

    def hints(self, pod: Pod, container: ContainerSpec) -> Hints:
        """Where a container's memory can be."""
        uid, wanted = pods.uid_of(pod), self.wanted(pod, container)
        if blocks := self.blocks_of(uid, container["name"]):
            return _again(blocks, wanted)
        return self._anew(wanted, self._reusable.get(uid, {}))

    def pod_hints(self, pod: Pod) -> Hints:
        """Where the memory of all of a pod's containers can be together."""
        running = {name for container in pods.containers(pod) for name in self.wanted(pod, container)}
        needs = pod_needs(pod, lambda container: self.wanted(pod, container))
        wanted = {name: size for name, size in needs.items() if name in running}
        everybody = (*pods.init_containers(pod), *pods.containers(pod))
        given = (self.blocks_of(pods.uid_of(pod), container["name"]) for container in everybody)
        if blocks := next(filter(None, given), None):
            return _again(blocks, wanted)
        return self._anew(wanted, {})

    def _anew(self, wanted: Request, reusable: Mapping[Nodes, Request]) -> Hints:
        """The same hints for each resource; no preference, as upstream's, if it cannot be had: ``allocate`` says so."""
        hints = self._state.hints(wanted, reusable)
        return dict.fromkeys(wanted, hints) if hints else {}

    def allocate(self, pod: Pod, container: ContainerSpec, affinity: Hint) -> None:
        """Raises ``AssignmentFailure``."""
        uid, name, wanted = pods.uid_of(pod), container["name"], self.wanted(pod, container)
        if not wanted or is_over(pod, container, self._assigned.get(uid, {})):
            return
        blocks = self.blocks_of(uid, name)
        if not blocks:
            blocks = self._given(uid, wanted, affinity)
            self._assigned.setdefault(uid, {})[name] = blocks
            self._take_over(pod, name, blocks)
            self._write()
        self._pass_on(pod, name, blocks)

    def _given(self, uid: str, wanted: Request, affinity: Hint) -> list[Block]:
        reusable = self._reusable.get(uid, {})
        try:
            nodes = self._state.chosen(wanted, affinity, reusable)
        except NoMemory as error:
            raise AssignmentFailure(f"[memorymanager] {error}") from error
        blocks = [Block(tuple(sorted(nodes)), resource, size) for resource, size in sorted(wanted.items())]
        self._state.give(blocks, reusable.get(nodes))
        return blocks

    def _pass_on(self, pod: Pod, name: str, blocks: Iterable[Block]) -> None:
        """Containers of a pod that come after an init container may have what it had."""
        uid = pods.uid_of(pod)
        is_initial = name in _plain_init_names(pod)
        for block in blocks:
            left = self._reusable.setdefault(uid, {}).setdefault(frozenset(block.nodes), {})
            before = left.get(block.type, 0)
            left[block.type] = max(before, block.size) if is_initial else max(0, before - block.size)

    def _take_over(self, pod: Pod, name: str, blocks: Iterable[Block]) -> None:
        """What a container has of an earlier init container's is no longer counted there: the sum is what is given."""
        uid = pods.uid_of(pod)
        earlier = [init for init in _plain_init_names(pod) if init != name]
        initial_names = [container["name"] for container in pods.init_containers(pod)]
        if name in initial_names:
            earlier = [init for init in earlier if initial_names.index(init) < initial_names.index(name)]
        for block in blocks:
            left = block.size
            for init in earlier:
                given = self.blocks_of(uid, init)
                for place, old in enumerate(given):
                    if old.type == block.type and old.nodes == block.nodes:
                        part = min(left, old.size)
                        given[place] = Block(old.nodes, old.type, old.size - part)
                        left -= part

    def starts(self, pod: Pod, container: ContainerSpec) -> None:
        """A container is made: init containers before it have ended, and their memory is free but for what it took."""
        of_pod = self._assigned.get(pods.uid_of(pod), {})
        over = [name for name in over_before(pod, container) if name in of_pod]
        for name in over:
            self._state.take_back(of_pod.pop(name))
        if over:
            self._write()

    def keep_only(self, active: Collection[str]) -> None:
        """Memory of all other pods is free."""
        for uid in [uid for uid in self._reusable if uid not in active]:
            del self._reusable[uid]
        gone = [uid for uid in self._assigned if uid not in active]
        for uid in gone:
            for blocks in self._assigned.pop(uid).values():
                self._state.take_back(blocks)
        if gone:
            self._write()

    def holders(self) -> set[str]:
        """Uids of the pods that have memory on nodes of their own."""
        return set(self._assigned)

    # The record.

    def _write(self) -> None:
        try:
            checkpoints.write(self._path, to_checkpoint(self._state, self._assigned))
        except OSError as error:
            log.error("cannot write down on which nodes pods have memory: %s", error)

    def _restore(self) -> None:
        remedy = f"please drain this node and delete the memory manager checkpoint file {self._path}"
        try:
            document = checkpoints.read(self._path)
            if document is None:
                self._write()
                return
            state, assigned = from_checkpoint(document)
            if state.nodes or assigned:
                if not same(state, self._expected(assigned)):
                    raise CheckpointCorrupt("[memorymanager] the expected machine state is different from the real one")
                self._state, self._assigned = state, assigned
        except CheckpointCorrupt as error:
            message = f"could not restore state from checkpoint: {error}, {remedy} before restarting the kubelet"
            raise MemoryStateUnfit(message) from error

    def _expected(self, assigned: Assignments) -> MemoryState:
        """What is free if containers have this. Raises ``CheckpointCorrupt``."""
        expected = copy.deepcopy(self._empty)
        for uid, containers in assigned.items():
            for name, blocks in containers.items():
                for block in blocks:
                    about = f"[memorymanager] (pod: {uid}, container: {name}) the memory assignment uses"
                    if not set(block.nodes) <= expected.nodes.keys():
                        raise CheckpointCorrupt(f"{about} the NUMA that does not exist")
                    if any(block.type not in expected.nodes[number].memory for number in block.nodes):
                        raise CheckpointCorrupt(f"{about} memory resource that does not exist")
                expected.give(blocks)
        return expected


def _again(blocks: Collection[Block], wanted: Request) -> Hints:
    """Hints for what is given already; if something else is asked for now, none."""
    if {block.type: block.size for block in blocks} != dict(wanted):
        return {}
    return {block.type: [Hint(frozenset(block.nodes), preferred=True)] for block in blocks}


def _plain_init_names(pod: Pod) -> list[str]:
    return [container["name"] for container in pods.init_containers(pod) if not pods.is_sidecar(container)]

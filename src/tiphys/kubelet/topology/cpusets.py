"""Sets of processors: how the kernel writes them (``0-3,8``), and which are near each other. Pure but for ``read``.

Source: https://docs.kernel.org/admin-guide/cputopology.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Cpus = frozenset[int]

NONE: Cpus = frozenset()


def parse(text: str) -> Cpus:
    """Raises ``ValueError``."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if low < 0 or high < low or high - low > 1 << 16:
            raise ValueError(f"{part!r} is no range of processors; write 0-3,8")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def text_of(cpus: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


@dataclass(frozen=True, slots=True)
class CpuPlace:
    """Where a processor is. ``core`` is the lowest processor of its physical core."""

    core: int
    socket: int
    node: int
    cache: int = 0
    """Its last-level cache, where cores of a node have several; else its socket."""


@dataclass(frozen=True, slots=True)
class CpuTopology:
    places: Mapping[int, CpuPlace]

    @property
    def all(self) -> Cpus:
        return frozenset(self.places)

    @property
    def nodes(self) -> list[int]:
        return sorted({place.node for place in self.places.values()})

    @property
    def sockets(self) -> list[int]:
        return sorted({place.socket for place in self.places.values()})

    @property
    def per_core(self) -> int:
        cores = {place.core for place in self.places.values()}
        return max(1, len(self.places) // max(1, len(cores)))

    @property
    def per_socket(self) -> int:
        return max(1, len(self.places) // max(1, len(self.sockets)))

    @property
    def per_cache(self) -> int:
        return max(1, len(self.places) // max(1, len({place.cache for place in self.places.values()})))

    def sockets_of(self, nodes: Collection[int]) -> set[int]:
        return {place.socket for place in self.places.values() if place.node in nodes}

    def in_sockets(self, sockets: Collection[int], cpus: Iterable[int]) -> Cpus:
        return frozenset(cpu for cpu in cpus if self.places[cpu].socket in sockets)

    def in_nodes(self, nodes: Collection[int], cpus: Iterable[int] | None = None) -> Cpus:
        return frozenset(cpu for cpu in (self.places if cpus is None else cpus) if self.places[cpu].node in nodes)

    def siblings(self, cpus: Iterable[int]) -> Cpus:
        """All processors of the physical cores that some of them are on."""
        cores = {self.places[cpu].core for cpu in cpus}
        return frozenset(cpu for cpu, place in self.places.items() if place.core in cores)


def read(root: Path = Path("/sys/devices/system")) -> CpuTopology:
    """The machine's processors that are online. Raises ``OSError``, ``ValueError``."""
    nodes: dict[int, int] = {}
    for folder in (root / "node").glob("node[0-9]*"):
        for cpu in parse((folder / "cpulist").read_text()):
            nodes[cpu] = int(folder.name.removeprefix("node"))
    places = {}
    online = parse((root / "cpu" / "online").read_text())
    for cpu in online:
        about = root / "cpu" / f"cpu{cpu}"
        core = min(parse((about / "topology" / "thread_siblings_list").read_text()))
        socket = max(0, int((about / "topology" / "physical_package_id").read_text()))
        node = nodes.get(cpu, 0)
        in_node = sum(nodes.get(other, 0) == node for other in online)
        places[cpu] = CpuPlace(core, socket, node, _cache(about / "cache", in_node, socket))
    return CpuTopology(places)


def _cache(folder: Path, in_node: int, otherwise: int) -> int:
    """The number of the cache beyond the second level that some of the node's processors share, but not all."""
    for entry in sorted(folder.glob("index[0-9]*")):
        if int((entry / "level").read_text()) <= 2 or not (entry / "id").exists():
            continue
        if len(parse((entry / "shared_cpu_list").read_text())) != in_node:
            return int((entry / "id").read_text())
    return otherwise

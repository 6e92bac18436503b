"""The machine's memory by NUMA node: what there is, in bytes, and how far nodes are from each other.

Source: https://docs.kernel.org/admin-guide/mm/numaperf.html and
https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-devices-node
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.kubelet.quantities import binary


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """``memory`` is all of the node's, that of huge pages included."""

    memory: int
    huge_pages: Mapping[str, int] = field(default_factory=dict)
    """By resource, as ``hugepages-2Mi``."""


@dataclass(frozen=True, slots=True)
class Numa:
    nodes: Mapping[int, NodeMemory]
    distances: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """To each node from 0 on, as the firmware says."""


def read(root: Path = Path("/sys/devices/system/node"), whole: Path = Path("/proc/meminfo")) -> Numa:
    """A machine whose kernel knows no nodes is one node. Raises ``OSError``, ``ValueError``."""
    folders = {int(folder.name.removeprefix("node")): folder for folder in root.glob("node[0-9]*")}
    if not folders:
        pages = Path("/sys/kernel/mm/hugepages")
        return Numa({0: NodeMemory(_total(whole), _huge_pages(pages))})
    nodes = {
        number: NodeMemory(_total(folder / "meminfo"), _huge_pages(folder / "hugepages"))
        for number, folder in sorted(folders.items())
    }
    distances = {
        number: tuple(int(text) for text in (folder / "distance").read_text().split())
        for number, folder in sorted(folders.items())
        if (folder / "distance").exists()
    }
    return Numa(nodes, distances)


def _total(path: Path) -> int:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition("MemTotal:")
        if rest and name.strip().split()[:1] in ([], ["Node"]):
            return int(rest.split()[0]) * 1024
    raise ValueError(f"{path} does not say how much memory there is")


def _huge_pages(folder: Path) -> dict[str, int]:
    sizes = {}
    for entry in sorted(folder.glob("hugepages-*kB")):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        sizes[f"hugepages-{binary(size)}"] = int((entry / "nr_hugepages").read_text()) * size
    return sizes

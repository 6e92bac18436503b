"""The options of the static policy of processors: upstream's tables, what they need, and what the machine must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubelet.test_cpus import config_of, machine
from tiphys.kubelet.topology import cpu_options
from tiphys.kubelet.topology.cpu_choice import NotEnoughCpus, choose
from tiphys.kubelet.topology.cpu_distribution import distribute
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.cpu_options import CpuOption
from tiphys.kubelet.topology.cpusets import CpuPlace, CpuTopology, parse, read, text_of
from tiphys.kubelet.topology.hints import TopologyPolicy
from tiphys.kubelet.topology.setup import CannotAssign, cpu_manager


def interleaved() -> CpuTopology:
    """Two sockets of three cores, whose processors take turns."""
    return CpuTopology({cpu: CpuPlace(cpu % 6, cpu % 2, cpu % 2) for cpu in range(12)})


def cached(sockets: int, nodes: int, threads: int) -> CpuTopology:
    """Sixteen processors; four cores have a cache together."""
    cores = 16 // threads
    return CpuTopology(
        {cpu: CpuPlace(cpu % cores, cpu * sockets // 16, cpu * nodes // 16, cpu % cores // 4) for cpu in range(16)}
    )


SMALL, LARGE, HUGE = interleaved(), machine(2, 4, 10), machine(2, 8, 16)
ALL = "0-79"


@pytest.mark.parametrize(
    ("topology", "available", "wanted", "group", "expected"),
    [
        (SMALL, "0-11", 8, 1, "0-3,6-9"),
        (LARGE, ALL, 64, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-67,70-77"),
        (LARGE, ALL, 48, 1, "0-7,10-17,20-27,40-47,50-57,60-67"),
        (LARGE, "1-29,32-39,41-69,72-79", 48, 1, "1-8,10-17,20-27,41-48,50-57,60-67"),
        (LARGE, "2-29,31-39,42-69,71-79", 48, 1, "10-17,20-27,31-38,50-57,60-67,71-78"),
        (
            LARGE,
            "0-2,10-12,20-22,30-32,40-41,50-51,60-61,70-71",
            16,
            1,
            "0-1,10-11,20-21,30-31,40-41,50-51,60-61,70-71",
        ),
        (SMALL, "1-5,7-11", 1, 1, "1"),
        (SMALL, "1-5,7-11", 1, 2, "2"),
        (LARGE, ALL, 26, 1, "0-6,10-16,40-45,50-55"),
        (LARGE, ALL, 26, 2, "0-6,10-15,40-46,50-55"),
        (LARGE, ALL, 62, 1, "0-7,10-17,20-27,30-37,40-47,50-57,60-66,70-76"),
        (LARGE, ALL, 62, 2, "0-7,10-17,20-27,30-36,40-47,50-57,60-67,70-76"),
        (
            LARGE,
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            1,
            "0-7,10-17,20-27,30-37,40-46,50-56,60-67,70-77",
        ),
        (
            LARGE,
            "0-8,10-18,20-39,40-48,50-58,60-79",
            62,
            2,
            "0-7,10-16,20-27,30-37,40-47,50-56,60-67,70-77",
        ),
        (
            LARGE,
            "0-3,10-13,20-23,30-36,40-43,50-53,60-63,70-76",
            34,
            1,
            "0-3,10-13,20-23,30-34,40-43,50-53,60-63,70-74",
        ),
        (
            HUGE,
            "0,128,30,31,158,159,43-47,171-175,62,63,190,191,75-79,203-207,94,96,222,223,101-111,229-239,126,127,254,255",
            28,
            1,
            "43-47,75-79,96,101-105,171-174,203-206,229-232",
        ),
    ],
)
def test_evenly_over_nodes(topology: CpuTopology, available: str, wanted: int, group: int, expected: str) -> None:
    assert text_of(distribute(topology, parse(available), wanted, group)) == expected


def test_groups_of_which_nodes_have_only_parts() -> None:
    """Three of each node's processors are free: three groups of two are all that there are, not four."""
    topology, free = machine(1, 4, 2, 2), parse("0-7,8,10,12,14")
    assert len(distribute(topology, free, 8, 2)) == 8
    with pytest.raises(NotEnoughCpus, match="requested=13, available=12"):
        distribute(topology, free, 13, 2)


@pytest.mark.parametrize(
    ("topology", "available", "wanted", "expected"),
    [
        (cached(1, 1, 1), "1-15", 10, "1-2,4-11"),
        (SMALL, "1-5,7-11", 1, "1"),
        (cached(2, 2, 1), "0-15", 4, "0-3"),
        (cached(2, 2, 1), "2-15", 6, "2-7"),
        (cached(2, 2, 1), "8-15", 4, "8-11"),
        (cached(1, 2, 1), "3,4-8,12", 2, "4-5"),
        (cached(1, 1, 2), "2-3,10-11,4-7,12-15", 6, "4-6,12-14"),
        (cached(1, 1, 2), "1-7,9-15", 10, "1,4-7,9,12-15"),
    ],
)
def test_of_few_caches(topology: CpuTopology, available: str, wanted: int, expected: str) -> None:
    assert text_of(choose(topology, parse(available), wanted, by_cache=True)) == expected


# Two sockets of two nodes each, as upstream's hints are tried on.
FOUR = machine(2, 4, 10)


@pytest.mark.parametrize(
    ("options", "available", "wanted", "good", "others"),
    [
        (set(), "2,3,11", 2, ["0"], ["0,1", "0,2", "0,3", "0,1,2", "0,1,3", "0,2,3", "0,1,2,3"]),
        ({CpuOption.BY_SOCKET}, "2,3,11", 2, ["0", "0,1"], ["0,2", "0,3", "0,1,2", "0,1,3", "0,2,3", "0,1,2,3"]),
        ({CpuOption.BY_SOCKET}, "0-28,40-57", 41, ["0,1,2", "0,1,2,3"], []),
    ],
)
def test_hints_by_socket(
    tmp_path: Path, options: set[CpuOption], available: str, wanted: int, good: list[str], others: list[str]
) -> None:
    manager = CpuManager(tmp_path, FOUR, parse(""), frozenset(options))
    hints = manager._hints(parse(available), parse(""), wanted)
    assert [hint.nodes for hint in hints if hint.preferred] == list(map(parse, good))
    assert [hint.nodes for hint in hints if not hint.preferred] == list(map(parse, others))


def test_a_container_has_its_socket_before_any_other(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, FOUR, parse(""), frozenset({CpuOption.BY_SOCKET}))
    chosen = manager._chosen(30, frozenset({0}), parse(""))
    assert FOUR.in_sockets({0}, chosen) == chosen
    plain = CpuManager(tmp_path / "plain", FOUR, parse(""))
    assert len(plain._topology.in_nodes({0}, plain._chosen(30, frozenset({0}), parse("")))) == 20


def test_evenly_and_in_whole_cores(tmp_path: Path) -> None:
    options = frozenset({CpuOption.ACROSS_NODES, CpuOption.FULL_CORES})
    chosen = CpuManager(tmp_path, FOUR, parse(""), options)._chosen(26, None, parse(""))
    assert text_of(chosen) == "0-6,10-15,40-46,50-55"


ALPHA = {"CPUManagerPolicyAlphaOptions": True}


@pytest.mark.parametrize(
    ("given", "gates", "message"),
    [
        ({"none-such": "true"}, {}, 'unknown CPU Manager Policy option: "none-such"'),
        ({"align-by-socket": "true"}, {}, 'Alpha-level Options not enabled, but option "align-by-socket" provided'),
        ({"distribute-cpus-across-cores": "true"}, {}, "turn on the feature gate CPUManagerPolicyAlphaOptions"),
        ({"distribute-cpus-across-numa": "true"}, {"CPUManagerPolicyBetaOptions": False}, "Beta-level Options not"),
        (
            {"distribute-cpus-across-numa": "true"},
            {"AllBeta": False, "CPUManagerPolicyBetaOptions": False},
            "Beta-level",
        ),
        ({"full-pcpus-only": "yes"}, {}, "'yes' is neither true nor false"),
        (
            {"full-pcpus-only": "true", "distribute-cpus-across-cores": "true"},
            ALPHA,
            "can not be used at the same time",
        ),
        ({"distribute-cpus-across-numa": "true", "distribute-cpus-across-cores": "true"}, ALPHA, "can not be used"),
        (
            {"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-cores": "true"},
            ALPHA,
            "can not be used",
        ),
        ({"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-numa": "true"}, {}, "can not be used"),
    ],
)
def test_options_that_are_refused(given: dict[str, str], gates: dict[str, bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpu_options.read(given, gates)


def test_options_that_are_taken() -> None:
    stable = {"full-pcpus-only": "true", "strict-cpu-reservation": "true", "prefer-align-cpus-by-uncorecache": "true"}
    assert cpu_options.read(stable, {}) == {CpuOption.FULL_CORES, CpuOption.STRICT, CpuOption.BY_CACHE}
    assert cpu_options.read({"distribute-cpus-across-numa": "true"}, {}) == {CpuOption.ACROSS_NODES}
    assert cpu_options.read({"distribute-cpus-across-numa": "false"}, {}) == frozenset()
    assert cpu_options.read({"align-by-socket": "true"}, ALPHA) == {CpuOption.BY_SOCKET}
    assert cpu_options.read({"align-by-socket": "true"}, {"AllAlpha": True}) == {CpuOption.BY_SOCKET}
    both = {"align-by-socket": "true", "prefer-align-cpus-by-uncorecache": "true"}
    assert cpu_options.read(both, ALPHA) == {CpuOption.BY_SOCKET, CpuOption.BY_CACHE}


def test_the_machine_and_the_topology_policy_must_fit_sockets() -> None:
    by_socket = frozenset({CpuOption.BY_SOCKET})
    cpu_options.check_machine(by_socket, FOUR, TopologyPolicy.RESTRICTED)
    cpu_options.check_machine(frozenset(), machine(2, 1), TopologyPolicy.SINGLE_NUMA_NODE)
    with pytest.raises(ValueError, match="single-numa-node policy is incompatible"):
        cpu_options.check_machine(by_socket, FOUR, TopologyPolicy.SINGLE_NUMA_NODE)
    with pytest.raises(ValueError, match="more sockets than NUMA nodes"):
        cpu_options.check_machine(by_socket, machine(2, 1), TopologyPolicy.NONE)


STATIC = "cpuManagerPolicy: static\nreservedSystemCPUs: '0'\ncpuManagerPolicyOptions: "


def test_the_configuration_turns_gates_on(tmp_path: Path) -> None:
    text = STATIC + "{align-by-socket: true}\n"
    with pytest.raises(CannotAssign, match="cpuManagerPolicyOptions: CPU Manager Policy Alpha-level Options not"):
        cpu_manager(config_of(tmp_path, text), FOUR)
    config = config_of(tmp_path, text + "featureGates: {CPUManagerPolicyAlphaOptions: true}")
    assert cpu_manager(config, FOUR) is not None
    with pytest.raises(CannotAssign, match="none policy: received unsupported options full-pcpus-only"):
        cpu_manager(config_of(tmp_path, "cpuManagerPolicyOptions: {full-pcpus-only: 'true'}"), FOUR)


def test_caches_of_the_machine(tmp_path: Path) -> None:
    """Four processors of one node, of which two have a third level of cache together; then one that all share."""
    (tmp_path / "node/node0").mkdir(parents=True)
    (tmp_path / "node/node0/cpulist").write_text("0-3\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/online").write_text("0-3\n")
    for cpu in range(4):
        about = tmp_path / f"cpu/cpu{cpu}"
        (about / "topology").mkdir(parents=True)
        (about / "topology/thread_siblings_list").write_text(f"{cpu}\n")
        (about / "topology/physical_package_id").write_text("7\n")
        shared = "0-1" if cpu < 2 else "2-3"
        for index, (level, cpus) in enumerate(((1, str(cpu)), (2, str(cpu)), (3, shared))):
            entry = about / f"cache/index{index}"
            entry.mkdir(parents=True)
            for name, text in (("level", str(level)), ("shared_cpu_list", cpus), ("id", str(cpu // 2 + 4))):
                (entry / name).write_text(f"{text}\n")
    assert [place.cache for place in read(tmp_path).places.values()] == [4, 4, 5, 5]
    for cpu in range(4):
        (tmp_path / f"cpu/cpu{cpu}/cache/index2/shared_cpu_list").write_text("0-3\n")
    assert {place.cache for place in read(tmp_path).places.values()} == {7}  # one for all: as good as the socket

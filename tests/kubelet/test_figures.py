"""The kubelet's figures, held against the types that their readers in Go have: every field is there, and has its type.

``data/go_types.json`` lists the fields of k8s.io/kubelet's Summary and KubeletConfiguration (v1.36) and their Go types.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import (
    World,
    container,
    play,
    pod,
)
from tiphys.api.object import Object
from tiphys.kubelet.cgroups.names import place
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configz import describe
from tiphys.kubelet.node import measures
from tiphys.kubelet.node.storage import DiskUse, Filesystem, PodStorage, VolumeUse
from tiphys.kubelet.runtime.service import (
    Container,
    ContainerState,
    ContainerStats,
    InterfaceStats,
    Sandbox,
    SandboxStats,
)
from tiphys.kubelet.server.exposition import cadvisor_metrics, resource_metrics
from tiphys.kubelet.server.snapshot import Rates, RunningContainer, RunningPod, Snapshot, SystemContainer
from tiphys.kubelet.server.stats import summary

TYPES = json.loads((Path(__file__).parent / "data" / "go_types.json").read_text())
_UNSIGNED = re.compile(r"\*?uint64")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

OPTIONAL = {
    # nobody makes them: accelerators and metrics of users' own went with upstream's own support for them
    *("ContainerStats.accelerators", "ContainerStats.userDefinedMetrics"),
    # of containers only under version 2 of cgroups; of the node if its kernel counts it
    *("ContainerStats.io", "PodStats.io", "NodeStats.io", "CPUStats.psi", "MemoryStats.psi"),
    # of claims; only CSI drivers report it
    *("VolumeStats.pvcRef", "VolumeStats.volumeHealthStats"),
    # the runtime fills these in where they apply
    "ContainerStats.rootfs",
    "ContainerStats.logs",
}

_UNSET = {
    # fields without a default: absent means that nothing was asked for
    "maxParallelImagePulls",
    *("staticPodURL", "staticPodURLHeader", "readOnlyPort", "tlsCipherSuites", "tlsCurvePreferences"),
    *("tlsMinVersion", "rotateCertificates", "serverTLSBootstrap", "preloadedImagesVerificationAllowlist"),
    *("enableContentionProfiling", "kubeletCgroups", "systemCgroups", "singleProcessOOMKill"),
    *("cpuManagerPolicyOptions", "topologyManagerPolicyOptions", "qosReserved", "runOnce", "evictionSoft"),
    *("evictionSoftGracePeriod", "evictionMaxPodGracePeriod", "evictionMinimumReclaim", "podsPerCore"),
    *("protectKernelDefaults", "featureGates", "kubeReserved", "reservedSystemCPUs"),
    *("showHiddenMetricsForVersion", "systemReservedCgroup", "kubeReservedCgroup", "providerID"),
    *("kernelMemcgNotification", "shutdownGracePeriodByPodPriority", "reservedMemory", "tracing"),
    *("imageServiceEndpoint", "userNamespaces"),
}
UNSET = {f"KubeletConfiguration.{name}" for name in _UNSET} | {"MemorySwapConfiguration.swapBehavior"}


def fields(package: str, name: str) -> dict[str, str]:
    own = dict(TYPES[package][name])
    for inlined in own.pop("+", []):
        own |= fields(package, inlined) if inlined in TYPES[package] else {"kind": "string", "apiVersion": "string"}
    return own


def faults(package: str, type_: str, value: Any, path: str, optional: set[str]) -> list[str]:
    """Where ``value`` is not what a reader of ``type_`` finds."""
    plain = type_.lstrip("*").removeprefix("metav1.")
    if plain.startswith("[]"):
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [f for i, one in enumerate(value) for f in faults(package, plain[2:], one, f"{path}[{i}]", optional)]
    if plain not in TYPES[package]:
        return [] if fits(plain, value) else [f"{path}: {value!r} is no {plain}"]
    known = fields(package, plain)
    found = [f"{path}.{name}: unknown" for name in value.keys() - known.keys()]
    for name, inner in known.items():
        if name in value:
            found += faults(package, inner, value[name], f"{path}.{name}", optional)
        elif f"{plain}.{name}" not in optional:
            found.append(f"{path}.{name}: missing")
    return found


def fits(type_: str, value: Any) -> bool:
    match type_:
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "uint64":
            return type(value) is int and 0 <= value < 1 << 64
        case "int64" | "int32":
            return type(value) is int
        case "float64":
            return isinstance(value, (int, float))
        case "Time":
            return isinstance(value, str) and bool(_TIME.fullmatch(value))
        case "Duration":
            return isinstance(value, str) and bool(re.fullmatch(r"(\d+(\.\d+)?(h|m|s|ms))+", value))
        case _:
            return isinstance(value, (str, dict, list))


def snapshot() -> Snapshot:
    """A node with a pod of its own network and one of the node's."""
    disk = Filesystem(1000, 400, 100, 60)
    labels = {"io.kubernetes.container.name": "main"}
    running = Container("c1", "s1", "main", 0, ContainerState.RUNNING, 50.0, image="web:1", labels=labels)
    stats = ContainerStats("c1", "main", 99.0, 7_000_000_000, 0, 300, 500, 200, 9, 1, 70, 3, labels)
    storage = PodStorage({"e": VolumeUse(DiskUse(40, 2), disk)}, {"main": DiskUse(8, 1)}, DiskUse(4, 1))
    interfaces = (InterfaceStats("eth0", 1, 2, 3, 4), InterfaceStats("net1", 5, 6, 7, 8))
    own = RunningPod(
        Sandbox("s1", "web", "default", "uid-web", 0, ready=True, created_at=40.0),
        pod("web", volumes=[{"name": "e", "emptyDir": {}}]),
        (RunningContainer(running, stats, 250),),
        SandboxStats("s1", interfaces, 5),
        storage,
    )
    host = RunningPod(
        Sandbox("s2", "agent", "kube-system", "uid-agent", 0, ready=True, created_at=41.0, host_network=True),
        pod("agent"),
        (),
        SandboxStats("s2"),
        PodStorage(),
    )
    machine = measures.read_node(100.0)
    system = tuple(SystemContainer(name, 1.0, measures.Use(1, 2, 3, 4, 5, 6), 7) for name in ("kubelet", "pods"))
    return Snapshot(100.0, "node-1", machine, 9, disk, disk, 600, 30, disk, system, (own, host))


def test_the_summary_is_whole() -> None:
    found = summary(snapshot())
    optional = OPTIONAL - {"ContainerStats.rootfs", "ContainerStats.logs"}
    wrong = faults("stats.v1alpha1", "Summary", found, "", optional)
    of_system = [f for f in wrong if f.startswith(".node.systemContainers")]
    assert {re.sub(r"\[\d\]", "", fault) for fault in of_system} == {
        ".node.systemContainers.rootfs: missing",  # upstream gives them none either: processes have no layer
        ".node.systemContainers.logs: missing",
    }
    # A pod on the node's network has no network of its own, as with upstream.
    assert [f for f in wrong if f not in of_system] == [".pods[1].network: missing"]


def test_the_summary_says_what_is_so() -> None:
    web = summary(snapshot())["pods"][0]
    assert web["podRef"] == {"name": "web", "namespace": "default", "uid": "uid-web"}
    assert web["startTime"] == "1970-01-01T00:00:40Z"
    main = web["containers"][0]
    assert (main["name"], main["startTime"], main["cpu"]["time"]) == (
        "main",
        "1970-01-01T00:00:50Z",
        "1970-01-01T00:01:39Z",
    )
    assert (main["cpu"]["usageNanoCores"], main["cpu"]["usageCoreNanoSeconds"]) == (250, 7_000_000_000)
    assert (main["memory"]["workingSetBytes"], main["memory"]["rssBytes"], main["memory"]["usageBytes"]) == (
        300,
        200,
        500,
    )
    assert (main["rootfs"]["usedBytes"], main["rootfs"]["inodesUsed"], main["logs"]["usedBytes"]) == (70, 3, 8)
    assert web["cpu"]["usageNanoCores"] == 250
    assert (web["memory"]["pageFaults"], web["memory"]["majorPageFaults"]) == (9, 1)
    assert web["volume"][0]["name"] == "e"
    assert web["volume"][0]["usedBytes"] == 40
    assert web["ephemeral-storage"]["usedBytes"] == 70 + 40 + 8 + 4
    assert web["process_stats"] == {"process_count": 5}
    assert web["network"]["name"] == "eth0"
    assert [one["name"] for one in web["network"]["interfaces"]] == ["net1", "eth0"]


def test_pressure_is_shown_of_pods_and_containers_where_the_kernel_counts_it(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    folder = tmp_path / "kubepods" / "poduid-web" / "c1"
    folder.mkdir(parents=True)
    for number, resource in enumerate(("cpu", "memory", "io"), 1):
        line = "{} avg10=0.50 avg60=0.10 avg300=0.00 total={}\n"
        text = line.format("some", number) + line.format("full", 0)
        for place_ in (folder, folder.parent, folder.parent.parent):
            (place_ / f"{resource}.pressure").write_text(text)

    def waited(parent: str, container_id: str = "") -> measures.Pressures:
        return measures.cgroup_pressures(place(parent, container_id), tmp_path)

    own, host = snapshot().pods
    (main,) = own.containers
    main = replace(main, pressure=waited("/kubepods/poduid-web", "c1"))
    pod_of_own = replace(own, containers=(main,), pressure=waited("/kubepods/poduid-web"))
    all_pods = SystemContainer("pods", 1.0, measures.Use(1, 2, 3, 4, 5, 6), 7, waited("/kubepods"))
    found = summary(replace(snapshot(), pods=(pod_of_own, host), system=(all_pods,)))
    shown = {"some": {"avg10": 0.5, "avg60": 0.1, "avg300": 0.0}, "full": {"avg10": 0.5, "avg60": 0.1, "avg300": 0.0}}
    shown["full"]["total"] = 0
    web, system = found["pods"][0], found["node"]["systemContainers"][0]
    for stats in (web, web["containers"][0], system):
        for number, resource in enumerate(("cpu", "memory", "io"), 1):
            assert stats[resource]["psi"] == {**shown, "some": {**shown["some"], "total": number}}
    assert web["io"]["time"] == "1970-01-01T00:01:40Z"
    optional = OPTIONAL - {"ContainerStats.io", "PodStats.io", "CPUStats.psi", "MemoryStats.psi"}
    assert faults("stats.v1alpha1", "PodStats", web, "", optional) == []
    assert waited("/kubepods/other") == measures.cgroup_pressures("kubepods", tmp_path / "kubepods") == waited("") == {}


@pytest.mark.parametrize(
    ("parent", "container_id", "where"),
    [
        ("", "c1", ""),
        ("/kubepods/burstable/pod1", "", "kubepods/burstable/pod1"),
        ("/kubepods/burstable/pod1", "c1", "kubepods/burstable/pod1/c1"),
        ("kubepods-pod1.slice", "", "kubepods.slice/kubepods-pod1.slice"),
        ("kubepods-pod1.slice", "c1", "kubepods.slice/kubepods-pod1.slice/cri-containerd-c1.scope"),
    ],
)
def test_where_the_cgroup_of_a_container_lies(parent: str, container_id: str, where: str) -> None:
    assert place(parent, container_id) == where


def test_the_configuration_is_whole() -> None:
    found = describe(KubeletConfig("node-1"))
    assert faults("kubelet.config.v1beta1", "KubeletConfiguration", found, "", UNSET) == []


def families(text: str) -> dict[str, list[str]]:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        sample.name: sorted(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_readable_and_complete() -> None:
    of_container, of_pod = ["container", "namespace", "pod"], ["namespace", "pod"]
    assert families(resource_metrics(snapshot())) == {
        "container_cpu_usage_seconds_total": of_container,
        "container_memory_working_set_bytes": of_container,
        "container_swap_usage_bytes": of_container,
        "container_swap_limit_bytes": of_container,
        "container_start_time_seconds": of_container,
        "pod_cpu_usage_seconds_total": of_pod,
        "pod_memory_working_set_bytes": of_pod,
        "pod_swap_usage_bytes": of_pod,
        "node_cpu_usage_seconds_total": [],
        "node_memory_working_set_bytes": [],
        "node_swap_usage_bytes": [],
        "resource_scrape_error": [],
        "scrape_error": [],
    }
    found = families(cadvisor_metrics(snapshot(), "6.1", 'An "OS"\n', 4))
    tags = ["container", "id", "image", "name", "namespace", "pod"]
    for name in ("cpu_usage_seconds_total", "memory_working_set_bytes", "memory_rss", "fs_usage_bytes", "last_seen"):
        assert found[f"container_{name}"] == tags
    assert found["container_network_receive_bytes_total"] == sorted([*tags, "interface"])
    assert found["container_memory_failures_total"] == sorted([*tags, "failure_type", "scope"])
    assert {"machine_cpu_cores", "machine_memory_bytes", "cadvisor_version_info", "container_scrape_error"} < set(found)


def test_rates_come_from_two_readings() -> None:
    rates = Rates()
    assert rates.rate("a", 10.0, 1_000_000_000) == 0
    assert rates.rate("a", 12.0, 2_000_000_000) == 500_000_000
    assert rates.rate("a", 12.01, 2_100_000_000) == 500_000_000  # too close to say more
    assert rates.rate("a", 14.0, 2_000_000_000) == 0
    assert rates.rate("a", 16.0, 0) == 0  # it was started again
    rates.keep({"b"})
    assert not rates.known("a")


def test_the_machine_is_measured(tmp_path: Path) -> None:
    machine = measures.read_node(1e9)
    assert 0 < machine.booted_at < 1e9
    assert 0 < machine.use.working_set <= machine.use.memory_usage <= machine.memory_capacity
    assert min(machine.use.cpu_ns, machine.use.page_faults, machine.max_pid, machine.processes) > 0
    text = "h\nh\n    lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\nveth0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"
    text += "  eth0: 10 2 3 4 5 6 7 8 90 10 11 12 13 14 15 16\n"
    assert measures.read_interfaces(text) == (InterfaceStats("eth0", 10, 3, 90, 11),)
    some, full = measures.parse_pressure("some avg10=1.50 avg60=2.00 avg300=0.10 total=77\n")
    assert (some, full) == (measures.Pressure(77, 1.5, 2.0, 0.1), measures.Pressure())
    assert measures.cgroup_use("no-such-cgroup") is None
    found = measures.process_use(os.getpid())
    assert found is not None
    assert found[1].rss > 1 << 20
    assert measures.process_use(1 << 30) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert measures.pid_behind(str(tmp_path / "socket")) is None
        server.listen()
        assert measures.pid_behind(str(tmp_path / "socket")) == os.getpid()


@pytest.mark.parametrize("unified", [False, True])
def test_cgroups_of_both_versions_are_read(tmp_path: Path, unified: bool) -> None:
    memory = {"inactive_file": 30, "anon": 20, "rss": 20, "pgfault": 5, "pgmajfault": 1, "swap": 2}
    if unified:
        (tmp_path / "cgroup.controllers").touch()
        folder = tmp_path / "kubepods"
        files = {"cpu.stat": "usage_usec 7", "memory.current": "100", "memory.max": "max", "memory.swap.current": "2"}
        stat = "\n".join(f"{name} {figure}" for name, figure in memory.items())
        places = {folder / name: text for name, text in {**files, "memory.stat": stat}.items()}
    else:
        stat = "\n".join(f"total_{name} {figure}" for name, figure in memory.items())
        files = {"usage_in_bytes": "100", "limit_in_bytes": "9223372036854771712", "stat": stat}
        places = {tmp_path / "memory" / "kubepods" / f"memory.{name}": text for name, text in files.items()}
        places[tmp_path / "cpuacct" / "kubepods" / "cpuacct.usage"] = "7000"
    for path, text in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    expected = measures.Use(7000, 100, 70, 20, 5, 1, 2, 0)
    assert measures.cgroup_use("kubepods", tmp_path) == expected


def test_a_node_answers_with_all_of_it(tmp_path: Path) -> None:
    """The same, through a kubelet with a running pod: what is asked first has rates, volumes and logs too."""

    async def scene(world: World) -> None:
        world.add(pod("web", container("main"), volumes=[{"name": "e", "emptyDir": {}}]))
        await world.until(lambda: world.ready("web"), 5)
        taker = world.kubelet.snapshots
        asked: list[Object] = [summary(found) for found in await asyncio.gather(taker.take(), taker.take())]
        for found in asked:
            optional = OPTIONAL | {"PodStats.network"}
            assert faults("stats.v1alpha1", "Summary", found, "", optional) == []
            web = found["pods"][0]
            assert [volume["name"] for volume in web["volume"]] == ["e"]
            assert web["volume"][0]["capacityBytes"] > 0
            assert [one["name"] for one in web["containers"]] == ["main"]
            assert "kubelet" in [one["name"] for one in found["node"]["systemContainers"]]
        assert "container_start_time_seconds" in families(resource_metrics(await taker.take()))

    play(tmp_path, scene)


def test_what_runs_is_listed_as_pods(tmp_path: Path) -> None:
    from tiphys.kubelet.server.handler import KubeletServer
    from tiphys.wire.http import Request

    async def scene(world: World) -> None:
        world.add(pod("web", container("main"), container("side")))
        world.add(pod("done", container("main", "true"), restartPolicy="Never"))
        await world.until(lambda: world.ready("web") and world.phase("done") == "Succeeded", 10)
        server = KubeletServer(world.kubelet)
        answer = await server._running_pods(Request("GET", "/runningpods"), {})
        found = json.loads(bytes(answer.body))  # type: ignore[arg-type]
        assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
        (web,) = [item for item in found["items"] if item["spec"]["containers"]]
        assert web["metadata"] == {"name": "web", "namespace": "default", "uid": "uid-web"}
        names = {one["name"]: one["image"] for one in web["spec"]["containers"]}
        assert names.keys() == {"main", "side"}
        assert all(names.values())
        assert web["status"] == {}

    play(tmp_path, scene)

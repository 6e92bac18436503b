"""What a kubelet adds to its containers: 100 pods from created to Running, its own processor time, and its rest.

Usage: python -m bench.node [--pods 100] [--beside PATH] [--rounds 2] [--idle 60]     (needs root)

In one cluster (its own network namespace, `tiphys up`, whose own kubelet is suspended), on one containerd, in turns:
containerd alone is asked by CRI for the same sandboxes and containers, then Tiphys' kubelet runs pods that are bound to
its node already, then the one at PATH (upstream's). Printed are seconds until all of them are Running, the kubelet's
own CPU for each pod, its CPU at rest with all pods on it, in per cent of one processor, and its memory (RSS, and PSS in
which shared pages count in parts). Compare the lines of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubelet.machine import remove_cgroups
from tests.machine import NODE_IP, Machine, machine, wait_for
from tiphys.cluster.images import DEMO_IMAGE
from tiphys.runtime.system import mounts

BUDGETS = {"CPU a pod, ms": 50.0, "idle CPU, %": 3.0, "memory, MiB": 80.0}
AT_ONCE = 8
"""Sandboxes that containerd alone is asked for at the same time."""
NAMESPACE = "bench"
_TICKS = os.sysconf("SC_CLK_TCK")

KUBELET = """
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
address: 127.0.0.1
port: {port}
healthzPort: 0
cgroupDriver: cgroupfs
cgroupRoot: /{root}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{socket}
resolvConf: /etc/resolv.conf
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
serializeImagePulls: false
podLogsDir: {logs}
evictionHard: {{memory.available: 100Mi}}
"""
UPSTREAM = """
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
enforceNodeAllocatable: [none]
makeIPTablesUtilChains: false
"""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mib(pid: int) -> tuple[float, float]:
    """RSS and PSS."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("Rss", "Pss"))  # type: ignore[return-value]


@contextmanager
def kubelet(host: Machine, name: str, program: list[str], extra: str) -> Iterator[int]:
    """A kubelet of the node ``name`` over the cluster's containerd; its process id."""
    folder = host.folder / name
    folder.mkdir(exist_ok=True)
    data = host.folder / "data"
    port = 10352 if extra else 10351
    text = KUBELET.format(
        port=port, root=name, socket=socket_of(host), ca=data / "pki" / "ca.crt", logs=folder / "logs"
    )
    (folder / "config.yaml").write_text(text + extra)
    flags = [f"--config={folder}/config.yaml", f"--kubeconfig={host.folder}/kubeconfig", f"--root-dir={folder}/root"]
    make_cgroup(name)
    process = host.start(*program, *flags, f"--hostname-override={name}", f"--node-ip={NODE_IP}", output=folder / "log")
    try:
        wait_for(lambda: is_ready(host, name, process), 90, f"node {name}")
        pid = next(p for p in family(process.pid) if "nsenter" not in Path(f"/proc/{p}/comm").read_text())
        yield pid
    finally:
        process.terminate()
        process.wait(30)
        remove_cgroups(name)
        mounts.unmount_below(folder)  # upstream's mounts its own folder
        host.kubectl("delete", "node", name, "--ignore-not-found")


def make_cgroup(name: str) -> None:
    """Upstream's kubelet wants its ``cgroupRoot`` to be there."""
    top = Path("/sys/fs/cgroup")
    for hierarchy in (top, *(entry for entry in top.iterdir() if entry.is_dir())):
        if (hierarchy / "cgroup.procs").exists():
            (hierarchy / name).mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (hierarchy / file).exists():
                    (hierarchy / name / file).write_text((hierarchy / file).read_text())


def family(pid: int) -> list[int]:
    return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def is_ready(host: Machine, name: str, process: subprocess.Popen[bytes]) -> bool:
    log = host.folder / name / "log"
    assert process.poll() is None, f"the kubelet of {name} has ended: {log.read_text()[-2000:]}"
    done = host.run("kubectl", "get", "node", name, "-o", "json", check=False)
    if done.returncode:
        return False
    conditions = json.loads(done.stdout)["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def socket_of(host: Machine) -> str:
    settings = json.loads((host.folder / "data" / "cluster.json").read_text())
    return str(Path(settings["run_dir"]) / "containerd.sock")


def pods_of(node: str, count: int) -> str:
    """Bound already: no scheduler takes part."""
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": True,
        "containers": [{"name": "main", "image": DEMO_IMAGE, "command": ["sleep", "100000"]}],
    }
    items = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{node}-{n}", "namespace": NAMESPACE}, "spec": spec}
        for n in range(count)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def statuses(host: Machine) -> list[dict[str, Any]]:
    answer = host.run("kubectl", "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods").stdout
    return [pod["status"] for pod in json.loads(answer)["items"]]


def measure(host: Machine, name: str, pid: int, count: int, idle: float) -> dict[str, float]:
    """One round of one kubelet."""
    time.sleep(5)
    before, began = cpu_seconds(pid), time.monotonic()
    host.apply(pods_of(name, count))
    wait_for(lambda: all_run(host, count), 300, "all pods")
    taken = time.monotonic() - began
    time.sleep(5)
    busy = cpu_seconds(pid) - before
    time.sleep(10)
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(idle)
    resting = (cpu_seconds(pid) - before) / (time.monotonic() - began) * 100
    rss, pss = memory_mib(pid)
    row = {
        "seconds": taken,
        "CPU a pod, ms": busy / count * 1000,
        "idle CPU, %": resting,
        "memory, MiB": rss,
        "PSS": pss,
    }
    before, began = cpu_seconds(pid), time.monotonic()
    host.kubectl("delete", "pods", "--all", "-n", NAMESPACE, "--wait=false")
    folders = host.folder / name / "root" / "pods"
    wait_for(lambda: not statuses(host) and not list(folders.iterdir()), 300, "the pods' end")
    return row | {
        "seconds to end": time.monotonic() - began,
        "CPU a pod to end, ms": (cpu_seconds(pid) - before) / count * 1000,
    }


def all_run(host: Machine, count: int) -> bool:
    time.sleep(0.3)
    return sum(status.get("phase") == "Running" for status in statuses(host)) == count


def containerd_alone(host: Machine, count: int) -> float:
    """Seconds for the same sandboxes and containers by CRI."""
    return asyncio.run(_alone(socket_of(host), host.folder / "alone", count))


async def _alone(socket: str, folder: Path, count: int) -> float:
    from tiphys.kubelet.runtime.cri import CRIClient

    runtime = CRIClient(socket)
    places = asyncio.Semaphore(AT_ONCE)

    async def make(number: int) -> None:
        name, uid = f"alone-{number}", f"00000000-0000-4000-8000-{os.getpid() % 10000:04d}{number:08d}"
        config = {
            "metadata": {"name": name, "uid": uid, "namespace": NAMESPACE, "attempt": 0},
            "hostname": name,
            "log_directory": str(folder / name),
            "labels": {
                "io.kubernetes.pod.name": name,
                "io.kubernetes.pod.namespace": NAMESPACE,
                "io.kubernetes.pod.uid": uid,
            },
            "linux": {"cgroup_parent": "/bench-alone"},
        }
        container = {
            "metadata": {"name": "main", "attempt": 0},
            "image": {"image": DEMO_IMAGE},
            "command": ["sleep", "100000"],
            "log_path": "0.log",
            "linux": {},
        }
        async with places:
            (folder / name).mkdir(parents=True)
            sandbox = await runtime.run_sandbox(config)
            identity = await runtime.create_container(sandbox, container, config)
            await runtime.start_container(identity)

    try:
        began = time.monotonic()
        await asyncio.gather(*(make(number) for number in range(count)))
        taken = time.monotonic() - began
        for sandbox in await runtime.list_sandboxes():
            await runtime.stop_sandbox(sandbox.id)
            await runtime.remove_sandbox(sandbox.id)
    finally:
        await runtime.close()
        remove_cgroups("bench-alone")
    return taken


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pods", type=int, default=100)
    options.add_argument("--beside", type=Path, help="another kubelet's program")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--idle", type=float, default=60.0, help="seconds of rest that are measured")
    arguments = options.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    with machine("bench-node") as host:
        host.tiphys("up", "--without", "csi-local,metrics-server", timeout=240)
        host.kubectl("create", "namespace", NAMESPACE)
        programs = {"tiphys": ([str(host.tiphys_program), "kubelet"], "")}
        if arguments.beside:
            programs["upstream"] = ([str(arguments.beside.absolute())], UPSTREAM)
        with suspended(host):
            for _ in range(arguments.rounds):
                rows.setdefault("containerd alone", []).append({"seconds": containerd_alone(host, arguments.pods)})
                for name, (program, extra) in programs.items():
                    with kubelet(host, name, program, extra) as pid:
                        rows.setdefault(name, []).append(measure(host, name, pid, arguments.pods, arguments.idle))
    report(rows)


@contextmanager
def suspended(host: Machine) -> Iterator[None]:
    """The cluster's own kubelet does nothing meanwhile: it would end what belongs to none of its pods."""
    own = host.components()["kubelet"]["pid"]
    os.kill(own, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(own, signal.SIGCONT)


def report(rows: dict[str, list[dict[str, float]]]) -> None:
    for name, rounds in rows.items():
        print(name)
        for figure in rounds[0]:
            values = [row[figure] for row in rounds]
            budget = f"   budget {BUDGETS[figure]:g}" if figure in BUDGETS and name == "tiphys" else ""
            print(f"  {figure:<22} {statistics.median(values):8.2f}   {[round(v, 2) for v in values]}{budget}")


if __name__ == "__main__":
    main()

"""A kubelet and real containers: what only the real thing can show."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.machine import cgroups, private_containerd, skip_without_containerd, systemd_makes_cgroups
from tests.kubelet.world import NODE, FakeApi, pod
from tiphys.client.rest import Client
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.cgroups.names import path_of, place, slice_of
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.kubelet import Kubelet
from tiphys.kubelet.runtime.ctr import ctr
from tiphys.kubelet.server.handler import KubeletServer
from tiphys.kubelet.topology.cpusets import text_of
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system import mounts
from tiphys.wire.http import Request
from tiphys.wire.inprocess import InProcessTransport

pytestmark = [pytest.mark.e2e, pytest.mark.root]

OWN = os.getpid()
"""Several runs on one machine stand beside each other: each has its own bridge, addresses and cgroups."""
NETWORK = f"10.251.{OWN % 128}"
CGROUP = f"tiphys-kubelet-test-{OWN}"
IMAGE = "tiphys.local/demo:1"
WAITS = "trap 'exit 0' TERM; while :; do sleep 0.1 & wait $!; done"


class Machine:
    def __init__(self, folder: Path, runtime: Any) -> None:
        self.folder = folder
        self.runtime = runtime
        self.clock = SystemClock()
        self.api = FakeApi(lambda: timestamp(self.clock.now()))
        self.client = Client(InProcessTransport(self.api.handler), user_agent="kubelet")
        self._task: asyncio.Task[None] | None = None
        self.kubelet: Kubelet

    async def start(self, adjust: Callable[[KubeletConfig], None] = lambda _: None) -> None:
        config = KubeletConfig(
            NODE,
            root=self.folder / "kubelet",
            log_root=str(self.folder / "logs"),
            container_log_links=str(self.folder / "links"),
            cluster_dns=("10.96.0.10",),
            cgroup_root=CGROUP,
            cgroup_driver="systemd" if systemd_makes_cgroups() else "cgroupfs",
            authorization="AlwaysAllow",
            serve=False,
            runtime_socket=str(self.folder / "c" / "run" / "containerd.sock"),
        )
        adjust(config)
        self.kubelet = Kubelet(
            config=config, client=self.client, runtime=self.runtime, images=self.runtime, clock=self.clock
        )
        self._task = asyncio.ensure_future(self.kubelet.run())
        # What is put between a list and its watch is lost: this API keeps no history.
        await self.until(lambda: self.kubelet.pods.synced and self.api.watched("pods"))

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.005)

    def status(self, name: str) -> dict[str, Any]:
        return self.api.pod(name).get("status") or {}

    def ready(self, name: str) -> bool:
        conditions = self.status(name).get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def ask(self, path: str, query: str = "") -> tuple[int, bytes]:
        """Ask the kubelet's own API."""
        transport = InProcessTransport(KubeletServer(self.kubelet).handle, identity=("admin", ()))
        response = await transport.send(Request("GET", path, query))
        return response.status, await response.read()


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[Callable[[Machine], Awaitable[None]]], None]:
    skip_without_containerd()

    def run(scene: Callable[[Machine], Awaitable[None]]) -> None:
        async def main() -> None:
            async with private_containerd(tmp_path / "c", f"tpk{OWN}", f"{NETWORK}.0/24", CGROUP) as runtime:
                made = Machine(tmp_path, runtime)
                await made.start()
                try:
                    await scene(made)
                finally:
                    await made.stop()

        try:
            asyncio.run(main())
        finally:
            assert mounts.unmount_below(tmp_path) == []

    return run


def cgroup(*parts: str) -> str:
    """The path of one of this test's, of which ``parts`` may be patterns."""
    name = (CGROUP, "kubepods", *parts)
    return place(slice_of(name)) if systemd_makes_cgroups() else path_of(name).strip("/")


def pod_cgroups() -> list[Path]:
    return cgroups(cgroup("*e*st*", "pod*"))


def shown(path: str, *files: str) -> set[str]:
    """What the kernel shows of a cgroup in whichever of the files there are."""
    return {file.read_text().strip() for folder in cgroups(path) for name in files if (file := folder / name).exists()}


CPU, MEMORY = ("cpu.cfs_quota_us", "cpu.max"), ("memory.limit_in_bytes", "memory.max")


def test_pods_have_limits_as_a_whole(machine: Any) -> None:
    """Also after a resize, and, where systemd keeps cgroups, after it has read all of its units again."""

    async def scene(m: Machine) -> None:
        def wanted(cpu: str, memory: str) -> dict[str, Any]:
            amounts = {"cpu": cpu, "memory": memory}
            return pod("web", shell("main", WAITS, resources={"limits": amounts, "requests": amounts}))

        def has(quota: int, memory: int) -> bool:
            quotas = {str(quota), f"{quota} 100000"}
            return shown(own, *CPU) <= quotas and shown(own, *MEMORY) == {str(memory)}

        own = cgroup("poduid-web")
        m.api.put("/api/v1/namespaces/default/pods", wanted("250m", "64Mi"))
        await m.until(lambda: m.ready("web"))
        assert has(25_000, 64 << 20), (shown(own, *CPU), shown(own, *MEMORY))
        assert shown(cgroup(), *MEMORY) == {str(m.kubelet.machine.memory)}
        await m.until(lambda: shown(cgroup("besteffort"), "cpu.shares", "cpu.weight") <= {"1", "2"})
        m.api.put("/api/v1/namespaces/default/pods", {**wanted("375m", "96Mi"), "status": m.status("web")})
        await m.until(lambda: has(37_500, 96 << 20) or has(38_000, 96 << 20))  # systemd has whole percents
        if systemd_makes_cgroups():
            before = shown(own, *CPU, *MEMORY)
            await asyncio.to_thread(subprocess.run, ["systemctl", "daemon-reload"], check=True)
            m.api.put("/api/v1/namespaces/default/pods", pod("other", shell("main", WAITS)))
            await m.until(lambda: m.ready("other"))
            assert shown(own, *CPU, *MEMORY) == before
        for name in ("web", "other"):
            if m.api.has_pod(name):
                m.api.delete_pod(name, grace=1)
        await m.until(lambda: not cgroups(cgroup("pod*")) and not pod_cgroups())

    machine(scene)


def test_containers_over_their_memory_are_said_to_be(machine: Any) -> None:
    """Several at once: a container's end is often heard of before why it was killed."""

    async def scene(m: Machine) -> None:
        names = [f"hungry-{number}" for number in range(4)]
        grows = "x=0123456789abcdef; while :; do x=$x$x; done"
        for name in names:
            hungry = pod(name, shell("main", grows, resources={"limits": {"memory": "32Mi"}}), restartPolicy="Never")
            m.api.put("/api/v1/namespaces/default/pods", hungry)
        await m.until(lambda: all(m.status(name).get("phase") == "Failed" for name in names))
        ended = [m.status(name)["containerStatuses"][0]["state"]["terminated"] for name in names]
        assert [(one["reason"], one["exitCode"]) for one in ended] == [("OOMKilled", 137)] * len(names)
        for name in names:
            m.api.delete_pod(name, grace=1)
        await m.until(lambda: not any(m.api.has_pod(name) for name in names))

    machine(scene)


def shell(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **more,
    }


def test_a_pod_with_everything(machine: Any) -> None:
    async def scene(m: Machine) -> None:
        config_map = {"kind": "ConfigMap", "metadata": {"name": "page", "namespace": "default"}, "data": {"a": "1"}}
        secret = {"kind": "Secret", "metadata": {"name": "key", "namespace": "default"}}
        secret["data"] = {"word": base64.b64encode(b"hush").decode()}  # type: ignore[assignment]
        m.api.put("/api/v1/namespaces/default/configmaps", config_map)
        m.api.put("/api/v1/namespaces/default/secrets", secret)
        volumes = [
            {"name": "work", "emptyDir": {}},
            {"name": "page", "configMap": {"name": "page"}},
            {"name": "key", "secret": {"secretName": "key", "defaultMode": 0o440}},
        ]
        mount = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
        mount.append({"name": "page", "mountPath": "/one", "subPath": "a"})
        script = f"id -u; cat /work/made /page/a /one /key/word; hostname; cat /etc/resolv.conf; {WAITS}"
        probe = {"exec": {"command": ["test", "-e", "/work/made"]}, "periodSeconds": 1, "failureThreshold": 1}
        main = shell("main", script, volumeMounts=mount, readinessProbe=probe)
        init = shell("init", "echo made > /work/made", volumeMounts=mount[:1])
        context = {"runAsUser": 1000, "fsGroup": 2000}
        began = time.monotonic()
        m.api.put(
            "/api/v1/namespaces/default/pods",
            pod("web", main, initContainers=[init], volumes=volumes, securityContext=context, hostname="host"),
        )
        await m.until(lambda: m.ready("web"))
        assert time.monotonic() - began < 10
        assert m.status("web")["podIP"].startswith(f"{NETWORK}.")

        status, text = await m.ask("/containerLogs/default/web/main")
        assert status == 200
        assert text.decode().splitlines()[:4] == [
            "1000",
            "made",
            "11hushhost",
            "search default.svc.cluster.local svc.cluster.local cluster.local",
        ]
        status, text = await m.ask("/containerLogs/default/web/none")
        assert (status, text) == (404, b'container "none" not found in pod "web"')
        assert (await m.ask("/healthz")) == (200, b"ok")
        assert b'"name":"web"' in (await m.ask("/runningpods/"))[1]

        folder = m.folder / "kubelet/pods/uid-web"
        assert mounts.mounts_below(folder)
        m.api.delete_pod("web", grace=5)
        await m.until(lambda: not m.api.has_pod("web"))
        await m.until(lambda: not list((m.folder / "logs").glob("*web*")))
        assert mounts.mounts_below(folder) == []
        assert not folder.exists()
        assert await m.runtime.list_containers() == []
        assert not pod_cgroups()

    machine(scene)


def test_a_kubelet_that_comes_back_leaves_containers_alone(machine: Any) -> None:
    async def scene(m: Machine) -> None:
        m.api.put("/api/v1/namespaces/default/pods", pod("web", shell("main", WAITS)))
        await m.until(lambda: m.ready("web"))
        before = m.status("web")["containerStatuses"][0]
        await m.stop()
        await m.start()
        await m.until(lambda: m.kubelet.status.get("uid-web") is not None)
        identities = [c.id for c in await m.runtime.list_containers("uid-web")]
        assert identities == [before["containerID"].rpartition("/")[2]]
        assert m.status("web")["containerStatuses"][0]["restartCount"] == 0
        m.api.delete_pod("web", grace=1)
        await m.until(lambda: not m.api.has_pod("web"))

    machine(scene)


def test_the_last_words_of_a_container(machine: Any) -> None:
    async def scene(m: Machine) -> None:
        spoken = shell("main", "echo farewell > /dev/termination-log; exit 3")
        logged = {**shell("main", "echo from the log; exit 1"), "terminationMessagePolicy": "FallbackToLogsOnError"}
        for name, container in (("spoken", spoken), ("logged", logged)):
            m.api.put("/api/v1/namespaces/default/pods", pod(name, container, restartPolicy="Never"))
        await m.until(lambda: all(m.status(n).get("phase") == "Failed" for n in ("spoken", "logged")))
        ended = {n: m.status(n)["containerStatuses"][0]["state"]["terminated"] for n in ("spoken", "logged")}
        assert (ended["spoken"]["exitCode"], ended["spoken"]["message"]) == (3, "farewell\n")
        assert ended["logged"]["message"] == "from the log\n"
        for name in ("spoken", "logged"):
            m.api.delete_pod(name, grace=1)
        await m.until(lambda: not m.api.has_pod("spoken") and not m.api.has_pod("logged"))

    machine(scene)


def test_an_image_is_a_volume_and_leaves_nothing(machine: Any) -> None:
    async def scene(m: Machine) -> None:
        script = f"cat /image/etc/passwd; touch /image/x; {WAITS}"
        mounted = {"name": "i", "mountPath": "/image"}
        part = {"name": "i", "mountPath": "/part", "subPath": "etc"}
        volume = {"name": "i", "image": {"reference": IMAGE, "pullPolicy": "Never"}}
        missing = {"name": "i", "image": {"reference": "tiphys.local/none:1", "pullPolicy": "Never"}}
        main = shell("main", f"cat /part/group; exec 2>&1; {script}", volumeMounts=[mounted, part])
        m.api.put("/api/v1/namespaces/default/pods", pod("web", main, volumes=[volume]))
        m.api.put("/api/v1/namespaces/default/pods", pod("none", shell("main", WAITS), volumes=[missing]))

        def log() -> str:
            return "".join(path.read_text() for path in (m.folder / "logs").glob("default_web_*/main/*.log"))

        await m.until(lambda: "Read-only" in log())
        said = log()
        assert "root:x:0:0:root" in said
        assert "nogroup:x:65534" in said
        assert "Read-only file system" in said
        why = 'ErrImageNeverPull: Container image "tiphys.local/none:1" is not present with pull policy of Never'
        failed = f'MountVolume.SetUp failed for volume "i" : {why}'
        await m.until(lambda: ("FailedMount", failed) in m.api.events())
        folder = m.folder / "kubelet/pods/uid-web"
        for name in ("web", "none"):
            m.api.delete_pod(name, grace=1)
        await m.until(lambda: not m.api.has_pod("web") and not m.api.has_pod("none"))
        await m.until(lambda: not folder.exists())
        assert mounts.mounts_below(m.folder / "kubelet") == []
        assert str(folder) not in await ctr(m.kubelet.config.runtime_socket, "snapshots", "list")

    machine(scene)


def test_a_pod_that_was_deleted_while_no_kubelet_ran_leaves_nothing(machine: Any) -> None:
    async def scene(m: Machine) -> None:
        m.api.put("/api/v1/namespaces/default/pods", pod("gone", shell("main", WAITS)))
        await m.until(lambda: m.ready("gone"))
        assert pod_cgroups()
        await m.stop()
        m.api.delete_pod("gone", grace=0)
        await m.start()
        await m.until(lambda: not pod_cgroups() and not list((m.folder / "kubelet" / "pods").iterdir()), 30)
        assert await m.runtime.list_sandboxes() == []

    machine(scene)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_processors_and_memory_of_a_containers_own(machine: Any) -> None:
    """On this machine's own processors: the first is the system's and everybody's, others are given away."""
    first, second, *_ = sorted(os.sched_getaffinity(0))

    def adjust(config: KubeletConfig) -> None:
        config.cpu_policy, config.reserved_cpus = "static", str(first)
        config.topology_policy, config.topology_scope = "single-numa-node", "pod"
        config.memory_policy, config.system_reserved = "Static", {"memory": "200Mi"}
        config.eviction_hard = {}
        config.reserved_memory = ((0, {"memory": "200Mi"}),)

    async def scene(m: Machine) -> None:
        await m.stop()
        (m.folder / "kubelet" / "cpu_manager_state").unlink(missing_ok=True)
        await m.start(adjust)
        tells = "grep -e Cpus_allowed_list -e Mems_allowed_list /proc/self/status"
        script = f"trap 'exit 0' TERM; while :; do {tells}; sleep 0.1 & wait $!; done"
        amounts = {"cpu": "1", "memory": "64Mi"}
        resources = {"requests": amounts, "limits": amounts}
        m.api.put("/api/v1/namespaces/default/pods", pod("plain", shell("main", script)))
        await m.until(lambda: m.ready("plain"))
        m.api.put("/api/v1/namespaces/default/pods", pod("own", shell("main", script, resources=resources)))
        await m.until(lambda: m.ready("own"))

        async def seen(name: str) -> tuple[str, str]:
            _, text = await m.ask(f"/containerLogs/default/{name}/main", "tailLines=2")
            lines = dict(line.split(":\t") for line in text.decode().splitlines())
            return lines.get("Cpus_allowed_list", ""), lines.get("Mems_allowed_list", "")

        async def until_seen(name: str, cpus: str) -> None:
            deadline = time.monotonic() + 20
            while (have := await seen(name)) != (cpus, "0"):
                assert time.monotonic() < deadline, have
                await asyncio.sleep(0.05)

        others = text_of(os.sched_getaffinity(0) - {second})
        await until_seen("own", str(second))
        await until_seen("plain", others)
        quotas = [
            (folder / name).read_text().split()[0]
            for folder in cgroups(cgroup("poduid-own"))
            for name in CPU
            if (folder / name).exists()
        ]
        assert quotas in (["-1"], ["max"])
        m.api.delete_pod("own", grace=1)
        await until_seen("plain", text_of(os.sched_getaffinity(0)))

    machine(scene)

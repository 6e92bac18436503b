"""Pods that attack their node, on a kubelet with real containers: each does its worst, and the node is unharmed.

The API server's validation, which refuses some of them, is not there: the kubelet has to hold by itself. The steps of a
race one by one are in test_hostile_volumes.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.machine import cgroups, private_containerd, skip_without_containerd
from tests.kubelet.test_containerd import WAITS, Machine, shell
from tests.kubelet.world import pod
from tiphys.api.object import Object
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime.system import mounts

pytestmark = [pytest.mark.e2e, pytest.mark.root]

CGROUP = f"tiphys-hostile-{os.getpid()}"
CANARY = "this is the host's own"
MOST_PROCESSES = 60
LOG_LIMIT = 1 << 20

Scene = Callable[[Machine], Awaitable[None]]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Scene], None]]:
    """Run a scene on one node for all of them, and look after each whether the node is as it was."""
    skip_without_containerd()
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "host").mkdir()
    (folder / "host" / "secret").write_text(CANARY)

    def adjust(config: KubeletConfig) -> None:
        config.cgroup_root, config.pod_pids_limit = CGROUP, MOST_PROCESSES
        config.container_log_max_size = LOG_LIMIT

    with asyncio.Runner() as loop:
        stack = AsyncExitStack()
        network = f"10.252.{os.getpid() % 128}.0/24"
        containerd = private_containerd(folder / "c", f"tph{os.getpid()}", network, CGROUP)
        try:
            m = Machine(folder, loop.run(stack.enter_async_context(containerd)))
            loop.run(m.start(adjust))
            yield lambda scene: loop.run(_unharmed(m, scene))
            loop.run(m.stop())
        finally:
            loop.run(stack.aclose())
            assert mounts.unmount_below(folder) == []


async def _unharmed(m: Machine, scene: Scene) -> None:
    """The canary is there and as it was, the kubelet serves pods, and nothing of the scene's pods is left."""
    await scene(m)
    for path in [path for path in m.api.objects if "/pods/" in path]:
        m.api.delete_pod(path.rsplit("/", 1)[1], grace=1)
    await m.until(lambda: not any("/pods/" in path for path in m.api.objects), 40)
    await m.until(lambda: not cgroups(f"{CGROUP}/kubepods/*/pod*"), 20)
    assert list((m.folder / "kubelet" / "pods").iterdir()) == []
    assert mounts.mounts_below(m.folder / "kubelet" / "pods") == []
    assert {path.name: path.read_text() for path in (m.folder / "host").iterdir()} == {"secret": CANARY}
    assert (await m.ask("/healthz")) == (200, b"ok")
    add(m, pod("after", shell("main", WAITS)))
    await m.until(lambda: m.ready("after"))
    m.api.delete_pod("after", grace=1)
    await m.until(lambda: not m.api.has_pod("after"))


def add(m: Machine, wanted: Object) -> None:
    m.api.put("/api/v1/namespaces/default/pods", wanted)


async def logs(m: Machine, name: str, container: str = "main", query: str = "") -> str:
    _, text = await m.ask(f"/containerLogs/default/{name}/{container}", query)
    return text.decode(errors="replace")


async def until_said(m: Machine, name: str, words: str, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while words not in (text := await logs(m, name)):
        assert time.monotonic() < deadline, text
        await asyncio.sleep(0.05)
    return text


def waiting(m: Machine, name: str, container: str = "main") -> Object:
    statuses = m.status(name).get("containerStatuses") or []
    return next(((s.get("state") or {}).get("waiting") or {} for s in statuses if s["name"] == container), {})


def secret_paths(m: Machine) -> list[str]:
    """Ways to the canary: out of a volume's folder, and from the top."""
    return [f"../../../../../../../../../../../..{m.folder}/host", f"{m.folder}/host"]


def test_a_subpath_that_leads_out_of_its_volume(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        volumes = [{"name": "work", "emptyDir": {}}]
        for number, path in enumerate(secret_paths(m)):
            mount = {"name": "work", "mountPath": "/stolen", "subPath": path}
            script = f"cat /stolen/secret; echo looked; {WAITS}"
            add(m, pod(f"out-{number}", shell("main", script, volumeMounts=[mount]), volumes=volumes))
        await m.until(lambda: waiting(m, "out-0").get("reason") == "CreateContainerConfigError" or m.ready("out-0"))
        assert waiting(m, "out-0")["reason"] == "CreateContainerConfigError"
        await m.until(lambda: bool(waiting(m, "out-1").get("reason")) or m.ready("out-1"))
        assert CANARY not in await logs(m, "out-1")

    hostile(scene)


def test_a_link_in_a_volume_that_leads_out_of_it(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        whole = {"name": "work", "mountPath": "/data"}
        part = {"name": "work", "mountPath": "/stolen", "subPath": "link"}
        make = shell("make", f"ln -s {m.folder}/host /data/link", volumeMounts=[whole])
        main = shell("main", f"cat /stolen/secret; echo x > /stolen/new; echo looked; {WAITS}", volumeMounts=[part])
        add(m, pod("link", main, initContainers=[make], volumes=[{"name": "work", "emptyDir": {}}]))
        await m.until(lambda: bool(waiting(m, "link").get("message")) or m.ready("link"))
        assert CANARY not in await logs(m, "link")

    hostile(scene)


def test_a_subpath_that_is_swapped_while_containers_start(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        """One container swaps a folder for a link without a pause; another starts again and again below it."""
        whole = {"name": "work", "mountPath": "/data"}
        part = {"name": "work", "mountPath": "/seen", "subPath": "place"}
        swap = f"cd /data; mkdir -p real; ln -sfn {m.folder}/host bad; trap 'exit 0' TERM; " + (
            "while :; do rm -rf place; ln -s bad place; rm -f place; mkdir place; done"
        )
        looks = "cat /seen/secret 2>&1; touch /seen/new 2>/dev/null; exit 0"
        swapper, looker = shell("swap", swap, volumeMounts=[whole]), shell("look", looks, volumeMounts=[part])
        for number in range(4):
            spec = {"volumes": [{"name": "work", "emptyDir": {}}], "restartPolicy": "Always"}
            add(m, pod(f"race-{number}", swapper, {**looker, "name": "look"}, **spec))
        await m.until(lambda: all(m.status(f"race-{n}").get("containerStatuses") for n in range(4)))
        await asyncio.sleep(4)
        for number in range(4):
            assert CANARY not in await logs(m, f"race-{number}", "look")

    hostile(scene)


def test_keys_and_paths_of_projected_volumes_that_lead_out(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        data = {"good": "1", "../escaped-key": "x"}
        config_map = {"kind": "ConfigMap", "metadata": {"name": "evil", "namespace": "default"}, "data": data}
        m.api.put("/api/v1/namespaces/default/configmaps", config_map)
        sources = {
            "by-key": {"configMap": {"name": "evil"}},
            "by-path": {"configMap": {"name": "evil", "items": [{"key": "good", "path": "../../escaped-path"}]}},
            "by-root": {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "evil", "items": [{"key": "good", "path": "/tmp/escaped-root"}]}}
                    ]
                }
            },
            "by-field": {
                "downwardAPI": {"items": [{"path": "../escaped", "fieldRef": {"fieldPath": "metadata.name"}}]}
            },
        }
        for name, source in sources.items():
            main = shell("main", f"echo runs; {WAITS}", volumeMounts=[{"name": "v", "mountPath": "/v"}])
            add(m, pod(name, main, volumes=[{"name": "v", **source}]))
        told: list[str] = []
        for name in sources:
            await m.until(lambda n=name: m.ready(n) or bool(_complaints(m, n)), 30)  # type: ignore[misc]
            told += _complaints(m, name)
        assert told, "somebody was to be refused"
        assert list(m.folder.rglob("escaped*")) == []
        assert not exists("/tmp/escaped-root")

    hostile(scene)


def exists(path: str) -> bool:
    return os.path.lexists(path)


def _complaints(m: Machine, name: str) -> list[str]:
    events = [obj for path, obj in m.api.objects.items() if "/events/" in path]
    return [e["message"] for e in events if e["involvedObject"]["name"] == name and e["type"] == "Warning"]


def test_a_line_without_an_end(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        """60 MB in one line: it is read, cut and rotated in no more memory than a reader asks for."""
        script = f"head -c 60000000 /dev/zero | tr '\\0' x; echo; echo done; {WAITS}"
        add(m, pod("long", shell("main", script)))
        await m.until(lambda: m.ready("long"))
        deadline = time.monotonic() + 60
        while "done" not in await logs(m, "long", query="tailLines=1&limitBytes=100"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        assert len(await logs(m, "long", query="limitBytes=1000")) <= 1000
        assert (await logs(m, "long", query="tailLines=1")).strip() == "done"
        assert time.process_time() - began < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB
        assert (await m.ask("/healthz")) == (200, b"ok")

    hostile(scene)


def test_last_words_that_are_no_text(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        binary = "head -c 100000 /dev/urandom > /dev/termination-log; exit 3"
        link = f"rm -f /dev/termination-log; ln -s {m.folder}/host/secret /dev/termination-log; exit 3"
        pipe = "rm -f /dev/termination-log; mkfifo /dev/termination-log; exit 3"
        for name, script in {"binary": binary, "linked": link, "piped": pipe}.items():
            add(m, pod(name, shell("main", script), restartPolicy="Never"))
        for name in ("binary", "linked", "piped"):
            await m.until(lambda n=name: m.status(n).get("phase") == "Failed")  # type: ignore[misc]
            [status] = m.status(name)["containerStatuses"]
            ended = status["state"]["terminated"]
            message = ended.get("message", "")
            assert (ended["exitCode"], CANARY in message) == (3, False)
            assert len(json.dumps(message, ensure_ascii=False).encode()) < 20_000

    hostile(scene)


def test_a_fork_bomb_in_a_probe(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        """Each probe starts processes that start others for ever; a pod has 60, and its end ends them all."""
        bomb = "b() { b | b & }; b; sleep 30"
        probe = {"exec": {"command": ["sh", "-c", bomb]}, "periodSeconds": 1, "timeoutSeconds": 1}
        add(m, pod("bomb", shell("main", WAITS, readinessProbe=probe)))
        add(m, pod("beside", shell("main", WAITS)))
        await m.until(lambda: m.ready("beside"))
        await m.until(lambda: any(_counts(uid="uid-bomb", name="pids.current")), 20)
        most, end = 0, time.monotonic() + 4
        while time.monotonic() < end or (most <= 10 and time.monotonic() < end + 60):
            most = max([most, *_counts("uid-bomb", "pids.current")])
            await asyncio.sleep(0.02)
        assert 10 < most <= MOST_PROCESSES
        assert not m.ready("bomb")
        assert m.ready("beside")

    hostile(scene)


def _counts(uid: str, name: str) -> list[int]:
    places = cgroups(f"{CGROUP}/kubepods/*/pod{uid}")
    return [int((place / name).read_text()) for place in places if (place / name).exists()]


def test_a_log_that_is_a_link(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        """A pod that sees the node's logs puts links into its own folder: to a file, to a device, and a folder's."""
        host = {"name": "logs", "hostPath": {"path": str(m.folder / "logs")}}
        mount = {"name": "logs", "mountPath": "/logs"}
        script = (
            "cd /logs/default_links_*/main; mv 0.log kept; "
            f"ln -s {m.folder}/host/secret 0.log; ln -s /dev/zero 1.log; ln -s {m.folder}/host ../other; "
            f"echo made > /logs/made; {WAITS}"
        )
        add(m, pod("links", shell("main", script, volumeMounts=[mount]), volumes=[host]))
        await m.until(lambda: (m.folder / "logs" / "made").exists())
        status, text = await m.ask("/containerLogs/default/links/main")
        assert CANARY.encode() not in text
        assert status >= 400
        (m.folder / "logs" / "made").unlink()

    hostile(scene)


def test_devices_of_the_host(hostile: Any) -> None:
    async def scene(m: Machine) -> None:
        """A container may make a device file, as upstream's defaults let it, but the kernel opens none."""
        major, minor = first_disk()
        script = f"""
            try() {{ if "$@" >/dev/null 2>&1; then echo "HARM: $*"; fi; }}
            mknod /tmp/disk b {major} {minor}; mknod /tmp/mem c 1 1; mknod /tmp/kmsg c 1 11
            for d in disk mem kmsg; do try dd if=/tmp/$d of=/dev/null bs=512 count=1; done
            try sh -c 'echo h > /proc/sysrq-trigger'
            try sh -c 'echo 1 > /proc/sys/kernel/panic'
            try sh -c 'echo 0 > /sys/fs/cgroup/pids/pids.max'
            try mount -t tmpfs none /mnt
            try cat /proc/kcore
            echo looked; {WAITS}"""
        add(m, pod("devices", shell("main", script)))
        assert "HARM" not in await until_said(m, "devices", "looked")

    hostile(scene)


def first_disk() -> tuple[str, str]:
    lines = Path("/proc/partitions").read_text().splitlines()[2:]
    major, minor, *_ = (lines[0] if lines else "8 0").split()
    return major, minor


@pytest.mark.parametrize("kind", ["BlockDevice", "File"])
def test_a_host_path_of_another_kind_than_it_says(hostile: Any, kind: str) -> None:
    async def scene(m: Machine) -> None:
        volume = {"name": "v", "hostPath": {"path": str(m.folder / "host"), "type": kind}}
        main = shell("main", WAITS, volumeMounts=[{"name": "v", "mountPath": "/v"}])
        add(m, pod(f"kind-{kind.lower()}", main, volumes=[volume]))
        await m.until(
            lambda: any("hostPath type check failed" in text for text in _complaints(m, f"kind-{kind.lower()}"))
        )

    hostile(scene)

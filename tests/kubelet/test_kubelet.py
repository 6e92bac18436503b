"""A kubelet and its pods, from start to end, in virtual time on the simulated runtime."""

from __future__ import annotations

import asyncio
import copy
from itertools import pairwise
from pathlib import Path

import pytest

from tests.kubelet.simulated import SimulatedRuntime
from tests.kubelet.world import World, container, play, pod
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.node.thresholds import Signal
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import ExecResult
from tiphys.kubelet.volumes.manager import TooManyVolumes


def test_a_pod_runs_and_tells_every_step(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 5)
        status = world.status("web")
        assert status["phase"] == "Running"
        assert status["podIP"] == "10.244.0.2"
        assert status["podIPs"] == [{"ip": "10.244.0.2"}]
        assert status["hostIP"] == "192.0.2.10"
        assert status["qosClass"] == "BestEffort"
        assert status["observedGeneration"] == 1
        assert [c["type"] for c in status["conditions"]] == [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        main = world.container("web")
        assert main["containerID"].startswith("simulated://")
        assert (main["ready"], main["started"], main["restartCount"]) == (True, True, 0)
        await asyncio.sleep(1)
        reasons = [reason for reason, _ in world.api.events() if reason != "CgroupV1"]  # as the machine is
        assert reasons == ["Starting", "Pulled", "Created", "Started"]

    play(tmp_path, scene)


def test_a_pod_that_was_marked_as_not_ready_while_its_node_was_silent_is_ready_again(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 5)
        await asyncio.sleep(1)
        marked = copy.deepcopy(world.api.pod("web"))
        ready = next(c for c in marked["status"]["conditions"] if c["type"] == "Ready")
        ready |= {"status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        world.add(marked)
        await asyncio.sleep(1)
        assert not world.ready("web"), "not at once: the other may write again"
        await world.until(lambda: world.ready("web"), 15)
        written = len(world.api.patches)
        await asyncio.sleep(60)
        assert len(world.api.patches) == written, "and that is all"

    play(tmp_path, scene)


def test_the_node_registers_and_keeps_its_lease(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        node = world.api.objects["/api/v1/nodes/node-1"]
        ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("True", "KubeletReady")
        assert node["status"]["capacity"]["cpu"] == "4"
        assert node["status"]["allocatable"]["memory"] == f"{(8 << 20) - (100 << 10)}Ki"
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"
        await world.until(lambda: path in world.api.objects, 5)
        first = world.api.objects[path]["spec"]["renewTime"]
        await asyncio.sleep(11)
        assert world.api.objects[path]["spec"]["renewTime"] > first
        assert world.api.objects[path]["metadata"]["ownerReferences"][0]["kind"] == "Node"

    play(tmp_path, scene)


def test_a_crashing_container_backs_off(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        starts: list[float] = []
        world.add(pod("crash", container("main", "sh", "-c", "exit 7")))
        seen = 0
        while len(starts) < 5:
            await asyncio.sleep(0.05)
            if (now := world.started("main")) != seen:
                starts += [world.clock.monotonic()] * (now - seen)
                seen = now
        gaps = [round(b - a) for a, b in pairwise(starts)]
        assert gaps == [0, 10, 20, 40]
        await asyncio.sleep(1)
        main = world.container("crash")
        assert main["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        message = "back-off 1m20s restarting failed container=main pod=crash_default(uid-crash)"
        assert main["state"]["waiting"]["message"] == message
        assert main["lastState"]["terminated"]["exitCode"] == 7
        assert main["restartCount"] == 4
        assert world.phase("crash") == "Running"

    play(tmp_path, scene)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_runs_once_ends(tmp_path: Path, code: int, phase: str) -> None:
    async def scene(world: World) -> None:
        world.add(pod("once", container("main", "sh", "-c", f"sleep 5; exit {code}"), restartPolicy="Never"))
        await world.until(lambda: world.phase("once") == phase, 20)
        assert world.container("once")["state"]["terminated"]["exitCode"] == code
        assert world.status("once")["podIP"] == "10.244.0.2"
        assert not world.ready("once")
        await asyncio.sleep(5)
        assert world.started("main") == 1
        assert all(not sandbox.ready for sandbox in await world.runtime.list_sandboxes())

    play(tmp_path, scene)


def test_init_containers_run_in_order_and_sidecars_stay(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        inits = [
            container("first", "sleep", "2"),
            container("helper", restartPolicy="Always"),
            container("last", "sleep", "3"),
        ]
        world.add(pod("init", initContainers=inits))
        await world.until(lambda: world.condition("init", "PodReadyToStartContainers") == "True", 5)
        assert world.condition("init", "Initialized") == "False"
        assert world.container("init")["state"]["waiting"]["reason"] == "PodInitializing"
        await world.until(lambda: world.ready("init"), 20)
        begun = [name for call, name in world.runtime.calls if call == "start_container"]
        assert begun == ["first", "helper", "last", "main"]
        assert world.container("init", "first")["state"]["terminated"]["reason"] == "Completed"
        assert "running" in world.container("init", "helper")["state"]
        world.api.delete_pod("init")
        await world.until(lambda: not world.api.has_pod("init"), 60)
        stopped = [name for call, name in world.runtime.calls if call == "stop_container"]
        assert stopped == ["main", "helper"]

    play(tmp_path, scene)


def test_a_failed_init_container_fails_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("bad", initContainers=[container("setup", "false")], restartPolicy="Never"))
        await world.until(lambda: world.phase("bad") == "Failed", 10)
        assert world.started("main") == 0

    play(tmp_path, scene)


def test_a_deleted_pod_is_stopped_and_then_gone(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 5)
        world.api.delete_pod("web")
        await world.until(lambda: not world.api.has_pod("web"), 5)
        await asyncio.sleep(1)
        assert await world.runtime.list_containers() == []
        assert await world.runtime.list_sandboxes() == []
        assert not (world.folder / "kubelet" / "pods" / "uid-web").exists()
        assert ("Killing", "Stopping container main") in world.api.events()
        assert world.kubelet.workers.known() == []

    play(tmp_path, scene)


def test_a_pod_removed_by_force_is_ended_all_the_same(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 5)
        world.api.delete_pod("web", grace=0)
        await asyncio.sleep(2)
        assert await world.runtime.list_containers() == []
        assert world.kubelet.workers.known() == []

    play(tmp_path, scene)


def test_a_new_kubelet_takes_over_what_runs(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 10, "failureThreshold": 3, "successThreshold": 1}
        world.add(pod("web", container("main", readinessProbe=probe)))
        await world.until(lambda: world.ready("web"), 30)
        before = world.container("web")["containerID"]
        await asyncio.sleep(60)
        world.api.patches.clear()
        await world.restart()
        await asyncio.sleep(60)
        assert world.started("main") == 1
        assert world.container("web")["containerID"] == before
        unready = [patch for path, patch in world.api.patches if "/pods/" in path and '"False"' in str(patch)]
        assert unready == [], "the pod must not be unready for a moment"

    play(tmp_path, scene)


def test_a_new_kubelet_ends_what_no_source_has(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 5)
        await world.stop()
        world.api.remove("/api/v1/namespaces/default/pods/web")
        world.kubelet = world.new_kubelet()
        await world.start()
        await asyncio.sleep(10)
        assert await world.runtime.list_sandboxes() == []

    play(tmp_path, scene)


def test_one_that_does_not_end_keeps_no_other_from_ending(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        for number in range(4):
            world.add(pod(f"web-{number}"))
        await world.until(lambda: all(world.ready(f"web-{number}") for number in range(4)), 10)
        await world.stop()
        for number in range(4):
            world.api.remove(f"/api/v1/namespaces/default/pods/web-{number}")
        stop, stuck = world.runtime.stop_sandbox, []

        async def one_is_slow(sandbox: str) -> None:
            if not stuck:
                stuck.append(sandbox)
                await asyncio.sleep(600)
            await stop(sandbox)

        world.runtime.stop_sandbox = one_is_slow  # type: ignore[method-assign]
        world.kubelet = world.new_kubelet()
        await world.start()
        await asyncio.sleep(30)
        assert [sandbox.id for sandbox in await world.runtime.list_sandboxes()] == stuck

    play(tmp_path, scene)


def test_a_failed_liveness_probe_restarts_the_container(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        probe = {"exec": {"command": ["false"]}, "periodSeconds": 5, "failureThreshold": 3, "successThreshold": 1}
        world.add(pod("sick", container("main", livenessProbe=probe)))
        await world.until(lambda: world.container("sick").get("restartCount") == 1, 60)
        messages = [message for reason, message in world.api.events() if reason == "Killing"]
        assert messages == ["Container main failed liveness probe, will be restarted"]
        assert ("Unhealthy", "Liveness probe failed: ") in world.api.events()

    play(tmp_path, scene)


def test_readiness_follows_its_probe(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        well = [False]
        world.runtime._run_command = lambda *_: ExecResult(b"", b"", 0 if well[0] else 1)
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 3, "successThreshold": 1}
        world.add(pod("web", container("main", readinessProbe=probe)))
        await asyncio.sleep(30)
        assert world.phase("web") == "Running"
        assert not world.ready("web")
        well[0] = True
        await world.until(lambda: world.ready("web"), 6)
        well[0] = False
        await asyncio.sleep(9)
        assert world.ready("web"), "two failures are below the threshold"
        await world.until(lambda: not world.ready("web"), 8)
        assert world.started("main") == 1

    play(tmp_path, scene)


def test_readiness_follows_its_probe_while_the_pod_ends(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        well, may_stop = [True], asyncio.Event()
        world.runtime._run_command = lambda *_: ExecResult(b"", b"", 0 if well[0] else 1)
        stop = world.runtime.stop_container

        async def stop_late(container_id: str, grace: int) -> None:
            well[0] = False
            await may_stop.wait()
            await stop(container_id, grace)

        world.runtime.stop_container = stop_late
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 3, "successThreshold": 1}
        world.add(pod("web", container("main", readinessProbe=probe)))
        await world.until(lambda: world.ready("web"), 10)
        world.api.delete_pod("web", grace=60)
        await asyncio.sleep(2)
        assert world.ready("web")
        await world.until(lambda: not world.ready("web"), 20)
        assert world.api.has_pod("web")
        may_stop.set()
        await world.until(lambda: not world.api.has_pod("web"), 5)

    play(tmp_path, scene)


def test_other_probes_wait_for_the_startup_probe(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        asked: list[str] = []

        def answer(_: str, command: object) -> ExecResult:
            asked.append(next(iter(command)))  # type: ignore[call-overload]
            return ExecResult(b"", b"", 0 if world.clock.monotonic() > 20 else 1)

        world.runtime._run_command = answer
        startup = {"exec": {"command": ["begun"]}, "periodSeconds": 2, "failureThreshold": 30, "successThreshold": 1}
        ready = {"exec": {"command": ["ready"]}, "periodSeconds": 2, "failureThreshold": 3, "successThreshold": 1}
        world.add(pod("slow", container("main", startupProbe=startup, readinessProbe=ready)))
        await asyncio.sleep(15)
        assert set(asked) == {"begun"}
        assert world.container("slow")["started"] is False
        await world.until(lambda: world.ready("slow"), 30)

    play(tmp_path, scene)


def test_a_pod_that_does_not_fit_is_turned_away(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("big", container("main", resources={"requests": {"cpu": "5"}})))
        await world.until(lambda: world.phase("big") == "Failed", 5)
        status = world.status("big")
        assert status["reason"] == "OutOfcpu"
        message = "Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
        assert status["message"] == f"Pod was rejected: {message}"
        await asyncio.sleep(1)
        assert ("OutOfcpu", message) in world.api.events()
        assert world.started("main") == 0

    play(tmp_path, scene)


def test_a_missing_config_map_holds_the_pod_until_it_is_there(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        mount = {"name": "files", "mountPath": "/files"}
        volume = {"name": "files", "configMap": {"name": "settings", "defaultMode": 0o644}}
        world.add(pod("web", container("main", volumeMounts=[mount]), volumes=[volume]))
        await asyncio.sleep(20)
        assert world.phase("web") == "Pending"
        message = 'MountVolume.SetUp failed for volume "files" : configmap "settings" not found'
        assert ("FailedMount", message) in world.api.events()
        settings = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "settings", "namespace": "default"}}
        world.api.put("/api/v1/namespaces/default/configmaps", {**settings, "data": {"colour": "blue"}})
        await world.until(lambda: world.ready("web"), 2)
        file = world.folder / "kubelet/pods/uid-web/volumes/kubernetes.io~configmap/files/colour"
        assert file.read_text() == "blue"
        world.api.put("/api/v1/namespaces/default/configmaps", {**settings, "data": {"colour": "red"}})
        await world.until(lambda: file.read_text() == "red", 2)

    play(tmp_path, scene)


def test_the_environment_reaches_the_container(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "key", "namespace": "default"}}
        world.api.put("/api/v1/namespaces/default/secrets", {**secret, "data": {"word": "aHVzaA=="}})
        env = [
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}},
            {"name": "SAID", "value": "$(WORD)!"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]
        world.add(pod("web", container("main", env=env, args=["$(SAID)"])))
        await world.until(lambda: world.ready("web"), 5)
        identity = world.container("web")["containerID"].rpartition("/")[2]
        config = world.runtime.config_of(identity)
        values = {entry["key"]: entry["value"].decode() for entry in config["envs"]}
        assert (values["WORD"], values["SAID"], values["IP"]) == ("hush", "hush!", "10.244.0.2")
        assert config["args"] == ["hush!"]

    play(tmp_path, scene)


def test_a_missing_secret_is_told_in_the_containers_status(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        env = [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}}]
        world.add(pod("web", container("main", env=env)))
        await asyncio.sleep(3)
        waiting = world.container("web")["state"]["waiting"]
        assert waiting == {"reason": "CreateContainerConfigError", "message": 'secret "key" not found'}
        assert world.phase("web") == "Pending"

    play(tmp_path, scene)


def test_an_image_that_is_nowhere(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        runtime: SimulatedRuntime = world.runtime
        runtime.missing_images.add("web:1")
        world.add(pod("web"))
        await asyncio.sleep(1)
        assert world.container("web")["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
        await world.until(lambda: world.container("web")["state"]["waiting"]["reason"] == "ImagePullBackOff", 30)
        assert world.phase("web") == "Pending"
        runtime.missing_images.clear()
        await world.until(lambda: world.ready("web"), 400)

    play(tmp_path, scene)


def test_a_pod_deleted_while_its_image_is_pulled_waits_for_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(world: World) -> None:
        async def stuck(*_: object) -> str:
            await asyncio.sleep(3600)
            return ""

        monkeypatch.setattr(world.runtime, "pull_image", stuck)
        world.add(pod("web", containers=[{"name": "main", "image": "web:latest", "imagePullPolicy": "Always"}]))
        await world.until(lambda: world.status("web").get("podIP"), 5)
        world.api.delete_pod("web")
        await world.until(lambda: not world.api.has_pod("web"), 5)

    play(tmp_path, scene)


def test_a_pod_whose_volumes_the_node_cannot_have_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        async def mount(_: object) -> object:
            raise TooManyVolumes("Node has reached its volume attachment limit, rejecting pod.")

        monkeypatch.setattr(world.kubelet.volumes, "mount", mount)
        world.add(pod("web"))
        await world.until(lambda: world.phase("web") == "Failed", 5)
        await asyncio.sleep(5)
        status = world.status("web")
        assert (status["phase"], status["reason"]) == ("Failed", "VolumeAttachmentLimitExceeded")
        assert status["message"] == "Pod was rejected: Node has reached its volume attachment limit, rejecting pod."
        assert world.started("main") == 0
        world.api.delete_pod("web")
        await world.until(lambda: not world.api.has_pod("web"), 40)

    play(tmp_path, scene)


def test_the_active_deadline_ends_a_pod(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("late", activeDeadlineSeconds=30))
        await world.until(lambda: world.ready("late"), 5)
        await world.until(lambda: world.phase("late") == "Failed", 40)
        assert world.status("late")["reason"] == "DeadlineExceeded"
        assert 29 <= world.clock.monotonic() <= 35

    play(tmp_path, scene)


def test_a_lost_network_makes_the_node_unready_and_holds_new_pods(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        from tiphys.kubelet.runtime.service import Condition

        def node_ready() -> str:
            conditions = world.api.objects["/api/v1/nodes/node-1"]["status"]["conditions"]
            return str(next(c["status"] for c in conditions if c["type"] == "Ready"))

        world.runtime.conditions[1] = Condition(
            "NetworkReady", status=False, reason="NetworkPluginNotReady", message="no plugin"
        )
        await world.until(lambda: node_ready() == "False", 10)
        world.add(pod("web"))
        world.add(pod("host", hostNetwork=True))
        await world.until(lambda: world.ready("host"), 5)
        assert world.phase("web") == "Pending"
        assert world.status("host")["podIP"] == "192.0.2.10"
        world.runtime.conditions[1] = Condition("NetworkReady", status=True)
        await world.until(lambda: node_ready() == "True" and world.ready("web"), 10)

    play(tmp_path, scene)


def test_hooks(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        ran: list[str] = []

        def note(_: str, command: object) -> ExecResult:
            ran.append(" ".join(command))  # type: ignore[arg-type]
            return ExecResult(b"", b"", 1 if "bad" in ran[-1] else 0)

        world.runtime._run_command = note
        lifecycle = {"postStart": {"exec": {"command": ["greet"]}}, "preStop": {"exec": {"command": ["part"]}}}
        world.add(pod("polite", container("main", lifecycle=lifecycle)))
        await world.until(lambda: world.ready("polite"), 5)
        world.api.delete_pod("polite")
        await world.until(lambda: not world.api.has_pod("polite"), 60)
        assert ran == ["greet", "part"]
        failing = {"postStart": {"exec": {"command": ["bad"]}}}
        world.add(pod("rude", container("main", lifecycle=failing)))
        await asyncio.sleep(1)
        assert ("FailedPostStartHook", "PostStartHook failed") in world.api.events()

    play(tmp_path, scene)


def test_fifty_pods_at_once(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        names = [f"web-{number}" for number in range(50)]
        for name in names:
            world.add(pod(name))
        await world.until(lambda: all(world.ready(name) for name in names), 10)
        for name in names:
            world.api.delete_pod(name)
        await world.until(lambda: not any(world.api.has_pod(name) for name in names), 10)

    play(tmp_path, scene)


def test_resources_of_a_running_container_change_in_place(tmp_path: Path) -> None:
    def wanting(cpu: str, **more: object) -> dict[str, object]:
        limits = {"cpu": cpu, "memory": "64Mi"}
        return pod("web", container("main", resources={"requests": limits, "limits": limits}, **more))

    async def scene(world: World) -> None:
        first = world.add(wanting("1"))
        await world.until(lambda: world.ready("web"), 5)
        identity = world.container("web")["containerID"].rpartition("/")[2]

        def resize(cpu: str) -> None:
            shown = world.api.pod("web")
            spec = wanting(cpu, resizePolicy=first["spec"]["containers"][0].get("resizePolicy"))["spec"]
            world.add({**shown, "spec": spec, "metadata": {**shown["metadata"], "generation": 2}})

        resize("2")
        await world.until(lambda: world.container("web")["resources"]["limits"]["cpu"] == "2", 5)
        assert (await world.runtime.container_status(identity)).resources["cpu_quota"] == 200_000  # type: ignore[index]
        assert world.started("main") == 1

        resize("9")
        await world.until(lambda: world.condition("web", "PodResizePending") == "True", 5)
        pending = next(c for c in world.status("web")["conditions"] if c["type"] == "PodResizePending")
        assert pending["reason"] == "Infeasible"
        assert pending["message"] == "Node didn't have enough capacity: cpu, requested: 9000, capacity: 4000"
        assert world.container("web")["resources"]["limits"]["cpu"] == "2"
        assert (await world.runtime.container_status(identity)).resources["cpu_quota"] == 200_000  # type: ignore[index]

        resize("3")
        await world.until(lambda: world.container("web")["resources"]["limits"]["cpu"] == "3", 5)
        assert world.started("main") == 1

    play(tmp_path, scene)


def test_a_resize_that_takes_a_restart(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]

        def wanting(cpu: str) -> dict[str, object]:
            return pod("web", container("main", resources={"limits": {"cpu": cpu}}, resizePolicy=policy))

        world.add(wanting("1"))
        await world.until(lambda: world.ready("web"), 5)
        shown = world.api.pod("web")
        world.add({**shown, "spec": wanting("2")["spec"]})
        await world.until(lambda: world.container("web")["restartCount"] == 1 and world.ready("web"), 10)
        assert ("Killing", "Container main resize requires restart, will be restarted") in world.api.events()

    play(tmp_path, scene)


def test_a_kubelet_serves_a_cluster(tmp_path: Path) -> None:
    """Against our own API server, with the rights of a node and no more."""
    import random

    from tiphys.kubelet.config import KubeletConfig
    from tiphys.kubelet.kubelet import Kubelet
    from tiphys.kubelet.node.machine import MachineInfo
    from tiphys.testing.cluster import Cluster

    with Cluster(nodes=0) as cluster:
        client = cluster.client_for("kubelet", "system:node:real", ("system:nodes", "system:authenticated"))
        config = KubeletConfig(
            "real",
            root=tmp_path / "kubelet",
            node_ips=("192.0.2.1",),
            log_root=str(tmp_path / "logs"),
            container_log_links="",
            cgroups_per_qos=False,
            memory_volumes=False,
            serve=False,
        )
        machine = MachineInfo(4, 8 << 30, 100 << 30, "amd64", "m", "s", "b", "6.1", "Debian")
        running: list[asyncio.Task[None]] = []

        async def start() -> SimulatedRuntime:
            runtime = SimulatedRuntime(cluster.clock)
            kubelet = Kubelet(
                config=config,
                client=client,
                runtime=runtime,
                images=runtime,
                clock=cluster.clock,
                machine=machine,
                rng=random.Random(1),
            )
            running.append(asyncio.ensure_future(kubelet.run()))
            return runtime

        runtime = cluster.run(start())
        authority = {"name": "kube-root-ca.crt", "namespace": "default"}
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": authority, "data": {"ca.crt": "CERT"}})
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
        spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
        meta = {"name": "web", "namespace": "default"}
        cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})

        def ready() -> int:
            status = (cluster.get("apps/v1", "Deployment", "web") or {}).get("status") or {}
            return int(status.get("readyReplicas") or 0)

        cluster.wait_until(lambda: ready() == 3)
        token = next((tmp_path / "kubelet/pods").glob("*/volumes/kubernetes.io~projected/*/token")).read_text()
        assert token.count(".") == 2
        cluster.delete("apps/v1", "Deployment", "web")
        cluster.wait_until(lambda: not cluster.list("v1", "Pod"), 120)
        cluster.run_for(1)
        assert cluster.run(runtime.list_containers()) == []

        async def stop() -> None:
            running[0].cancel()
            await asyncio.gather(*running, return_exceptions=True)

        cluster.run(stop())


def test_a_soft_threshold_ends_a_pod_in_time_and_gives_it_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World) -> None:
        left = [500 << 20]
        ended: list[int | None] = []
        world.kubelet._eviction._signals = lambda: {"memory.available": Signal(left[0], 8 << 30)}
        kill = world.kubelet.workers.kill

        def noted(pod: Pod, grace: int | None = None, ending: Ending | None = None) -> None:
            ended.append(grace)
            kill(pod, grace, ending)

        monkeypatch.setattr(world.kubelet.workers, "kill", noted)
        world.add(pod("greedy", terminationGracePeriodSeconds=15))
        await world.until(lambda: world.ready("greedy"), 5)
        left[0] = 150 << 20
        await world.clock.sleep(55)
        assert not ended
        await world.until(lambda: world.phase("greedy") == "Failed", 60)
        assert ended == [15]
        assert "Threshold quantity: 200Mi, available: 150Mi. " in world.status("greedy")["message"]

    def adjust(config: KubeletConfig) -> None:
        config.eviction_soft, config.eviction_soft_grace = {"memory.available": "200Mi"}, {"memory.available": 60.0}
        config.eviction_longest_grace = 20

    play(tmp_path, scene, adjust=adjust)


def test_a_node_short_of_memory_ends_a_pod_and_says_so(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        left = [500 << 20]
        world.kubelet._eviction._signals = lambda: {"memory.available": Signal(left[0], 8 << 30)}
        modest = container("main", resources={"requests": {"memory": "1Gi"}})
        world.add(pod("important", modest, priority=1000))
        world.add(pod("greedy"))
        await world.until(lambda: world.ready("important") and world.ready("greedy"), 5)
        left[0] = 50 << 20
        await world.until(lambda: world.phase("greedy") == "Failed", 30)
        status = world.status("greedy")
        assert status["reason"] == "Evicted"
        text = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        assert status["message"] == text
        assert ("EvictionThresholdMet", "Attempting to reclaim memory") in world.api.events()
        assert world.condition("greedy", "DisruptionTarget") == "True"
        left[0] = 500 << 20
        assert world.ready("important")

        def node_condition() -> str:
            conditions = world.api.objects["/api/v1/nodes/node-1"]["status"]["conditions"]
            return str(next(c["status"] for c in conditions if c["type"] == "MemoryPressure"))

        await world.until(lambda: node_condition() == "True", 20)
        world.add(pod("late"))
        await world.until(lambda: world.phase("late") == "Failed", 5)
        assert world.status("late")["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
        await world.until(lambda: node_condition() == "False", 400)

    play(tmp_path, scene)

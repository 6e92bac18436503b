"""Taking pods in, making room for critical ones, and what the kubelet tells of its node and of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kubelet.world import (
    NODE,
    World,
    container,
    play,
    pod,
)
from tiphys.api.object import Object
from tiphys.kubelet.node.machine import swaps_memory_volumes
from tiphys.kubelet.pod.admission import admit
from tiphys.kubelet.pod.intake import counts
from tiphys.kubelet.pod.preemption import NoRoom, pods_to_preempt
from tiphys.kubelet.pod.workers import WorkerPhase
from tiphys.kubelet.volumes.images import shown_images

CRITICAL = {"priority": 2_000_001_000, "priorityClassName": "system-node-critical"}


def asking(name: str, cpu: str = "", memory: str = "", *, limits: bool = False, **spec: object) -> Object:
    amounts = {key: text for key, text in (("cpu", cpu), ("memory", memory)) if text}
    resources = {"requests": amounts, **({"limits": amounts} if limits else {})} if amounts else {}
    return pod(name, container("main", resources=resources), **spec)


BEST = asking("best")
SMALL, LARGE = asking("small", "200m", "100Mi"), asking("large", "1", "1Gi")
SURE = asking("sure", "1", "1Gi", limits=True)


@pytest.mark.parametrize(
    ("shortage", "names"),
    [
        ({"cpu": 100}, ["small"]),
        ({"cpu": 500}, ["large"]),
        ({"cpu": 1100}, ["large", "small"]),
        ({"cpu": 1300}, ["large", "sure"]),
        ({"memory": 200 << 20}, ["large"]),
        ({"pods": 1}, ["best"]),
        ({"pods": 1, "cpu": 100}, ["small"]),
        ({"cpu": 2200}, ["large", "small", "sure"]),
    ],
)
def test_the_fewest_and_least_of_pods_go(shortage: dict[str, int], names: list[str]) -> None:
    critical = asking("needed", "1", **CRITICAL)
    chosen = pods_to_preempt(critical, [SURE, LARGE, BEST, SMALL], shortage)
    assert sorted(one["metadata"]["name"] for one in chosen) == names


def test_no_room_for_what_no_pod_frees() -> None:
    critical = asking("needed", "1", **CRITICAL)
    with pytest.raises(NoRoom, match=r"reclaim resources: \[\(res: cpu, q: 800\), \]"):
        pods_to_preempt(critical, [SURE, LARGE, BEST, SMALL], {"cpu": 3000})
    with pytest.raises(NoRoom):
        pods_to_preempt(critical, [asking("peer", "1", **CRITICAL)], {"cpu": 500})
    with pytest.raises(NoRoom):
        pods_to_preempt(asking("usual", "1", priority=5), [LARGE], {"cpu": 500})


def test_a_critical_pod_hears_of_resources_last() -> None:
    node = {
        "metadata": {"name": NODE, "labels": {}},
        "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}},
    }
    wanted = asking("needed", "2", "2Gi", nodeSelector={"a": "b"}, **CRITICAL)
    rejection = admit(wanted, node, [], apparmor=True)
    assert rejection is not None
    assert rejection.reason == "NodeAffinity"
    rejection = admit(asking("needed", "2", "2Gi", **CRITICAL), node, [], apparmor=True)
    assert rejection is not None
    assert (rejection.reason, dict(rejection.shortage)) == ("OutOfcpu", {"cpu": 1000, "memory": 1 << 30})


def test_room_is_made_for_a_critical_pod(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(asking("one", "2"))
        world.add(asking("two", "1500m"))
        await world.until(lambda: world.ready("one") and world.ready("two"), 5)
        world.add(asking("needed", "2", **CRITICAL))
        await world.until(lambda: world.ready("needed"), 60)
        assert (world.phase("two"), world.phase("one")) == ("Failed", "Running")
        status = world.status("two")
        assert (status["reason"], status["message"]) == ("Preempting", "Preempted in order to admit critical pod")
        disrupted = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert disrupted["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
        assert ("Preempting", "Preempted in order to admit critical pod") in world.api.events()
        world.add(asking("huge", "40", **CRITICAL))
        await world.until(lambda: world.phase("huge") == "Failed", 5)
        assert world.status("huge")["reason"] == "UnexpectedAdmissionError"
        assert world.phase("one") == "Running"

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("phase", "shown", "expected"),
    [
        (WorkerPhase.SYNC, "Pending", True),
        (WorkerPhase.SYNC, "Running", True),
        (WorkerPhase.SYNC, "Failed", False),
        (WorkerPhase.SYNC, "Succeeded", False),
        (WorkerPhase.TERMINATING, "Running", True),
        (WorkerPhase.TERMINATING, "Failed", True),
        (WorkerPhase.TERMINATING, "Succeeded", True),
        (WorkerPhase.TERMINATED, "Running", False),
        (WorkerPhase.TERMINATED, "Failed", False),
        (WorkerPhase.FINISHED, "Running", False),
        (WorkerPhase.FINISHED, "Succeeded", False),
    ],
)
def test_who_takes_room_from_new_pods(phase: WorkerPhase, shown: str, expected: bool) -> None:
    """By upstream's filter of inactive pods: ended ones, and those that came to their end and are not being stopped."""
    assert counts({**asking("one", "1"), "status": {"phase": shown}}, phase) is expected


@pytest.mark.parametrize(
    ("grace", "name", "outcome"),
    [(0, "new", ("Running", None)), (0, "old", ("Running", None)), (30, "new", ("Failed", "OutOfcpu"))],
)
def test_only_a_pod_that_the_api_still_has_takes_room(
    tmp_path: Path, grace: int, name: str, outcome: tuple[str, str | None]
) -> None:
    """Its containers take their time to end either way. A pod that is deleted by force has a successor at once."""

    async def scene(world: World) -> None:
        world.add(asking("old", "3"))
        await world.until(lambda: world.ready("old"), 5)
        stop = world.runtime.stop_container

        async def slow(container_id: str, grace: int) -> None:
            await world.clock.sleep(20)
            await stop(container_id, grace)

        world.runtime.stop_container = slow  # type: ignore[method-assign]
        world.api.delete_pod("old", grace)
        successor = asking(name, "3")
        successor["metadata"]["uid"] = "uid-successor"
        world.add(successor)
        await world.until(lambda: world.phase(name) != "Pending", 60)
        assert world.kubelet.workers.phase("uid-old") is WorkerPhase.TERMINATING
        assert (world.phase(name), world.status(name).get("reason")) == outcome

    play(tmp_path, scene)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_pod_deleted_while_the_node_is_read_never_starts(tmp_path: Path, deleted: bool) -> None:
    async def scene(world: World) -> None:
        node_path = f"/api/v1/nodes/{NODE}"
        read, asked = world.kubelet.client.get, asyncio.Event()
        answer = asyncio.Event()

        async def slow(resource: object, name: str, *more: object, **options: object) -> Object:
            if name == NODE and not options:
                asked.set()
                await answer.wait()
            return await read(resource, name, *more, **options)  # type: ignore[arg-type, return-value]

        world.kubelet.client.get = slow  # type: ignore[method-assign, assignment]
        world.add(pod("picky", nodeSelector={"kind": "new"}))
        await asyncio.wait_for(asked.wait(), 5)
        shown = world.api.objects[node_path]
        labels = {**shown["metadata"]["labels"], "kind": "new"}
        world.api.put("/api/v1/nodes", {**shown, "metadata": {**shown["metadata"], "labels": labels}})
        if deleted:
            world.api.delete_pod("picky", 0)
        answer.set()
        await world.clock.sleep(5)
        assert world.started("main") == (0 if deleted else 1)
        assert ("uid-picky" in world.kubelet.workers.known()) is not deleted

    play(tmp_path, scene)


def test_a_node_tells_when_it_is_cordoned_and_when_it_was_rebooted(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        path = f"/api/v1/nodes/{NODE}"

        def reasons() -> list[str]:
            return [reason for reason, _ in world.api.events() if reason in ("NodeNotSchedulable", "NodeSchedulable")]

        for unschedulable in (True, False):
            shown = world.api.objects[path]
            world.api.put("/api/v1/nodes", {**shown, "spec": {"unschedulable": unschedulable}})
            await world.clock.sleep(25)
        assert reasons() == ["NodeNotSchedulable", "NodeSchedulable"]
        assert "Rebooted" not in [reason for reason, _ in world.api.events()]
        await world.stop()
        shown = world.api.objects[path]
        before = {**shown["status"], "nodeInfo": {**shown["status"]["nodeInfo"], "bootID": "another"}}
        world.api.put("/api/v1/nodes", {**shown, "status": before})
        world.kubelet = world.new_kubelet()
        await world.start()
        await world.until(lambda: ("Rebooted", f"Node {NODE} has been rebooted, boot id: b") in world.api.events(), 30)

    play(tmp_path, scene)


def test_a_pod_that_outlives_its_grace_is_told_of(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("stuck"))
        await world.until(lambda: world.ready("stuck"), 5)
        stop = world.runtime.stop_container

        async def slow(container_id: str, grace: int) -> None:
            await world.clock.sleep(30)
            await stop(container_id, grace)

        world.runtime.stop_container = slow  # type: ignore[method-assign]
        world.kubelet._evict(world.api.pod("stuck"), "no room", signal="nodefs.available", disrupted=True)
        await world.until(lambda: world.phase("stuck") == "Failed", 60)
        text = "Container runtime did not kill the pod within specified grace period."
        assert world.api.events().count(("ExceededGracePeriod", text)) == 1

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("swaps", "release", "answer"),
    [("head\n", "5.10.0", False), ("head\n/dev/sda\n", "5.10.0-1-amd64", True), ("head\n/dev/sda\n", "6.4.0", False)],
)
def test_swap_under_volumes_in_memory(tmp_path: Path, swaps: str, release: str, answer: bool) -> None:
    (tmp_path / "swaps").write_text(swaps)
    assert swaps_memory_volumes(tmp_path / "swaps", release) is answer


def test_a_pod_that_was_refused_shows_why(tmp_path: Path) -> None:
    """Nothing of it ever ran, so nothing is said of containers: clients would show that instead of the reason."""

    async def scene(world: World) -> None:
        world.add(asking("big", "40"))

        def as_it_was() -> bool:
            status = world.status("big")
            return status["reason"] == "OutOfcpu" and not {"containerStatuses", "conditions"} & status.keys()

        await world.until(lambda: world.phase("big") == "Failed", 5)
        await world.clock.sleep(30)
        assert as_it_was()
        await world.restart()
        await world.clock.sleep(30)
        assert as_it_was()
        world.api.delete_pod("big")
        await world.until(lambda: not world.api.has_pod("big"), 30)

    play(tmp_path, scene)


def test_what_ended_before_the_kubelet_came_back_keeps_its_words(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("once", container("main", "false"), restartPolicy="Never"))
        await world.until(lambda: world.phase("once") == "Failed", 10)
        await world.clock.sleep(10)
        before = world.status("once")
        assert before["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
        await world.stop()
        for sandbox in await world.runtime.list_sandboxes():
            await world.runtime.remove_sandbox(sandbox.id)
        world.kubelet = world.new_kubelet()
        await world.start()
        await world.clock.sleep(30)
        assert world.status("once") == before

    play(tmp_path, scene)


def test_the_first_of_two_static_pods_of_one_name_counts(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        source = {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "h"}
        one, two = (pod("agent") for _ in range(2))
        for number, static in enumerate((one, two)):
            static["metadata"] |= {"uid": f"static-{number}", "annotations": source}
        world.kubelet._static.follow("file")([one, two])
        await world.clock.sleep(10)
        assert world.started("main") == 1
        text = 'Error validating pod agent_default(static-1) from file due to duplicate pod name "agent", ignoring'
        assert ("FailedValidation", text) in world.api.events()

    play(tmp_path, scene)


def static(name: str, cpu: str) -> Object:
    """A static pod, as the folder's reader gives it."""
    made = pod(name, container(name, resources={"requests": {"cpu": cpu}}))
    made["metadata"] |= {
        "uid": f"static-{name}",
        "annotations": {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "h"},
    }
    return made


def test_static_pods_are_admitted_against_what_the_node_has(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("guest", container("guest", resources={"requests": {"cpu": "3"}})))
        await world.until(lambda: world.ready("guest"), 10)
        large = static("large", "5")
        world.kubelet._static.follow("file")([large])
        await world.clock.sleep(10)
        reason, text = next(event for event in world.api.events() if event[0] == "UnexpectedAdmissionError")
        assert text == (
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of"
            " pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]"
        )
        world.kubelet._static.follow("file")([large])
        await world.clock.sleep(10)
        assert [event[0] for event in world.api.events()].count(reason) == 1
        assert world.started("large") == 0
        world.kubelet._static.follow("file")([static("small", "2")])
        await world.until(lambda: world.started("small") == 1, 60)
        assert world.phase("guest") == "Failed"
        assert ("Preempting", "Preempted in order to admit critical pod") in world.api.events()
        world.kubelet._static.follow("file")([])
        await world.until(lambda: world.kubelet.workers.phase("static-small") is None, 60)

    play(tmp_path, scene)


def test_static_pods_are_admitted_before_the_node_is_known(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.kubelet.node.node = None
        world.kubelet._static.follow("file")([static("large", "5"), static("small", "1")])
        await world.until(lambda: world.started("small") == 1, 10)
        assert world.started("large") == 0

    play(tmp_path, scene)


def test_a_volume_that_takes_long_to_be_given_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiphys.kubelet.volumes import manager

    async def scene(world: World) -> None:
        async def slow(*_: object) -> None:
            await world.clock.sleep(45)

        monkeypatch.setattr(manager.asyncio, "to_thread", slow)
        world.add(pod("web", securityContext={"fsGroup": 4321}, volumes=[{"name": "v", "emptyDir": {}}]))
        await world.until(lambda: world.ready("web"), 100)
        told = [text for reason, text in world.api.events() if reason == "VolumePermissionChangeInProgress"]
        assert len(told) == 1
        assert told[0].startswith("Setting volume ownership for uid-web/volumes/kubernetes.io~empty-dir/v is taking")
        monkeypatch.undo()

    play(tmp_path, scene)


def test_what_ran_before_keeps_its_place_over_a_restart(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(asking("zebra", "3"))
        await world.until(lambda: world.ready("zebra"), 5)
        await world.stop()
        await world.clock.sleep(30)
        world.add(asking("ant", "3"))
        world.kubelet = world.new_kubelet()
        await world.start()
        await world.until(lambda: world.phase("ant") == "Failed", 10)
        assert world.ready("zebra")
        assert world.started("main") == 1

    play(tmp_path, scene)


def test_an_image_that_a_volume_shows_is_in_use(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        volumes = [
            {"name": name, "image": {"reference": image}} for name, image in (("a", "tool"), ("b", "No!"), ("c", ""))
        ]
        world.add(pod("web", volumes=volumes))
        await world.clock.sleep(5)
        assert shown_images(world.kubelet.all_pods()) == {"docker.io/library/tool:latest"}
        assert "need containerd, whose socket is not known" in str(world.api.events())

    play(tmp_path, scene)

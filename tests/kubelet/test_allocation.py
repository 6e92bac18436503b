"""What a pod was given stays what it has, whatever it asks for meanwhile; a deadline counts whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubelet import simulated
from tests.kubelet.world import (
    World,
    container,
    play,
    pod,
)
from tiphys.api.object import Object
from tiphys.kubelet.pod.allocation import Allocations


def wanting(name: str, cpu: str) -> Object:
    amounts = {"cpu": cpu, "memory": "64Mi"}
    return pod(name, container("main", resources={"requests": amounts, "limits": amounts}))


def resize(world: World, name: str, cpu: str, generation: int) -> None:
    shown = world.api.pod(name)
    meta = {**shown["metadata"], "generation": generation}
    world.add({**shown, "spec": wanting(name, cpu)["spec"], "metadata": meta})


def condition(world: World, type_: str) -> Object:
    return next((c for c in world.status("web").get("conditions") or [] if c["type"] == type_), {})


async def quota(world: World) -> int:
    identity = world.container("web")["containerID"].rpartition("/")[2]
    resources = (await world.runtime.container_status(identity)).resources or {}
    return int(resources["cpu_quota"])


def test_a_deferred_resize_is_given_by_no_restart(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(wanting("neighbour", "2"))
        world.add(wanting("web", "1"))
        await world.until(lambda: world.ready("web") and world.ready("neighbour"), 5)
        resize(world, "web", "3", 2)
        await world.until(lambda: bool(condition(world, "PodResizePending")), 5)

        async def still_deferred() -> None:
            pending = condition(world, "PodResizePending")
            assert (pending["reason"], pending["observedGeneration"]) == ("Deferred", 2)
            assert world.container("web")["allocatedResources"]["cpu"] == "1"
            assert world.container("web")["resources"]["limits"]["cpu"] == "1"
            assert await quota(world) == 100_000

        await still_deferred()
        world.runtime._end(world.container("web")["containerID"].rpartition("/")[2], 1)
        await world.until(lambda: world.container("web").get("restartCount") == 1 and world.ready("web"), 60)
        await still_deferred()
        await world.restart()
        await world.until(lambda: world.kubelet.status.get("uid-web") is not None, 60)
        await still_deferred()
        # What is not given is free for others.
        world.add(wanting("other", "1"))
        await world.until(lambda: world.ready("other"), 60)

        world.api.delete_pod("neighbour")
        world.api.delete_pod("other")
        await world.until(lambda: world.container("web")["resources"]["limits"]["cpu"] == "3", 60)
        assert await quota(world) == 300_000
        assert world.container("web")["allocatedResources"]["cpu"] == "3"
        await world.until(lambda: "ResizeCompleted" in [reason for reason, _ in world.api.events()], 60)
        assert condition(world, "PodResizePending") == condition(world, "PodResizeInProgress") == {}
        told = [text for reason, text in world.api.events() if reason == "ResizeStarted"]
        resources = '{"requests":{"cpu":"3","memory":"64Mi"},"limits":{"cpu":"3","memory":"64Mi"}}'
        what = f'{{"containers":[{{"name":"main","resources":{resources}}}],"generation":2}}'
        assert told == [f"Pod resize started: {what}"]
        assert [reason for reason, _ in world.api.events()].count("ResizeDeferred") == 2  # once a run of the kubelet

    play(tmp_path, scene)


def test_a_runtime_that_refuses_a_resize_is_told_of(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(wanting("web", "1"))
        await world.until(lambda: world.ready("web"), 5)

        async def refuse(container_id: str, resources: Object) -> None:
            raise simulated.RuntimeFailure("no room in this cgroup")

        allow, world.runtime.update_container_resources = world.runtime.update_container_resources, refuse  # type: ignore[method-assign]
        resize(world, "web", "2", 2)
        await world.until(lambda: condition(world, "PodResizeInProgress").get("reason") == "Error", 30)
        assert "no room in this cgroup" in condition(world, "PodResizeInProgress")["message"]
        assert "ResizeError" in [reason for reason, _ in world.api.events()]
        world.runtime.update_container_resources = allow  # type: ignore[method-assign]
        await world.until(lambda: world.container("web")["resources"]["limits"]["cpu"] == "2", 60)
        await world.until(lambda: not condition(world, "PodResizeInProgress"), 5)

    play(tmp_path, scene)


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    one, two = wanting("web", "1"), wanting("web", "2")
    first = Allocations(tmp_path)
    assert first.applied(two) is two
    first.admit(one)
    assert first.applied(two)["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"
    first.admit(two)
    assert Allocations(tmp_path).applied(two)["spec"] == one["spec"]
    for damage in ("", "[]", '{"pod": 1', "{}"):
        (tmp_path / "pods" / "uid-web" / "allocation.json").write_text(damage)
        assert Allocations(tmp_path).applied(two) is two


@pytest.mark.parametrize("code", [0, 143])
def test_a_deadline_counts_whatever_the_containers_say(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "_TERMINATED", code)

    async def scene(world: World) -> None:
        world.add(pod("late", activeDeadlineSeconds=30, restartPolicy="Never"))
        world.add(pod("done", container("main", "sleep", "5"), activeDeadlineSeconds=30, restartPolicy="Never"))
        await world.until(lambda: world.phase("late") == "Failed" and world.phase("done") == "Succeeded", 40)
        assert world.status("late")["reason"] == "DeadlineExceeded"
        assert world.container("late")["state"]["terminated"]["exitCode"] == code
        await world.clock.sleep(60)
        assert (world.phase("late"), world.status("late")["reason"]) == ("Failed", "DeadlineExceeded")
        assert world.phase("done") == "Succeeded"
        assert "reason" not in world.status("done")

    play(tmp_path, scene)


def test_a_pod_that_starts_while_others_are_cleaned_up_keeps_its_volumes(tmp_path: Path) -> None:
    """The set of known pods is looked at when a folder is to go, not before the wait that came first."""

    async def scene(world: World) -> None:
        housekeeping = world.kubelet._housekeeping
        (tmp_path / "kubelet" / "pods" / "orphan" / "volumes").mkdir(parents=True)
        end = housekeeping._end_orphan
        world.kubelet.pleg.running_pods = lambda: ["lost"]  # type: ignore[method-assign]

        async def slow(uid: str) -> None:
            world.add(pod("web", volumes=[{"name": "v", "emptyDir": {}}]))
            await world.until(lambda: world.ready("web"), 5)
            await end(uid)

        housekeeping._end_orphan = slow  # type: ignore[method-assign]
        await housekeeping.clean_up()
        assert (tmp_path / "kubelet/pods/uid-web/volumes/kubernetes.io~empty-dir/v").is_dir()
        assert not (tmp_path / "kubelet/pods/orphan").exists()

    play(tmp_path, scene)

"""A callback of the kubelet that raises once for one pod: the other pods are looked after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import Fault
from tests.kubelet.world import World, play, pod

Place = Callable[[World], tuple[Any, str]]
PLACES: dict[str, Place] = {
    "a pod is admitted": lambda world: (world.kubelet._intake, "_check"),
    "a pod is synced": lambda world: (world.kubelet.workers._syncer, "sync"),
    "the runtime is listed": lambda world: (world.kubelet.pleg, "relist"),
    "a change is told": lambda world: (world.kubelet.pleg, "_changed"),
    "a status is sent": lambda world: (world.kubelet.status, "_send"),
    "a probe's state is asked for": lambda world: (world.kubelet.probes, "_status"),
    "housekeeping": lambda world: (world.kubelet._housekeeping, "clean_up"),
    "pressure is measured": lambda world: (world.kubelet._eviction, "check"),
    "the node is reported": lambda world: (world.kubelet.node, "report"),
    "the runtime's health": lambda world: (world.kubelet.health, "check"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_raises_once_stops_no_other_pod(place: str, tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        probed = pod("before")
        probed["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["true"]}, "periodSeconds": 1}
        world.add(probed)
        await world.until(lambda: world.ready("before"), 10)
        fault = Fault(*PLACES[place](world))
        world.add(pod("first"))
        world.add(pod("second"))
        await world.until(lambda: world.ready("second"), 60)
        await world.until(lambda: fault.hits == 1, 400)
        world.add(pod("third"))
        await world.until(lambda: world.ready("third"), 60)
        if place != "a pod is admitted":  # the pod is seen again at its next change
            await world.until(lambda: world.ready("first"), 60)
        assert world.kubelet.unhealthy() == ""

    play(tmp_path, scene)


def test_a_loop_that_always_fails_shows_in_the_kubelets_health(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        Fault(world.kubelet._housekeeping, "clean_up", always=True)
        await world.until(lambda: "clean-up fails again and again" in world.kubelet.unhealthy(), 200)
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 10)

    play(tmp_path, scene)

"""How many nodes are made and which go, on small pictures of a cluster: pure, and by the scheduler's own framework."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.scheduler.world import World
from tests.scheduler.world import node as scheduler_node
from tests.scheduler.world import pod as scheduler_pod
from tiphys.addons.autoscaler.controller import AutoscalerConfig, with_bounds
from tiphys.addons.autoscaler.decision import SCALE_DOWN_DISABLED, Group, Picture, grow, is_empty, shrink, unneeded
from tiphys.scheduler.cycle import Placement
from tiphys.scheduler.simulate import Simulation

GROUP = Group("auto", 0, 3)


def node(name: str, cpu: str = "2", *, ready: bool = True, **more: Any) -> Any:
    made = scheduler_node(name, cpu=cpu)
    made["status"]["conditions"] = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return {**made, "metadata": {**made["metadata"], **more}}


def pending(name: str, cpu: str = "1", **spec: Any) -> Any:
    made = scheduler_pod(name, cpu=cpu)
    made["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
    return {**made, "spec": {**made["spec"], **spec}}


def running(name: str, on: str, cpu: str = "1", **meta: Any) -> Any:
    made = scheduler_pod(name, on=on, cpu=cpu)
    return {**made, "metadata": {**made["metadata"], **meta}, "status": {"phase": "Running"}}


def picture(nodes: list[Any], pods: list[Any], **more: Any) -> Picture:
    template = scheduler_node("template", cpu="2")
    return Picture(nodes, pods, more.pop("daemon_sets", []), template, more.pop("now", 1000.0), **more)


def names(*pods: Any) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


FULL = [node("vm")], [running("a", "vm", "2")]


def test_a_pod_that_waits_for_room_gets_a_node() -> None:
    growth = grow(picture(FULL[0], [*FULL[1], pending("p")]), GROUP)
    assert growth.names == ("auto-1",)
    assert names(*growth.helped) == ["p"]


def test_pods_share_new_nodes_as_the_scheduler_would_pack_them() -> None:
    pods = [*FULL[1], *(pending(f"p{number}") for number in range(5))]  # two on each node
    assert grow(picture(FULL[0], pods), GROUP).names == ("auto-1", "auto-2", "auto-3")
    assert grow(picture(FULL[0], pods[:3]), GROUP).names == ("auto-1",)


def test_what_has_room_already_needs_no_node() -> None:
    assert grow(picture([node("vm")], [pending("p")]), GROUP).names == ()


def test_a_node_that_is_being_made_is_waited_for() -> None:
    pods = [*FULL[1], pending("p")]
    assert grow(picture(FULL[0], pods, made={"auto-1": 995.0}), GROUP).names == ()
    starting = [*FULL[0], {**node("auto-1", ready=False), "spec": {"taints": [NOT_READY]}}]
    assert grow(picture(starting, pods, made={"auto-1": 995.0}), GROUP).names == ()
    assert grow(picture(starting, pods, made={"auto-1": 300.0}), GROUP).names == ("auto-2",)  # it never came


NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def test_no_node_is_made_for_a_pod_that_would_not_go_there() -> None:
    pods = [
        pending("large", cpu="3"),
        pending("elsewhere", nodeSelector={"zone": "moon"}),
        pending("gated", schedulingGates=[{"name": "example.com/gate"}]),
    ]
    growth = grow(picture(FULL[0], [*FULL[1], *pods]), GROUP)
    assert growth.names == ()
    assert sorted(names(*growth.left)) == ["elsewhere", "gated", "large"]


def test_bounds_are_kept() -> None:
    pods = [*FULL[1], *(pending(f"p{number}", cpu="2") for number in range(9))]
    growth = grow(picture(FULL[0], pods), GROUP)
    assert growth.names == ("auto-1", "auto-2", "auto-3")
    assert len(growth.left) == 6
    assert grow(picture(*FULL), Group("auto", 2, 3)).names == ("auto-1", "auto-2")
    assert grow(picture([*FULL[0], node("auto-1")], FULL[1]), Group("auto", 2, 3)).names == ("auto-2",)


def test_more_important_pods_are_thought_of_first() -> None:
    pods = [*FULL[1], pending("low", cpu="2"), pending("high", cpu="2", priority=1000)]
    growth = grow(picture(FULL[0], pods), Group("auto", 0, 1))
    assert (names(*growth.helped), names(*growth.left)) == (["high"], ["low"])


def test_anti_affinity_asks_for_a_node_for_each() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    pods = [pending(f"p{number}", cpu="100m", affinity=apart) for number in range(3)]
    for pod in pods:
        pod["metadata"]["labels"] = {"app": "x"}
    assert grow(picture(FULL[0], [*FULL[1], *pods]), GROUP).names == ("auto-1", "auto-2", "auto-3")


def test_daemon_sets_take_their_share_of_a_new_node() -> None:
    template = {"metadata": {"labels": {}}, "spec": scheduler_pod("d", cpu="1500m")["spec"]}
    daemon_set = {"metadata": {"name": "d", "namespace": "default", "uid": "d"}, "spec": {"template": template}}
    pods = [*FULL[1], pending("p")]
    assert grow(picture(FULL[0], pods, daemon_sets=[daemon_set]), GROUP).names == ()  # 500m are left there
    small = [*FULL[1], pending("a"), pending("b"), pending("z", cpu="400m")]
    growth = grow(picture(FULL[0], small, daemon_sets=[daemon_set]), GROUP)
    assert (growth.names, names(*growth.helped), names(*growth.left)) == (("auto-1",), ["z"], ["a", "b"])
    template["spec"]["nodeSelector"] = {"zone": "moon"}  # it would not run there
    assert grow(picture(FULL[0], pods, daemon_sets=[daemon_set]), GROUP).names == ("auto-1",)


# Fewer


def owned(kind: str) -> Any:
    return {"ownerReferences": [{"kind": kind, "name": "o", "controller": True}]}


def test_a_node_is_empty_if_nothing_runs_but_what_runs_everywhere() -> None:
    everywhere = [running("d", "auto-1", **owned("DaemonSet")),
                  running("s", "auto-1", annotations={"kubernetes.io/config.mirror": "x"})]  # fmt: skip
    done = {**running("j", "auto-1"), "status": {"phase": "Succeeded"}}
    assert is_empty(node("auto-1"), [*everywhere, done, running("x", "other")])
    assert not is_empty(node("auto-1"), [*everywhere, running("w", "auto-1", **owned("ReplicaSet"))])


def test_only_nodes_of_the_group_go_and_none_while_a_pod_waits() -> None:
    nodes = [node("vm"), node("auto-1"), node("auto-2", annotations={SCALE_DOWN_DISABLED: "true"}), node("auto-x")]
    assert unneeded(picture(nodes, []), GROUP) == ["auto-1"]
    assert unneeded(picture(nodes, [pending("p", cpu="9")]), GROUP) == []
    starting = [node("auto-1", ready=False)]
    assert unneeded(picture(starting, [], made={"auto-1": 999.0}), GROUP) == []
    assert unneeded(picture(starting, [], made={"auto-1": 1.0}), GROUP) == ["auto-1"]


@pytest.mark.parametrize(
    ("candidates", "since", "members", "least", "goes"),
    [
        (["auto-1", "auto-2"], {"auto-1": 950.0, "auto-2": 900.0}, 2, 0, "auto-2"),
        (["auto-1"], {"auto-1": 901.0}, 1, 0, ""),
        (["auto-1"], {"auto-1": 900.0}, 1, 1, ""),
        (["auto-1"], {}, 1, 0, ""),
        ([], {}, 3, 0, ""),
    ],
)
def test_the_node_that_was_empty_longest_goes_after_the_delay(
    candidates: list[str], since: dict[str, float], members: int, least: int, goes: str
) -> None:
    assert shrink(candidates, since, 1000.0, 100.0, Group("auto", least, 9), members) == goes


@pytest.mark.parametrize(("text", "says"), [("", "is not MIN:MAX"), ("3", "is not MIN:MAX"), ("a:b", "is not MIN:MAX"),
                                            ("3:1", "above the most"), ("1:2:", "is not MIN:MAX")])  # fmt: skip
def test_bounds_that_make_no_sense(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        with_bounds(AutoscalerConfig(GROUP), text)
    assert with_bounds(AutoscalerConfig(GROUP), "1:5:pool").group == Group("pool", 1, 5)


# It agrees with the scheduler


@pytest.mark.parametrize("seed", range(20))
def test_a_simulation_places_what_the_scheduler_places(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [scheduler_node(f"n{number}", cpu=str(rng.randint(1, 4))) for number in range(rng.randint(1, 5))]
    there = [
        scheduler_pod(f"t{n}", on=rng.choice(nodes)["metadata"]["name"], cpu="500m") for n in range(rng.randint(0, 4))
    ]
    world, simulation = World(nodes, there), Simulation(nodes, there)
    for number in range(12):
        pod = scheduler_pod(f"p{number}", cpu=rng.choice(["250m", "1", "2", "5"]))
        outcome = world.schedule(pod)
        placed = simulation.place(pod)
        assert bool(placed) == isinstance(outcome, Placement), (seed, number)
        if isinstance(outcome, Placement):
            assert placed
            world.cache.assume(_assumed(pod, placed))
        else:
            assert simulation.why(pod) == outcome.message.partition(" preemption:")[0].rstrip() or outcome.message


def _assumed(pod: Any, node_name: str) -> Any:
    from tiphys.scheduler.framework.podinfo import PodInfo

    return PodInfo(pod).assumed_on(node_name)

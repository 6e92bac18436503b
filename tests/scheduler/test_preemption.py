"""Whose pods have to go, and whose do not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scheduler.world import World, anti_affinity, node, pod
from tiphys.scheduler.cycle import Failure, Placement
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.plugins.default_preemption import Candidate, least_damage, split_by_budget


def outcome(world: World, described: dict[str, Any]) -> Failure:
    found = world.schedule(described)
    assert isinstance(found, Failure)
    return found


def victims(world: World, described: dict[str, Any]) -> tuple[str, set[str]]:
    """The node that is chosen, and who has to go there."""
    _, plugin = world.framework.profile.post_filter
    seen: list[Candidate] = []
    plugin._evict = lambda pod, candidate: seen.append(candidate) or _nothing()  # type: ignore[attr-defined]
    failure = outcome(world, described)
    (candidate,) = seen
    assert failure.nominate == candidate.node
    return candidate.node, {victim.name for victim in candidate.victims}


async def _nothing() -> None:
    return None


def test_the_fewest_and_least_important_pods_go() -> None:
    there = [
        pod("low1", on="a", cpu="1", priority=1),
        pod("low2", on="a", cpu="1", priority=2),
        pod("low3", on="a", cpu="2", priority=3),
    ]
    world = World([node("a", cpu="4")], there)
    assert victims(world, pod("p", cpu="2", priority=10)) == ("a", {"low1", "low2"})


def test_the_node_with_the_least_damage_is_taken() -> None:
    there = [pod("a1", on="a", cpu="4", priority=5), pod("b1", on="b", cpu="4", priority=4)]
    world = World([node("a"), node("b")], there)
    assert victims(world, pod("p", cpu="1", priority=10)) == ("b", {"b1"})


def test_pods_in_the_way_by_anti_affinity_go() -> None:
    there = [pod("rival", on="a", labels={"app": "web"}), pod("bystander", on="a", labels={"app": "x"})]
    world = World([node("a")], there)
    assert victims(world, pod("p", priority=1, affinity=anti_affinity("web"))) == ("a", {"rival"})


def test_equal_priority_does_not_preempt() -> None:
    world = World([node("a", cpu="1")], [pod("there", on="a", cpu="1", priority=5)])
    assert outcome(world, pod("p", cpu="1", priority=5)).message == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )


def test_preemption_policy_never() -> None:
    world = World([node("a", cpu="1")], [pod("there", on="a", cpu="1")])
    message = outcome(world, pod("p", cpu="1", priority=5, preemptionPolicy="Never")).message
    assert message.endswith(
        "1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    )


def test_it_waits_for_victims_that_are_terminating() -> None:
    victim = pod("victim", on="a", cpu="1")
    victim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    victim["status"] = {"conditions": [condition]}
    world = World([node("a", cpu="1")], [victim])
    failure = outcome(world, pod("p", cpu="1", priority=5, status={"nominatedNodeName": "a"}))
    assert failure.message.endswith("preemption: not eligible due to a terminating pod on the nominated node.")
    assert failure.nominate is None


def test_the_promised_room_is_not_given_to_others() -> None:
    world = World([node("a", cpu="2"), node("b", cpu="1")])
    world.handle.nominator.add(PodInfo(pod("important", cpu="2", priority=10)), "a")
    assert world.place(pod("p", cpu="1", priority=1)) == "b"
    assert world.place(pod("vip", cpu="1", priority=20)) == "a"


def test_the_nominated_pod_takes_its_node() -> None:
    world = World([node("a"), node("b")])
    important = pod("important", cpu="2", priority=10)
    world.handle.nominator.add(PodInfo(important), "b")
    found = world.schedule(important)
    assert isinstance(found, Placement)
    assert found.node == "b"


def _budget(allowed: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "pdb", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed},
    }


def test_budgets_spare_pods_where_others_can_go() -> None:
    there = [
        pod("web", on="a", cpu="2", priority=1, labels={"app": "web"}),
        pod("batch", on="a", cpu="2", priority=2),
    ]
    world = World([node("a", cpu="4")], there)
    assert victims(world, pod("p1", cpu="2", priority=9)) == ("a", {"web"})
    world.store("poddisruptionbudgets", _budget(0))
    assert victims(world, pod("p2", cpu="2", priority=9)) == ("a", {"batch"})


def test_a_budget_is_used_up_pod_by_pod() -> None:
    pods = [PodInfo(pod(f"w{i}", labels={"app": "web"})) for i in range(3)] + [PodInfo(pod("x"))]
    violating, fine = split_by_budget(pods, [_budget(2)])
    assert [p.name for p in violating] == ["w2"]
    assert [p.name for p in fine] == ["w0", "w1", "x"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((0, [(9, "2026-01-01")]), (1, [(1, "2026-01-01")])),  # budgets first
        ((0, [(2, "2026-01-01")]), (0, [(3, "2026-01-01")])),  # then the most important victim
        ((0, [(3, "2026-01-01"), (1, "2026-01-01")]), (0, [(3, "2026-01-01"), (2, "2026-01-01")])),  # then their sum
        ((0, [(3, "2026-02-01")]), (0, [(3, "2026-01-01")])),  # then the younger
    ],
)
def test_order_of_damage(better: Any, worse: Any) -> None:
    def candidate(name: str, described: Any) -> Candidate:
        violations, listed = described
        found = [PodInfo(pod(f"{name}{i}", priority=p, status={"startTime": s})) for i, (p, s) in enumerate(listed)]
        return Candidate(name, tuple(found), violations)

    options = [candidate("worse", worse), candidate("better", better)]
    assert least_damage(options).node == least_damage(options[::-1]).node == "better"

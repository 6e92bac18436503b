"""Deciding for all nodes at once gives what deciding one by one gives: for random clusters and pods."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from tests.scheduler.world import World, affinity, anti_affinity, node, pod, preferred, spread
from tiphys.api.scheduling.nodeselector import takes_node
from tiphys.api.scheduling.taints import HARD, taints_of, tolerations_of, untolerated
from tiphys.scheduler import table
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo

APPS = ("a", "b", "c")
ZONES = ("z1", "z2", "z3")


def random_node(rng: random.Random, i: int) -> dict[str, Any]:
    more: dict[str, Any] = {"labels": {"disk": rng.choice(("ssd", "hdd"))}}
    if rng.random() < 0.2:
        effect = rng.choice(("NoSchedule", "PreferNoSchedule", "NoExecute"))
        more["taints"] = [{"key": "k", "value": rng.choice(("v", "w")), "effect": effect}]
    if rng.random() < 0.1:
        more["unschedulable"] = True
    if rng.random() < 0.5:
        more["images"] = {"app:1": 300_000_000, "other:1": 900_000_000}
    if rng.random() < 0.3:
        more["resources"] = {"example.com/gpu": "2"}
    zone = rng.choice(ZONES) if rng.random() < 0.9 else ""
    return node(
        f"n{i}", cpu=str(rng.randint(1, 8)), memory=f"{rng.randint(1, 16)}Gi", pods=rng.randint(1, 8), zone=zone, **more
    )


def random_pod(rng: random.Random, i: int) -> dict[str, Any]:
    more: dict[str, Any] = {"labels": {"app": rng.choice(APPS)}}
    roll = rng.random
    if roll() < 0.3:
        more["nodeSelector"] = {"disk": rng.choice(("ssd", "hdd"))}
    if roll() < 0.3:
        meant = rng.choice(({"operator": "Exists"}, {"key": "k", "operator": "Exists"}, {"key": "k", "value": "v"}))
        more["tolerations"] = [{**meant, "effect": rng.choice(("", "NoSchedule"))}]
    if roll() < 0.2:
        more["ports"] = [rng.choice((80, 81))]
    if roll() < 0.2:
        more["requests"] = {"example.com/gpu": "1"}
    key = rng.choice(("kubernetes.io/hostname", "topology.kubernetes.io/zone"))
    if roll() < 0.4:
        kinds = (
            affinity(rng.choice(APPS), key),
            anti_affinity(rng.choice(APPS), key),
            preferred("podAffinity", rng.choice(APPS), key=key),
            preferred("podAntiAffinity", rng.choice(APPS), key=key),
        )
        more["affinity"] = rng.choice(kinds)
    if roll() < 0.3:
        weight, expression = rng.randint(1, 100), {"key": "disk", "operator": "In", "values": ["ssd"]}
        term = {"weight": weight, "preference": {"matchExpressions": [expression]}}
        more.setdefault("affinity", {})["nodeAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": [term]}
    if roll() < 0.4:
        when = rng.choice(("DoNotSchedule", "ScheduleAnyway"))
        extra = {"nodeTaintsPolicy": "Honor"} if roll() < 0.5 else {"minDomains": 3} if when == "DoNotSchedule" else {}
        more["topologySpreadConstraints"] = [spread(rng.choice(APPS), key, rng.randint(1, 2), when, **extra)]
    cpu = rng.choice(("", "100m", "1", "3"))
    return pod(
        f"p{i}", cpu=cpu, memory=rng.choice(("", "100Mi", "2Gi")), image=rng.choice(("app:1", "other:1", "x:1")), **more
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_forms_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    nodes = [random_node(rng, i) for i in range(rng.randint(2, 40))]
    worlds = []
    for threshold in (1, 10**9):
        monkeypatch.setattr(table, "VECTOR_THRESHOLD", threshold)
        worlds.append(World(nodes))
    vector, single = worlds
    vector.store("services", {"metadata": {"name": "a", "namespace": "default"}, "spec": {"selector": {"app": "a"}}})
    single.store("services", {"metadata": {"name": "a", "namespace": "default"}, "spec": {"selector": {"app": "a"}}})
    if seed % 2:  # half of the nodes have no such resource, which then is this class's affair
        behind = {"metadata": {"name": "c"}, "spec": {"extendedResourceName": "example.com/gpu"}}
        vector.store("deviceclasses", behind)
        single.store("deviceclasses", behind)
    for i in range(60):
        described = random_pod(rng, i)
        info = PodInfo(described)
        monkeypatch.setattr(table, "VECTOR_THRESHOLD", 10**9)
        objections = single.objections(described)
        expected = {name for name, status in objections.items() if status is None}
        monkeypatch.setattr(table, "VECTOR_THRESHOLD", 1)
        state = CycleState()
        _, _, status = vector.framework.pre_filter(state, info)
        assert status is None
        rows = vector.framework.filter_rows(state, info)
        assert {vector.cache.table.node(int(row)).name for row in rows} == expected, (seed, described)
        listed = {name: status for name, status in objections.items() if status is not None}
        assert vector.framework.objections(state, info) == listed
        if len(rows) > 1:
            _compare_scores(vector, single, info, state, rows, monkeypatch, seed)
        if expected:
            _place_in_both(rng, worlds, info, rng.choice(sorted(expected)))


@pytest.mark.parametrize("seed", range(5))
def test_the_vector_forms_mean_what_the_shared_definitions_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taints and node selectors for all nodes at once, against one question for each node."""
    monkeypatch.setattr(table, "VECTOR_THRESHOLD", 1)
    rng = random.Random(seed)
    nodes = {described["metadata"]["name"]: described for described in (random_node(rng, i) for i in range(30))}
    world = World(list(nodes.values()))
    plugins = {plugin.name: plugin for plugin in world.framework.profile.filter}
    for i in range(40):
        described = random_pod(rng, i)
        info, state = PodInfo(described), CycleState()
        tolerations = tolerations_of(described["spec"])
        meant = {
            "TaintToleration": lambda node: not untolerated(taints_of(node), tolerations, HARD),  # noqa: B023
            "NodeAffinity": lambda node: takes_node(described["spec"], node),  # noqa: B023
        }
        for name, fits in meant.items():
            mask = plugins[name].filter_all(state, info)
            rows = {world.cache.table.node(row).name for row in range(len(nodes)) if mask is None or mask[row]}
            assert rows == {name for name, node in nodes.items() if fits(node)}, (seed, described)


def _compare_scores(
    vector: World, single: World, info: PodInfo, state: CycleState, rows: Any, monkeypatch: Any, seed: int
) -> None:
    nodes = [vector.cache.table.node(int(row)) for row in rows]
    assert vector.framework.pre_score(state, info, nodes) is None
    totals = vector.framework.score_rows(state, info, rows)
    monkeypatch.setattr(table, "VECTOR_THRESHOLD", 10**9)
    other = CycleState()
    single.framework.pre_filter(other, info)
    same = [single.cache.table.get(n.name) for n in nodes]
    assert single.framework.pre_score(other, info, same) is None  # type: ignore[arg-type]
    expected = np.array(single.framework.score(other, info, same))  # type: ignore[arg-type]
    # What is equal for all nodes is left out of the vector form.
    assert list(totals - totals.min()) == list(expected - expected.min()), (seed, info.obj)


def _place_in_both(rng: random.Random, worlds: list[World], info: PodInfo, name: str) -> None:
    for world in worlds:
        world.cache.set_pod(info.assumed_on(name))
    if rng.random() < 0.2:
        for world in worlds:
            world.cache.remove_pod(info.uid)


def test_counts_follow_every_change() -> None:
    """Columns that are kept up to date hold what counting anew gives, also when nodes come and go."""
    rng = random.Random(3)
    world = World([random_node(rng, i) for i in range(20)])
    for i in range(300):
        step = rng.random()
        if step < 0.1 and len(world.cache.table) > 5:
            world.cache.remove_node(rng.choice([n.name for n in world.cache.table]))
        elif step < 0.2:
            world.cache.add_node(random_node(rng, rng.randint(0, 40)))
        elif step < 0.35:
            world.cache.remove_pod(f"uid-p{rng.randint(0, i)}")
        else:
            described = random_pod(rng, i)
            world.schedule(described)
            names = [n.name for n in world.cache.table]
            world.cache.set_pod(PodInfo(described | {"spec": described["spec"] | {"nodeName": rng.choice(names)}}))
    fresh = World([n.obj for n in world.cache.table], [p.obj for n in world.cache.table for p in n.pods.values()])
    for i in range(30):
        described = random_pod(rng, 1000 + i)
        assert world.objections(described) == fresh.objections(described)
        assert world.scores(described) == fresh.scores(described)

"""What each plugin decides, and the words in which it says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scheduler.world import World, affinity, anti_affinity, node, pod, preferred, spread
from tiphys.scheduler.config import PluginSet, ProfileConfig
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.plugins.registry import ConfigError

NO_VICTIMS = (
    "no new claims to deallocate, preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
)


def test_no_nodes() -> None:
    assert World().refusal(pod("p")) == "no nodes available to schedule pods"


def test_resources_are_summed_up_per_node_with_all_reasons() -> None:
    world = World([node("a", cpu="1", memory="1Gi"), node("b", cpu="8", memory="1Gi")])
    message = world.refusal(pod("p", cpu="4", memory="2Gi"))
    expected = "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. "
    assert message == expected + NO_VICTIMS.format(n=2)


def test_too_many_pods_and_nothing_to_preempt() -> None:
    world = World([node("a", pods=1)], [pod("there", on="a")])
    assert world.refusal(pod("p")) == (
        "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )


def test_extended_resources() -> None:
    world = World([node("a"), node("b", resources={"example.com/gpu": "2"})])
    asking = {"requests": {"example.com/gpu": "1"}}
    assert [world.place(pod(f"p{i}", **asking)) for i in range(2)] == ["b", "b"]
    assert "2 Insufficient example.com/gpu" in world.refusal(pod("p3", **asking))


def test_init_containers_sidecars_and_overhead_count() -> None:
    described = pod("p", cpu="1")
    described["spec"]["initContainers"] = [
        {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"name": "init", "resources": {"requests": {"cpu": "2"}}},
    ]
    described["spec"]["overhead"] = {"cpu": "100m"}
    assert PodInfo(described).requests["cpu"] == 2600
    described["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert PodInfo(described).requests["cpu"] == 3100


def test_taints() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    world = World([node("a", taints=[taint])])
    assert world.refusal(pod("p")).startswith(
        "0/1 nodes are available: 1 node(s) had untolerated taint(s). no new claims"
    )
    assert world.place(pod("p", tolerations=[{"key": "k", "operator": "Equal", "value": "v"}])) == "a"


def test_soft_taints_score() -> None:
    taint = {"key": "k", "effect": "PreferNoSchedule"}
    world = World([node("a", taints=[taint]), node("b")])
    assert {world.place(pod(f"p{i}")) for i in range(3)} == {"b"}


def test_cordoned_nodes() -> None:
    world = World([node("a", unschedulable=True)])
    assert "1 node(s) were unschedulable" in world.refusal(pod("p"))
    tolerant = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}
    assert world.place(pod("p", tolerations=[tolerant])) == "a"


def _required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def test_node_selector_and_affinity() -> None:
    world = World([node("a", labels={"disk": "hdd", "gen": "3"}), node("b", labels={"disk": "ssd", "gen": "7"})])
    assert world.place(pod("p1", nodeSelector={"disk": "ssd"})) == "b"
    newer = _required({"matchExpressions": [{"key": "gen", "operator": "Gt", "values": ["5"]}]})
    assert world.place(pod("p2", affinity=newer)) == "b"
    no_match = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
    assert world.refusal(pod("p3", nodeSelector={"disk": "tape"})) == no_match + NO_VICTIMS.format(n=2)


def test_affinity_to_nodes_by_name_looks_at_those_alone() -> None:
    world = World([node("a"), node("b", pods=0)])
    only = _required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]})
    message = world.refusal(pod("p", affinity=only))
    assert message.startswith(
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
        "no new claims to deallocate, preemption: "
    )
    fields = [{"key": "metadata.name", "operator": "In", "values": [name]} for name in ("a", "b")]
    conflict = _required({"matchFields": fields})
    assert world.refusal(pod("p", affinity=conflict)).startswith(
        "0/2 nodes are available: pod affinity terms conflict. not found"
    )


def test_preferred_node_affinity_scores() -> None:
    world = World([node(name, labels={"disk": kind}) for name, kind in (("a", "hdd"), ("b", "ssd"))])
    term = {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
    prefers = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert world.place(pod("p", affinity=prefers)) == "b"


def test_host_ports_collide_per_address() -> None:
    world = World([node("a")], [pod("there", on="a", ports=[80])])
    assert "1 node(s) didn't have free ports for the requested pod ports" in world.refusal(pod("p", ports=[80]))
    assert world.place(pod("q", ports=[81])) == "a"


def test_least_allocated_spreads_by_what_is_left() -> None:
    world = World([node("a"), node("b")], [pod("there", on="a", cpu="2", memory="1Gi")])
    assert world.place(pod("p", cpu="1", memory="1Gi")) == "b"


def test_most_allocated_packs() -> None:
    strategy = {"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}]}}
    profile = ProfileConfig(arguments={"NodeResourcesFit": strategy})
    world = World([node("a"), node("b")], [pod("there", on="a", cpu="2")], profile)
    assert {world.place(pod(f"p{i}", cpu="500m", memory="10Mi")) for i in range(2)} == {"a"}


def test_images_attract() -> None:
    nodes = [node("a"), node("b", images={"big:1": 900_000_000})]
    assert World(nodes).place(pod("p", image="big:1")) == "b"


def test_required_pod_affinity_and_the_first_of_its_kind() -> None:
    world = World([node("a", zone="z1"), node("b", zone="z2")])
    together = affinity("web", "topology.kubernetes.io/zone")
    first = world.place(pod("p0", labels={"app": "web"}, affinity=together))
    assert {world.place(pod(f"p{i}", labels={"app": "web"}, affinity=together)) for i in (1, 2)} == {first}
    message = world.refusal(pod("q", labels={"app": "other"}, affinity=affinity("missing")))
    assert "2 node(s) didn't match pod affinity rules" in message


def test_anti_affinity_both_ways() -> None:
    world = World([node("a"), node("b")])
    apart = anti_affinity("web")
    assert {world.place(pod(f"p{i}", labels={"app": "web"}, affinity=apart)) for i in range(2)} == {"a", "b"}
    alone = world.refusal(pod("p2", labels={"app": "web"}, affinity=apart))
    assert "2 node(s) didn't match pod anti-affinity rules" in alone
    existing = world.refusal(pod("plain", labels={"app": "web"}))
    assert "2 node(s) didn't satisfy existing pods anti-affinity rules" in existing


def test_namespaces_of_affinity_terms() -> None:
    world = World([node("a"), node("b")], [pod("there", on="a", namespace="prod", labels={"app": "web"})])
    world.cache.index.set_namespace("prod", {"tier": "one"})
    apart = anti_affinity("web")

    def allowed() -> set[str]:
        objections = world.objections(pod("p", affinity=apart))
        return {name for name, status in objections.items() if status is None}

    assert allowed() == {"a", "b"}
    (required,) = apart["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    required["namespaceSelector"] = {"matchLabels": {"tier": "one"}}
    assert allowed() == {"b"}
    world.cache.index.set_namespace("prod", {"tier": "two"})
    assert allowed() == {"a", "b"}


@pytest.mark.parametrize(("kind", "expected"), [("podAffinity", "a"), ("podAntiAffinity", "b")])
def test_preferred_pod_affinity(kind: str, expected: str) -> None:
    world = World([node("a"), node("b")], [pod("there", on="a", labels={"app": "web"})])
    assert world.place(pod("p", affinity=preferred(kind, "web", 100))) == expected


def test_hard_spreading() -> None:
    world = World([node(f"n{i}", zone=f"z{i % 2}") for i in range(4)] + [node("bare")])
    placed = [
        world.place(pod(f"p{i}", labels={"app": "web"}, topologySpreadConstraints=[spread("web")])) for i in range(6)
    ]
    zones = [int(name[1:]) % 2 for name in placed]
    assert zones.count(0) == zones.count(1) == 3
    full = World(
        [node("a", zone="z1", pods=1), node("b", zone="z2"), node("bare")],
        [pod("x", on="a"), pod("y", on="b", labels={"app": "web"})],
    )
    assert full.refusal(pod("p", labels={"app": "web"}, topologySpreadConstraints=[spread("web")])).startswith(
        "0/3 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) didn't match pod topology spread constraints (missing required label). "
    )


def test_min_domains_holds_back() -> None:
    world = World([node("a", zone="z1")], [pod("x", on="a", labels={"app": "web"})])
    constraint = spread("web", minDomains=2)
    assert "topology spread" in world.refusal(pod("p", labels={"app": "web"}, topologySpreadConstraints=[constraint]))


def test_pods_of_a_service_are_spread_by_default() -> None:
    world = World([node("a"), node("b")], [pod("x", on="a", labels={"app": "web"}, cpu="10m", memory="1Mi")])
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}
    scores = world.scores(pod("p", labels={"app": "web"}))
    world.store("services", service)
    spread_scores = world.scores(pod("p", labels={"app": "web"}))
    assert spread_scores["b"] - spread_scores["a"] > scores["b"] - scores["a"]


def test_match_label_keys_narrow_to_one_revision() -> None:
    there = [pod(f"old{i}", on="a", labels={"app": "web", "rev": "1"}) for i in range(3)]
    world = World([node("a", zone="z1"), node("b", zone="z2")], there)
    constraint = spread("web", matchLabelKeys=["rev"])
    described = pod("new", labels={"app": "web", "rev": "2"}, topologySpreadConstraints=[constraint])
    assert {name for name, status in world.objections(described).items() if status is None} == {"a", "b"}


def test_profiles_disable_and_reweigh() -> None:
    disabled = ProfileConfig(plugins={"filter": PluginSet(disabled=frozenset({"NodeUnschedulable"}))})
    assert World([node("a", unschedulable=True)], profile=disabled).place(pod("p")) == "a"
    with pytest.raises(ConfigError, match="plugin Nope is neither part of Tiphys nor an entry point"):
        World(profile=ProfileConfig(plugins={"score": PluginSet(enabled=(("Nope", 1),))}))
    with pytest.raises(ConfigError, match="NodeName does not extend score"):
        World(profile=ProfileConfig(plugins={"score": PluginSet(enabled=(("NodeName", 1),))}))
    with pytest.raises(ConfigError, match="at least one bind plugin"):
        World(profile=ProfileConfig(plugins={"bind": PluginSet(disabled=frozenset({"*"}))}))
    arguments = {"NodeResourcesFit": {"scoringStrategy": {"type": "RequestedToCapacityRatio"}}}
    with pytest.raises(ConfigError, match="scoringStrategy RequestedToCapacityRatio is not supported"):
        World(profile=ProfileConfig(arguments=arguments))

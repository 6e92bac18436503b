"""Transactions: only what changed, in an order in which every reference holds."""

from __future__ import annotations

from typing import Any

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.proxy.rules import Options, ServiceRules, service_rules
from tiphys.proxy.ruleset import NOTHING, Ruleset
from tiphys.proxy.state import Place

OPTIONS = Options(place=Place("node-1"))
KEY = ("default", "web")


def rules_for(*addresses: str, **spec: Any) -> ServiceRules:
    return service_rules(state_of(service(**spec), slice_of(*map(endpoint, addresses))), OPTIONS)


def test_the_same_rules_again_change_nothing() -> None:
    ruleset = Ruleset(OPTIONS)
    assert ruleset.update({KEY: rules_for("10.0.0.1")})
    assert ruleset.update({KEY: rules_for("10.0.0.1")}) == []


def test_another_endpoint_of_a_cluster_ip_is_one_element_more() -> None:
    ruleset = Ruleset(OPTIONS)
    ruleset.update(
        {KEY: rules_for("10.0.0.1"), ("d", "other"): rules_for("10.1.0.1", "10.1.0.2", cluster_ip="10.96.0.21")}
    )
    assert ruleset.update({KEY: rules_for("10.0.0.1", "10.0.0.2")}) == [
        "flush chain ip tiphys one-of/tcp/1",
        "delete element ip tiphys service-ips { 10.96.0.20 . tcp . 80 }",
        "add element ip tiphys service-ips { 10.96.0.20 . tcp . 80 : goto one-of/tcp/2 }",
        "add element ip tiphys tcp-endpoints { 10.96.0.20 . 80 . 1 : 10.0.0.2 . 8080 }",
        "add element ip tiphys hairpin-connections { 10.0.0.2 . 10.0.0.2 . tcp . 8080 }",
    ]


def test_another_endpoint_instead_is_another_element_of_the_choice() -> None:
    ruleset = Ruleset(OPTIONS)
    ruleset.update({KEY: rules_for("10.0.0.1", "10.0.0.2")})
    commands = ruleset.update({KEY: rules_for("10.0.0.1", "10.0.0.3")})
    assert "delete element ip tiphys tcp-endpoints { 10.96.0.20 . 80 . 1 }" in commands
    assert "add element ip tiphys tcp-endpoints { 10.96.0.20 . 80 . 1 : 10.0.0.3 . 8080 }" in commands
    assert {command.split()[1] for command in commands} == {"element"}


def test_a_shared_chain_is_written_once_and_stays_until_no_service_uses_it() -> None:
    ruleset = Ruleset(OPTIONS)
    other = ("d", "other")
    first = ruleset.update({KEY: rules_for("10.0.0.1"), other: rules_for("10.1.0.1", cluster_ip="10.96.0.21")})
    assert [command for command in first if "chain" in command] == [
        "add chain ip tiphys one-of/tcp/1",
        "flush chain ip tiphys one-of/tcp/1",
    ]
    assert not any("chain" in command for command in ruleset.update({KEY: NOTHING}))
    assert ruleset.chains() == {"one-of/tcp/1"}
    # One lets go of it, another takes it up, at once.
    taken = ruleset.update({other: NOTHING, KEY: rules_for("10.0.0.1")})
    assert taken.index("flush chain ip tiphys one-of/tcp/1") < next(
        number for number, command in enumerate(taken) if command.startswith("add rule ip tiphys one-of/tcp/1 ")
    )
    assert "flush chain ip tiphys one-of/tcp/1" in ruleset.update({KEY: NOTHING})
    assert not ruleset.chains()


def test_a_new_endpoint_of_a_node_port_rewrites_one_chain() -> None:
    ruleset = Ruleset(OPTIONS)
    ruleset.update({KEY: rules_for("10.0.0.1", type="NodePort")})
    commands = ruleset.update({KEY: rules_for("10.0.0.1", "10.0.0.2", type="NodePort")})
    assert [command.split()[:2] for command in commands] == [
        ["add", "chain"],
        ["flush", "chain"],
        ["add", "rule"],
        ["add", "rule"],
        ["add", "element"],
    ]
    assert commands[-1] == "add element ip tiphys hairpin-connections { 10.0.0.2 . 10.0.0.2 . tcp . 8080 }"


def test_the_last_endpoint_moves_the_element_between_the_maps() -> None:
    ruleset = Ruleset(OPTIONS)
    ruleset.update({KEY: rules_for("10.0.0.1")})
    commands = ruleset.update({KEY: rules_for()})
    assert "delete element ip tiphys service-ips { 10.96.0.20 . tcp . 80 }" in commands
    assert "add element ip tiphys no-endpoint-services { 10.96.0.20 . tcp . 80 : goto reject-chain }" in commands
    assert not any("cluster-ips" in command for command in commands)


def test_an_element_of_two_services_stays_until_both_are_gone() -> None:
    ruleset, shared = Ruleset(OPTIONS), ("service-ips", "203.0.113.9 . tcp . 80")
    one, two = (ServiceRules(elements={shared: f"goto {name}"}) for name in ("one", "two"))
    assert ruleset.update({("d", "one"): one}) == [f"add element ip tiphys {shared[0]} {{ {shared[1]} : goto one }}"]
    assert ruleset.update({("d", "two"): two}) == []
    assert ruleset.update({("d", "one"): NOTHING}) == [
        f"delete element ip tiphys {shared[0]} {{ {shared[1]} }}",
        f"add element ip tiphys {shared[0]} {{ {shared[1]} : goto two }}",
    ]
    assert ruleset.update({("d", "two"): NOTHING}) == [f"delete element ip tiphys {shared[0]} {{ {shared[1]} }}"]


def test_an_element_handed_over_within_one_transaction() -> None:
    ruleset, shared = Ruleset(OPTIONS), ("service-ips", "203.0.113.9 . tcp . 80")
    rules = ServiceRules(elements={shared: "goto same"})
    ruleset.update({("d", "one"): rules})
    assert ruleset.update({("d", "one"): NOTHING, ("d", "two"): rules}) == []


def test_another_affinity_timeout_replaces_the_set_after_its_chains_let_go() -> None:
    def sticky(seconds: int) -> ServiceRules:
        config = {"clientIP": {"timeoutSeconds": seconds}}
        return rules_for("10.0.0.1", sessionAffinity="ClientIP", sessionAffinityConfig=config)

    ruleset = Ruleset(OPTIONS)
    ruleset.update({KEY: sticky(60)})
    verbs = [" ".join(command.split()[:2]) for command in ruleset.update({KEY: sticky(90)})]
    assert verbs.index("flush chain") < verbs.index("delete set") < verbs.index("add set") < verbs.index("add rule")


def test_rebuilding_flushes_what_is_foreign_and_keeps_affinity() -> None:
    ruleset = Ruleset(OPTIONS)
    ruleset.update({KEY: rules_for("10.0.0.1", sessionAffinity="ClientIP")})
    (kept,) = rules_for("10.0.0.1", sessionAffinity="ClientIP").affinity_sets
    commands = ruleset.rebuild(["services", "service-OLD-d/old/tcp/"], [kept, "affinity-OLD-d/old/tcp/__1/2"])
    assert "flush chain ip tiphys service-OLD-d/old/tcp/" in commands
    assert "delete set ip tiphys affinity-OLD-d/old/tcp/__1/2" in commands
    assert f"delete set ip tiphys {kept}" not in commands
    assert "flush map ip tiphys service-ips" in commands

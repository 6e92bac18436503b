"""The rules of one service as text: what goes into which map, and what each chain does."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.proxy.rules import MOST_IN_TURN, Options, service_rules
from tiphys.proxy.state import Place

OPTIONS = Options(place=Place("node-1"), node_ip="192.168.50.1", from_pod="ip saddr 10.244.0.0/16")
HERE, THERE = endpoint("10.244.0.2"), endpoint("10.244.1.3", node="node-2")
WEB = "SUSTUHLJ-default/web/tcp/http"


def test_a_cluster_ip_has_elements_and_no_chain_of_its_own() -> None:
    rules = service_rules(state_of(service(), slice_of(HERE, THERE)), OPTIONS)
    assert rules.chains == {
        "one-of/tcp/2": ("dnat ip to ip daddr . tcp dport . numgen random mod 2 map @tcp-endpoints",)
    }
    assert rules.elements == {
        ("cluster-ips", "10.96.0.20"): "",
        ("service-ips", "10.96.0.20 . tcp . 80"): "goto one-of/tcp/2",
        ("tcp-endpoints", "10.96.0.20 . 80 . 0"): "10.244.0.2 . 8080",
        ("tcp-endpoints", "10.96.0.20 . 80 . 1"): "10.244.1.3 . 8080",
        ("hairpin-connections", "10.244.0.2 . 10.244.0.2 . tcp . 8080"): "",
    }


def test_a_cluster_ip_under_policy_local_chooses_among_local_endpoints() -> None:
    svc = service(protocol="UDP", internalTrafficPolicy="Local")
    rules = service_rules(state_of(svc, slice_of(HERE, THERE, protocol="UDP")), OPTIONS)
    assert rules.elements["service-ips", "10.96.0.20 . udp . 80"] == "goto one-of/udp/1"
    assert [key for key in rules.elements if key[0] == "udp-endpoints"] == [("udp-endpoints", "10.96.0.20 . 80 . 0")]


def test_what_is_reached_from_outside_too_has_a_chain() -> None:
    rules = service_rules(state_of(service(type="NodePort"), slice_of(HERE, THERE)), OPTIONS)
    assert rules.chains[f"service-{WEB}"] == (
        "numgen random mod 2 < 1 meta l4proto tcp dnat to 10.244.0.2:8080",
        "meta l4proto tcp dnat to 10.244.1.3:8080",
    )
    assert rules.elements["service-ips", "10.96.0.20 . tcp . 80"] == f"goto service-{WEB}"


def test_a_chain_chooses_from_many_endpoints_by_a_map() -> None:
    many = [endpoint(f"10.244.1.{n}", node="node-2") for n in range(MOST_IN_TURN + 1)]
    rules = service_rules(state_of(service(type="NodePort"), slice_of(*many)), OPTIONS)
    (rule,) = rules.chains[f"service-{WEB}"]
    assert rule.startswith("meta l4proto tcp dnat ip addr . port to numgen random mod 17 map { 0 : 10.244.1.0 . 8080, ")
    sticky = service_rules(state_of(service(sessionAffinity="ClientIP"), slice_of(HERE, THERE)), OPTIONS)
    choices = [rule.partition(" goto")[0] for rule in sticky.chains[f"service-{WEB}"][2:]]
    assert choices[0] == "numgen random mod 2 < 1"
    assert choices[1].startswith("goto endpoint-")


def test_node_port_goes_through_the_external_chain_and_is_masqueraded() -> None:
    rules = service_rules(state_of(service(type="NodePort"), slice_of(THERE)), OPTIONS)
    assert rules.elements["service-nodeports", "tcp . 30080"] == f"goto external-{WEB}"
    assert rules.chains[f"external-{WEB}"] == (
        'mark set mark or 0x4000 comment "masquerade"',
        f"goto service-{WEB}",
    )


def test_external_policy_local() -> None:
    svc = service(type="NodePort", externalTrafficPolicy="Local")
    rules = service_rules(state_of(svc, slice_of(HERE, THERE)), OPTIONS)
    assert rules.chains[f"external-{WEB}"] == (
        f'ip saddr 10.244.0.0/16 goto service-{WEB} comment "short-circuit pod traffic"',
        'fib saddr type local mark set mark or 0x4000 comment "masquerade local traffic"',
        f'fib saddr type local goto service-{WEB} comment "short-circuit local traffic"',
        f"goto local-{WEB}",
    )
    assert "10.244.1.3" not in rules.chains[f"local-{WEB}"][0]
    elsewhere = service_rules(state_of(svc, slice_of(THERE)), OPTIONS)
    assert elsewhere.elements["no-endpoint-nodeports", "tcp . 30080"] == "drop"
    assert f"local-{WEB}" not in elsewhere.chains
    assert elsewhere.chains[f"external-{WEB}"][-1].startswith("fib saddr type local goto")


def test_internal_policy_local_without_local_endpoints_drops() -> None:
    rules = service_rules(state_of(service(internalTrafficPolicy="Local"), slice_of(THERE)), OPTIONS)
    assert rules.elements["no-endpoint-services", "10.96.0.20 . tcp . 80"] == "drop"
    assert rules.chains == {}


def test_no_endpoints_at_all_refuses() -> None:
    svc = service(type="LoadBalancer", externalIPs=["203.0.113.9"], status=_ingress("203.0.113.5"))
    rules = service_rules(state_of(svc), OPTIONS)
    refused = {key: verdict for (container, key), verdict in rules.elements.items() if container != "cluster-ips"}
    assert refused == dict.fromkeys(
        ["10.96.0.20 . tcp . 80", "203.0.113.9 . tcp . 80", "203.0.113.5 . tcp . 80", "tcp . 30080"],
        "goto reject-chain",
    )


def test_source_ranges_let_the_balancers_own_address_in_where_the_node_is_in_range() -> None:
    svc = service(
        type="LoadBalancer",
        loadBalancerSourceRanges=[" 192.168.50.0/24", "10.0.0.0/9", "10.128.0.0/9"],
        status=_ingress("203.0.113.5"),
    )
    rules = service_rules(state_of(svc, slice_of(HERE)), OPTIONS)
    assert rules.elements["firewall-ips", "203.0.113.5 . tcp . 80"] == f"goto firewall-{WEB}"
    assert rules.chains[f"firewall-{WEB}"] == ("ip saddr != { 10.0.0.0/8, 192.168.50.0/24, 203.0.113.5/32 } drop",)


@pytest.mark.parametrize("ranges", [[], ["0.0.0.0/0", "10.0.0.0/8"]])
def test_open_source_ranges_make_no_firewall(ranges: list[str]) -> None:
    svc = service(type="LoadBalancer", loadBalancerSourceRanges=ranges, status=_ingress("203.0.113.5"))
    rules = service_rules(state_of(svc, slice_of(HERE)), OPTIONS)
    assert not any(container == "firewall-ips" for container, _ in rules.elements)


def test_affinity_gives_each_endpoint_a_chain_and_a_set() -> None:
    rules = service_rules(state_of(service(sessionAffinity="ClientIP"), slice_of(HERE, THERE)), OPTIONS)
    (first, second) = rules.affinity_sets
    assert set(rules.affinity_sets.values()) == {10800}
    chain = first.replace("affinity-", "endpoint-")
    assert rules.chains[chain] == (f"update @{first} {{ ip saddr }}", "meta l4proto tcp dnat to 10.244.0.2:8080")
    assert rules.chains[f"service-{WEB}"][:2] == (
        f"ip saddr @{first} goto {chain}",
        f"ip saddr @{second} goto {second.replace('affinity-', 'endpoint-')}",
    )


@pytest.mark.parametrize("protocol", ["udp", "sctp"])
def test_other_protocols_differ_in_their_name_only(protocol: str) -> None:
    def made(protocol: str) -> str:
        svc = service(protocol=protocol.upper(), type="NodePort", sessionAffinity="ClientIP")
        rules = service_rules(state_of(svc, slice_of(HERE, THERE, protocol=protocol.upper())), OPTIONS)
        text = f"{rules.chains} {rules.elements} {rules.affinity_sets}".replace(protocol, "PROTOCOL")
        return re.sub(r"-[A-Z2-7]{8}-", "-HASH-", text)

    assert made(protocol) == made("tcp")
    assert "10.96.0.20 . PROTOCOL . 80" in made(protocol)


def test_ipv6() -> None:
    svc = service(cluster_ip="fd00::20", sessionAffinity="ClientIP", type="NodePort")
    state = state_of(svc, slice_of(endpoint("fd00:1::2")), family="ip6")
    rules = service_rules(state, replace(OPTIONS, family="ip6", from_pod=""))
    assert rules.elements["service-ips", "fd00::20 . tcp . 80"] == f"goto service-{WEB}"
    assert any("dnat to [fd00:1::2]:8080" in line for lines in rules.chains.values() for line in lines)
    assert all(":" not in name for name in rules.chains)
    assert state_of(svc, slice_of(endpoint("fd00:1::2")), family="ip") == ()


def test_long_names_stay_within_the_kernels_limit_and_differ() -> None:
    def chain(last: str) -> str:
        state = state_of(service("n" * 240 + last, type="NodePort"), slice_of(HERE, name="n" * 240 + last))
        return next(iter(service_rules(state, OPTIONS).chains))

    assert len(chain("a")) <= 255
    assert chain("a") != chain("b")


def _ingress(ip: str) -> dict[str, object]:
    return {"loadBalancer": {"ingress": [{"ip": ip}, {"ip": "203.0.113.6", "ipMode": "Proxy"}, {"hostname": "x"}]}}

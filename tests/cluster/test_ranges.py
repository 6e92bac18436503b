"""The cluster's ranges of addresses: one IP family or two, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.cluster.networking.ranges import completed
from tiphys.cluster.settings import Settings, SettingsError

PODS, SERVICES = "10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112"


def made(node_ip: str = "192.0.2.1", **ranges: str) -> Settings:
    return completed(Settings(**ranges), node_ip, {6: "2001:db8::7", 4: "192.0.2.7"}.get)


def test_one_family_needs_nothing_more() -> None:
    assert made() == Settings(node_ip="192.0.2.1")


def test_a_second_family_gives_the_node_and_the_wire_a_second_address() -> None:
    settings = made(pod_cidr=PODS, service_cidr=SERVICES)
    assert settings.node_ips == ("192.0.2.1", "2001:db8::7")
    assert settings.node_cidrs == ("10.243.0.0/24", "fd00:10:243::/64")
    assert settings.node_pod_cidrs == ("10.244.0.0/24", "fd00:10:244::/64")
    assert (settings.kubernetes_ip, settings.dns_ip) == ("10.96.0.1", "10.96.0.10")
    assert made("192.0.2.1,2001:db8::9", pod_cidr=PODS).node_ips == ("192.0.2.1", "2001:db8::9")
    without = completed(Settings(pod_cidr=PODS, service_cidr=SERVICES), None, lambda _: None)
    assert without.node_ips == ("127.0.0.1",)
    assert completed(settings, None, lambda _: None) == settings


def test_with_ipv6_alone_the_nodes_wire_is_of_ipv6_too() -> None:
    settings = made("2001:db8::9", pod_cidr="fd00:10:244::/56", service_cidr="fd00:10:96::/112")
    assert (settings.node_ips, settings.node_cidrs) == (("2001:db8::9",), ("fd00:10:243::/64",))
    assert (settings.any_address, made().any_address) == ("::", "0.0.0.0")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pod_cidr": "nonsense"}, "--pod-cidr=nonsense: 'nonsense' does not appear"),
        ({"pod_cidr": "10.0.0.0/16,10.1.0.0/16"}, "one of IPv4 and one of IPv6"),
        ({"service_cidr": SERVICES}, "--service-cidr=.* and --pod-cidr=.* name different IP families"),
        ({"pod_cidr": "fd00::/56,10.0.0.0/16", "service_cidr": "10.96.0.0/16"}, "in the same order"),
        ({"pod_cidr": "fd00::/56", "service_cidr": "fd01::/112"}, "--node-ip=192.0.2.1 is an IPv4 address"),
        ({"pod_cidr": PODS, "node_cidr": "fd00::/64"}, "--node-cidr=fd00::/64"),
        ({"node_cidr": "fd00::/64"}, "--node-cidr=fd00::/64: name the IPv4 range first"),
        ({"load_balancer_pool": "many"}, "--load-balancer-pool=many: many is neither a network, nor"),
        ({"load_balancer_pool": "10.96.1.0/24"}, "overlaps --service-cidr=10.96.0.0/16"),
        ({"load_balancer_pool": "10.0.0.1-10.244.0.1"}, "overlaps --pod-cidr=10.244.0.0/16"),
        ({"load_balancer_pool": "192.0.2.0/24"}, "contains 192.0.2.1, which is this machine's own"),
        ({"load_balancer_pool": "10.243.0.0/28"}, "contains 10.243.0.1, which is this machine's own"),
    ],
)
def test_what_does_not_go_together_is_refused_by_flag(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made(**given)

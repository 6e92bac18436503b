"""The rules of iptables mode as text: what one service puts where, and what a change writes."""

from __future__ import annotations

from dataclasses import replace

from tests.proxy.objects import endpoint, service, slice_of, state_of
from tiphys.api.object import Object
from tiphys.proxy.iptables import names
from tiphys.proxy.iptables.backend import missing_jumps, removal
from tiphys.proxy.iptables.base import JUMPS
from tiphys.proxy.iptables.rules import ServiceRules, service_rules
from tiphys.proxy.iptables.ruleset import NOTHING, Ruleset
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Place, ServiceKey, ServicePort

OPTIONS = Options(
    place=Place("node-1"),
    node_ip="192.168.50.1",
    from_pod="-s 10.244.0.0/16",
    not_from_pod="! -s 10.244.0.0/16",
)
HERE, THERE = endpoint("10.244.0.2"), endpoint("10.244.1.3", node="node-2")
SVC, SVL, EXT, FW = (f"KUBE-{kind}-CDGGSHYLG3RE2FKL" for kind in ("SVC", "SVL", "EXT", "FW"))
SEP_HERE, SEP_THERE = "KUBE-SEP-QA4PSDNF5R2OJOPA", "KUBE-SEP-2AZ33KU3V5PGPQZH"
TO_CLUSTER_IP = "-d 10.96.0.20/32 -p tcp -m tcp --dport 80"
NAME = "default/web:http"


def made(svc: Object, *endpoints: Object) -> ServiceRules:
    return service_rules(state_of(svc, slice_of(*endpoints)), OPTIONS)


def test_chains_have_upstreams_names() -> None:
    api = ServicePort("default", "kubernetes", "https", "tcp", "10.96.0.1", 443)
    assert names.chains(api)[0] == "KUBE-SVC-NPX46M4PTMTKRN6Y"
    dns = ServicePort("kube-system", "kube-dns", "dns", "udp", "10.96.0.10", 53)
    assert names.chains(dns)[0] == "KUBE-SVC-TCOU7JCQXEZGVUNU"


def test_cluster_ip() -> None:
    rules = made(service(), HERE, THERE)
    assert rules.shared == {
        ("nat", "KUBE-SERVICES"): [f'-m comment --comment "{NAME} cluster IP" {TO_CLUSTER_IP} -j {SVC}'],
    }
    assert rules.chains == {
        SVC: (
            f"! -s 10.244.0.0/16 {TO_CLUSTER_IP} -j KUBE-MARK-MASQ",
            f"-m statistic --mode random --probability 0.5000000000 -j {SEP_HERE}",
            f"-j {SEP_THERE}",
        ),
        SEP_HERE: (
            "-s 10.244.0.2/32 -j KUBE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.0.2:8080",
        ),
        SEP_THERE: (
            "-s 10.244.1.3/32 -j KUBE-MARK-MASQ",
            "-p tcp -m tcp -j DNAT --to-destination 10.244.1.3:8080",
        ),
    }


def test_node_port_is_masqueraded_and_policy_local_keeps_the_clients_address() -> None:
    rules = made(service(type="NodePort"), THERE)
    assert rules.chains[EXT] == ("-j KUBE-MARK-MASQ", f"-j {SVC}")
    (line,) = rules.shared["nat", "KUBE-NODEPORTS"]
    assert line == f'-m comment --comment "{NAME}" -p tcp -m tcp --dport 30080 -j {EXT}'
    local = service(type="NodePort", externalTrafficPolicy="Local")
    rules = made(local, HERE, THERE)
    assert rules.chains[EXT] == (
        f"-s 10.244.0.0/16 -j {SVC}",
        "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        f"-m addrtype --src-type LOCAL -j {SVC}",
        f"-j {SVL}",
    )
    assert rules.chains[SVL] == (f"-j {SEP_HERE}",)
    elsewhere = made(local, THERE)
    (dropped,) = elsewhere.shared["filter", "KUBE-EXTERNAL-SERVICES"]
    assert dropped.endswith("-m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -j DROP")
    assert SVL not in elsewhere.chains


def test_without_endpoints_traffic_is_refused() -> None:
    rules = made(service(type="NodePort"))
    assert rules.chains == {}
    assert rules.shared == {
        ("filter", "KUBE-SERVICES"): [
            f'-m comment --comment "{NAME} has no endpoints" {TO_CLUSTER_IP} -j REJECT',
        ],
        ("filter", "KUBE-EXTERNAL-SERVICES"): [
            f'-m comment --comment "{NAME} has no endpoints" -m addrtype --dst-type LOCAL '
            "-p tcp -m tcp --dport 30080 -j REJECT",
        ],
    }


def test_internal_policy_local_without_local_endpoints_drops() -> None:
    rules = made(service(internalTrafficPolicy="Local"), THERE)
    assert rules.shared["filter", "KUBE-SERVICES"][0].endswith("-j DROP")


def test_affinity_notes_and_recalls_the_client() -> None:
    svc = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    rules = made(svc, HERE)
    assert rules.chains[SVC][1:] == (
        f"-m recent --name {SEP_HERE} --rcheck --seconds 60 --reap -j {SEP_HERE}",
        f"-j {SEP_HERE}",
    )
    assert rules.chains[SEP_HERE][1].startswith(f"-m recent --name {SEP_HERE} --set -p tcp")


def test_a_balancers_source_ranges_and_its_health_check() -> None:
    svc = service(
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        loadBalancerSourceRanges=["192.168.50.0/24"],
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}},
    )
    rules = made(svc, HERE)
    assert rules.chains[FW] == (f"-s 192.168.50.0/24 -j {EXT}", f"-s 203.0.113.5/32 -j {EXT}")
    to_balancer = "-d 203.0.113.5/32 -p tcp -m tcp --dport 80"
    assert rules.shared["nat", "KUBE-SERVICES"][1].endswith(f"{to_balancer} -j {FW}")
    (dropped,) = rules.shared["filter", "KUBE-PROXY-FIREWALL"]
    assert dropped.endswith(f"{to_balancer} -j DROP")
    assert "--dport 31000 -j ACCEPT" in rules.shared["filter", "KUBE-NODEPORTS"][0]


def test_sctp() -> None:
    svc = service(protocol="SCTP", type="NodePort")
    rules = service_rules(state_of(svc, slice_of(HERE, protocol="SCTP")), OPTIONS)
    assert "-d 10.96.0.20/32 -p sctp -m sctp --dport 80 -j KUBE-SVC-" in rules.shared["nat", "KUBE-SERVICES"][0]
    assert "-p sctp -m sctp --dport 30080 -j KUBE-EXT-" in rules.shared["nat", "KUBE-NODEPORTS"][0]
    (chain,) = (lines for name, lines in rules.chains.items() if "SEP" in name)
    assert chain[1] == "-p sctp -m sctp -j DNAT --to-destination 10.244.0.2:8080"


def test_ipv6() -> None:
    svc, there = service(cluster_ip="fd00:96::20"), endpoint("fd00::2")
    rules = service_rules(state_of(svc, slice_of(there), family="ip6"), replace(OPTIONS, family="ip6", not_from_pod=""))
    assert "-d fd00:96::20/128 -p tcp" in rules.shared["nat", "KUBE-SERVICES"][0]
    (chain,) = (lines for name, lines in rules.chains.items() if "SEP" in name)
    assert chain == ("-s fd00::2/128 -j KUBE-MARK-MASQ", "-p tcp -m tcp -j DNAT --to-destination [fd00::2]:8080")


def test_an_endpoints_change_writes_that_services_chains_only() -> None:
    rules = Ruleset(OPTIONS)
    rules.take({("default", f"s{n}"): numbered(n) for n in range(50)})
    rules.take({("default", "web"): made(service(), HERE)})
    text = changed(rules, {("default", "web"): made(service(), THERE)})
    assert text.splitlines() == [
        "*nat",
        f":{SEP_THERE} - [0:0]",
        f":{SVC} - [0:0]",
        f":{SEP_HERE} - [0:0]",
        f"-A {SEP_THERE} -s 10.244.1.3/32 -j KUBE-MARK-MASQ",
        f"-A {SEP_THERE} -p tcp -m tcp -j DNAT --to-destination 10.244.1.3:8080",
        f"-A {SVC} ! -s 10.244.0.0/16 {TO_CLUSTER_IP} -j KUBE-MARK-MASQ",
        f"-A {SVC} -j {SEP_THERE}",
        f"-X {SEP_HERE}",
        "COMMIT",
    ]
    assert changed(rules, {("default", "web"): made(service(), THERE)}) == ""


def changed(rules: Ruleset, changes: dict[ServiceKey, ServiceRules]) -> str:
    return rules.text(rules.take(changes))


def numbered(n: int) -> ServiceRules:
    name = f"s{n}"
    return service_rules(state_of(service(name, f"10.96.{n // 250}.{n % 250}"), slice_of(HERE, name=name)), OPTIONS)


def transactions(text: str) -> list[str]:
    return [part + "COMMIT\n" for part in text.split("COMMIT\n")[:-1]]


def test_many_services_are_written_in_parts_and_led_to_when_all_are_there() -> None:
    rules = Ruleset(OPTIONS)
    many = {("default", f"s{n}"): numbered(n) for n in range(400)}
    written = transactions(changed(rules, many))
    assert [part.count(":KUBE-S") - part.count(":KUBE-SERVICES") for part in written] == [300, 300, 200]
    assert [part.count("-A KUBE-SERVICES") for part in written] == [0, 0, 401]
    gone = transactions(changed(rules, dict.fromkeys(many, NOTHING)))
    assert [(part.count("-X KUBE-SVC-"), part.count("-X KUBE-SEP-")) for part in gone] == [
        (300, 0),
        (100, 200),
        (0, 200),
    ]
    assert [part.count(":KUBE-SERVICES") for part in gone] == [1, 0, 0]


def test_no_transaction_jumps_to_a_chain_that_comes_later() -> None:
    rules = Ruleset(OPTIONS)
    few = service("few", type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}})
    few["spec"]["loadBalancerSourceRanges"] = ["192.0.2.0/24"]
    many = [endpoint(f"10.244.{n // 250}.{n % 250}") for n in range(400)]
    crowded = state_of(service("crowded", "10.96.0.21"), slice_of(*many, name="crowded"))
    changes = {("default", f"s{n}"): numbered(n) for n in range(400)}
    changes["default", "few"] = made(few, HERE, THERE)
    changes["default", "crowded"] = service_rules(crowded, OPTIONS)
    text = changed(rules, changes)
    followed(
        text, {("nat", name) for name in names.FIXED["nat"]} | {("filter", name) for name in names.FIXED["filter"]}
    )
    followed(rules.rebuild([]), set())


def followed(text: str, there: set[tuple[str, str]]) -> None:
    """Check that each transaction jumps to and fills chains only that are ``there`` by then."""
    for lines in (part.splitlines() for part in transactions(text)):
        table = lines[0][1:]
        there |= {(table, line.split()[0][1:]) for line in lines if line.startswith(":")}
        rules = [line.split() for line in lines if line.startswith("-A")]
        needed = {(table, name) for rule in rules for name in (rule[1], rule[-1]) if name.startswith("KUBE-")}
        assert needed <= there


def test_a_service_that_goes_is_taken_out_of_the_shared_chains() -> None:
    rules = Ruleset(OPTIONS)
    rules.take({("default", "web"): made(service(), HERE)})
    text = changed(rules, {("default", "web"): NOTHING})
    assert text.splitlines() == [
        "*nat",
        f":{SVC} - [0:0]",
        f":{SEP_HERE} - [0:0]",
        f'-D KUBE-SERVICES -m comment --comment "{NAME} cluster IP" {TO_CLUSTER_IP} -j {SVC}',
        f"-X {SVC}",
        f"-X {SEP_HERE}",
        "COMMIT",
    ]


NODE_PORTS_LAST = "-m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j KUBE-NODEPORTS"


def test_a_service_that_comes_goes_ahead_of_node_ports() -> None:
    text = changed(Ruleset(OPTIONS), {("default", "web"): made(service(), HERE)})
    assert [line for line in text.splitlines() if "KUBE-SERVICES" in line] == [
        f"-D KUBE-SERVICES {NODE_PORTS_LAST}",
        f'-A KUBE-SERVICES -m comment --comment "{NAME} cluster IP" {TO_CLUSTER_IP} -j {SVC}',
        f"-A KUBE-SERVICES {NODE_PORTS_LAST}",
    ]


def test_the_last_endpoint_moves_a_rule_from_one_table_to_the_other() -> None:
    rules = Ruleset(OPTIONS)
    rules.take({("default", "web"): made(service(), HERE)})
    filtering, nat = transactions(changed(rules, {("default", "web"): made(service())}))
    refused = f'-A KUBE-SERVICES -m comment --comment "{NAME} has no endpoints" {TO_CLUSTER_IP} -j REJECT'
    assert filtering.splitlines() == ["*filter", refused, "COMMIT"]
    assert nat.splitlines()[3] == f'-D KUBE-SERVICES -m comment --comment "{NAME} cluster IP" {TO_CLUSTER_IP} -j {SVC}'


def test_rules_that_only_change_places_are_left_alone() -> None:
    addresses = [{"ip": "203.0.113.5"}, {"ip": "203.0.113.6"}]
    rules = Ruleset(OPTIONS)
    for order in (addresses, addresses[::-1]):
        svc = service(type="LoadBalancer", status={"loadBalancer": {"ingress": order}})
        text = changed(rules, {("default", "web"): made(svc, HERE)})
    assert text == ""


def test_a_shared_chain_that_nothing_leads_to_is_filled_in_parts() -> None:
    rules = Ruleset(OPTIONS)
    many = {("default", f"s{n}"): numbered(n) for n in range(1500)}
    rules.take(many)
    counts = [part.count("-A KUBE-SERVICES") for part in transactions(rules.rebuild([]))]
    assert [count for count in counts if count] == [1000, 501]
    counts = [part.count("-A KUBE-SERVICES") for part in transactions(rules.rebuild(["KUBE-SERVICES"]))]
    assert [count for count in counts if count] == [1501]


def test_a_full_sync_removes_what_another_proxy_left() -> None:
    rules = Ruleset(replace(OPTIONS, localhost_node_ports=True, node_port_ranges=("192.168.50.0/24",)))
    text = rules.rebuild(["KUBE-SVC-OLD", "KUBE-SERVICES", "MINE"])
    assert text.splitlines()[1:3] == [":KUBE-MARK-MASQ - [0:0]", "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000"]
    assert "-X KUBE-SVC-OLD" in text
    assert "MINE" not in text
    assert "-A KUBE-SERVICES -d 192.168.50.0/24 -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS" in text
    assert "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8" in text
    assert "-A KUBE-POSTROUTING -j MASQUERADE --random-fully" in text


def test_jumps_are_added_once_and_removed_with_our_chains_only() -> None:
    text = missing_jumps({"filter": [], "nat": []})
    assert text.count("\n-I ") == len(JUMPS)
    present: dict[str, list[str]] = {"filter": [], "nat": []}
    for jump in JUMPS:
        present[jump.table].append(f"-A {jump.rule}")
    assert missing_jumps(present) == ""
    listing = [
        "-P OUTPUT ACCEPT",
        "-N KUBE-SERVICES",
        "-N KUBE-SVC-X",
        "-N KUBE-KUBELET-CANARY",
        '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        "-A OUTPUT -j DOCKER",
        "-A KUBE-SERVICES -j KUBE-SVC-X",
    ]
    assert removal("nat", listing).splitlines() == [
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-SVC-X - [0:0]",
        '-D OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        "-X KUBE-SERVICES",
        "-X KUBE-SVC-X",
        "COMMIT",
    ]
    assert removal("nat", ["-P OUTPUT ACCEPT", "-A OUTPUT -j DOCKER"]) == ""

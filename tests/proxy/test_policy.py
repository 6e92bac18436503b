"""Network policies: the rules that come of each field, and what real packets do with them in network namespaces."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxy.lab import CLIENT, NODE_V6, PODS, PODS_V6, Lab, lab
from tests.proxy.lab import NODE as BRIDGE
from tiphys.api.object import Object
from tiphys.proxy.policy.facts import pod_facts
from tiphys.proxy.policy.follower import only_what_policies_ask
from tiphys.proxy.policy.names import TABLE
from tiphys.proxy.policy.rules import policy_rules
from tiphys.proxy.policy.table import PolicyTable
from tiphys.proxy.state import Family

NODE = "node-1"


def policy(name: str = "p", *, types: list[str] | None = None, selector: Object | None = None, **spec: Any) -> Object:
    found = {"podSelector": selector if selector is not None else {}, **spec}
    if types is not None:
        found["policyTypes"] = types
    return {"metadata": {"name": name, "namespace": "default"}, "spec": found}


def pod(address: str, *, node: str = NODE, namespace: str = "default", **labels: str) -> Object:
    return {
        "metadata": {"name": f"pod-{address}", "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [{"ports": [{"name": "web", "containerPort": 8080}]}],
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def lines(made: Object, direction: Any = "ingress") -> list[str]:
    return list(policy_rules(made, "ip").rules[direction])


def only_set(made: Object) -> str:
    (name,) = policy_rules(made, "ip").peers
    return name


def test_a_policy_isolates_in_the_directions_that_it_names_or_means() -> None:
    assert set(policy_rules(policy(), "ip").chains) == {"ingress"}
    assert set(policy_rules(policy(egress=[{}]), "ip").chains) == {"ingress", "egress"}
    assert set(policy_rules(policy(types=["Egress"]), "ip").chains) == {"egress"}
    assert lines(policy()) == []
    assert lines(policy(ingress=[{}])) == ["accept"]


def test_blocks_with_exceptions_and_ports() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24"]}}
    ports = [{"port": 80}, {"port": 5000, "endPort": 5010, "protocol": "UDP"}, {"protocol": "SCTP"}]
    assert lines(policy(ingress=[{"from": [block], "ports": ports}])) == [
        "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } tcp dport 80 accept",
        "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } udp dport 5000-5010 accept",
        "ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } meta l4proto sctp accept",
    ]
    everybody = {"ipBlock": {"cidr": "0.0.0.0/0"}}
    assert lines(policy(egress=[{"to": [everybody]}]), "egress") == ["accept"]
    assert lines(policy(ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}])) == []


def test_peers_by_labels_are_a_set_that_equal_selectors_share() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "web"}}}
    one, two = policy("one", ingress=[{"from": [peer]}]), policy("two", ingress=[{"from": [peer]}])
    assert lines(one) == [f"ip saddr @{only_set(one)} accept"]
    assert only_set(one) == only_set(two)
    assert only_set(policy(ingress=[{"from": [{**peer, "namespaceSelector": {}}]}])) != only_set(one)


def test_a_named_port_is_the_destinations() -> None:
    made = policy(ingress=[{"ports": [{"port": "web"}]}])
    assert lines(made) == [f"meta l4proto tcp ip daddr . th dport @{only_set(made)} accept"]
    assert only_set(made).startswith("ports-")


class Enforced:
    """A table of policies for pods, in the kernel of the lab's node."""

    def __init__(self, net: Lab, family: Family = "ip") -> None:
        self.net, self.family = net, family
        self.table = PolicyTable(family, NODE)
        self.table.namespace("default", {"name": "default"})
        self.table.namespace("other", {"name": "other"})
        web, client = PODS if family == "ip" else PODS_V6
        self.pod(pod(web, app="web"))
        self.pod(pod(client, app="client"))
        self._apply(self.table.rebuild())

    def pod(self, obj: Object, *, gone: bool = False) -> None:
        self.table.pod((obj["metadata"]["namespace"], obj["metadata"]["name"]), None if gone else obj)

    def has(self, *policies: Object) -> None:
        for made in policies:
            self.table.policy((made["metadata"]["namespace"], made["metadata"]["name"]), made)
        self.sync()

    def sync(self) -> list[str]:
        commands = self.table.update()
        self._apply(commands)
        return commands

    def _apply(self, commands: list[str]) -> None:
        if commands:
            asyncio.run(self.net.run(("nft", "-f", "-"), "\n".join(commands) + "\n"))

    def listing(self) -> str:
        return asyncio.run(self.net.run(("nft", "list", "table", self.family, TABLE)))

    def reaches(self, source: str, target: str = PODS[0], port: int = 8080) -> bool:
        try:
            return bool(self.net.ask(source, target, port, timeout=0.3))
        except TimeoutError:
            return False


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("needs root and nft")
    with lab() as built:
        for i, name in enumerate(built.pods):
            built.serve_tcp(name, 8080, f"pod{i}")
            built.serve_tcp(name, 9090, f"pod{i}")
        built.serve_tcp(built.node, 8080, "node")
        built.serve_echo(built.pods[0], 8081)
        yield built


@pytest.fixture
def node(net: Lab) -> Iterator[Enforced]:
    made = Enforced(net)
    yield made
    made._apply([f"delete table ip {TABLE}"])


WEB = {"matchLabels": {"app": "web"}}


def test_without_a_policy_everything_passes(net: Lab, node: Enforced) -> None:
    assert node.reaches(net.pods[1])
    assert node.reaches(net.client)


def test_default_deny_lets_the_node_through_and_nobody_else(net: Lab, node: Enforced) -> None:
    node.has(policy(types=["Ingress"]))
    assert not node.reaches(net.pods[1])
    assert not node.reaches(net.client)
    assert node.reaches(net.node)


def test_who_is_selected_by_labels_passes_until_its_labels_change(net: Lab, node: Enforced) -> None:
    peer = {"podSelector": {"matchLabels": {"app": "client"}}}
    node.has(policy(selector=WEB, ingress=[{"from": [peer]}]))
    assert node.reaches(net.pods[1])
    assert not node.reaches(net.client)
    node.pod(pod(PODS[1], app="stranger"))
    assert all("element" in command for command in node.sync()), "a pod's change changes elements only"
    assert not node.reaches(net.pods[1])
    assert node.reaches(net.pods[0], PODS[1]), "nothing isolates the other pod"


def test_namespaces_are_selected_by_their_labels(net: Lab, node: Enforced) -> None:
    chosen = {"namespaceSelector": {"matchLabels": {"name": "other"}}}
    node.has(policy(selector=WEB, ingress=[{"from": [chosen]}]))
    assert not node.reaches(net.pods[1])
    node.pod(pod(PODS[1], app="client"), gone=True)
    node.pod(pod(PODS[1], app="client", namespace="other"))
    node.sync()
    assert node.reaches(net.pods[1])
    node.table.namespace("other", {"name": "renamed"})
    node.sync()
    assert not node.reaches(net.pods[1])


def test_blocks_and_their_exceptions(net: Lab, node: Enforced) -> None:
    node.has(policy(selector=WEB, ingress=[{"from": [{"ipBlock": {"cidr": "192.168.50.0/24"}}]}]))
    assert node.reaches(net.client)
    assert not node.reaches(net.pods[1])
    block = {"ipBlock": {"cidr": "192.168.50.0/24", "except": [f"{CLIENT}/32"]}}
    node.has(policy(selector=WEB, ingress=[{"from": [block]}]))
    assert not node.reaches(net.client)


@pytest.mark.parametrize("port", [{"port": 8080}, {"port": 8000, "endPort": 8100}, {"port": "web"}])
def test_ports_by_number_range_and_name(net: Lab, node: Enforced, port: Object) -> None:
    node.has(policy(selector=WEB, ingress=[{"ports": [port]}]))
    assert node.reaches(net.pods[1])
    assert not node.reaches(net.pods[1], port=9090)


def test_egress_is_the_senders_and_both_must_agree(net: Lab, node: Enforced) -> None:
    deny = policy("deny", types=["Egress"], selector={"matchLabels": {"app": "client"}})
    node.has(deny)
    assert not node.reaches(net.pods[1])
    assert node.reaches(net.client)
    allow = policy("allow", types=["Egress"], egress=[{"to": [{"podSelector": WEB}], "ports": [{"port": "web"}]}])
    node.has(allow)
    assert node.reaches(net.pods[1])
    assert not node.reaches(net.pods[1], port=9090)
    node.has(policy("closed", types=["Ingress"], selector=WEB))
    assert not node.reaches(net.pods[1])


def test_a_policy_ends_connections_that_are_established(net: Lab, node: Enforced) -> None:
    sock = net.connect(net.pods[1], PODS[0], 8081)
    with sock:
        assert net.echoes(sock)
        node.has(policy("other", selector=WEB, ingress=[{}]))
        assert net.echoes(sock), "who may connect stays connected"
        node.table.policy(("default", "other"), None)
        node.has(policy(types=["Ingress"]))
        assert not net.echoes(sock)
        node.table.policy(("default", "p"), None)
        node.sync()
        assert net.echoes(sock), "what was lost is sent again"


def test_what_a_pod_sends_to_its_own_node_is_egress(net: Lab, node: Enforced) -> None:
    assert node.reaches(net.pods[1], BRIDGE)
    node.has(policy(types=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": f"{PODS[0]}/32"}}]}]))
    assert not node.reaches(net.pods[1], BRIDGE)
    assert node.reaches(net.node, PODS[1]), "the node's own connections are answered"
    node.has(policy(types=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": f"{BRIDGE}/32"}}]}]))
    assert node.reaches(net.pods[1], BRIDGE)


def test_ipv6(net: Lab) -> None:
    made = Enforced(net, "ip6")
    try:
        assert made.reaches(net.pods[1], PODS_V6[0])
        made.has(policy(types=["Ingress", "Egress"]))
        asyncio.run(net.run(("ip", "-6", "neigh", "flush", "all")))
        assert not made.reaches(net.pods[1], PODS_V6[0])
        assert made.reaches(net.node, PODS_V6[0])
        allowed = {"from": [{"ipBlock": {"cidr": "fd00:10:244::/64"}}], "ports": [{"port": "web"}]}
        to_web = {"to": [{"podSelector": WEB}]}
        made.has(policy(types=["Ingress", "Egress"], ingress=[allowed], egress=[to_web]))
        assert made.reaches(net.pods[1], PODS_V6[0])
        assert not made.reaches(net.pods[1], PODS_V6[0], port=9090)
        assert not made.reaches(net.pods[0], PODS_V6[1])
        assert not made.reaches(net.pods[1], NODE_V6)
    finally:
        made._apply([f"delete table ip6 {TABLE}"])


def test_what_a_policy_leaves_behind_is_removed(net: Lab, node: Enforced) -> None:
    empty = node.listing()
    made = policy(selector=WEB, ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "web"}]}])
    node.has(made)
    assert node.listing() != empty
    node.table.policy(("default", "p"), None)
    node.sync()
    assert node.listing() == empty
    assert node.reaches(net.client)


def test_a_table_made_from_nothing_is_the_one_that_changes_led_to(net: Lab, node: Enforced) -> None:
    node.has(policy(selector=WEB, ingress=[{"from": [{"podSelector": {}}]}]), policy("q", types=["Egress"]))
    node.pod(pod(PODS[1], app="stranger"))
    node.sync()
    changed = node.listing()
    node._apply(node.table.rebuild())
    assert sorted(node.listing().split()) == sorted(changed.split())


def test_two_pods_with_one_address_for_a_moment(net: Lab, node: Enforced) -> None:
    node.has(policy(selector=WEB, types=["Ingress"]), policy("q", selector={"matchLabels": {"app": "late"}}))
    late = pod(PODS[0], app="late")
    late["metadata"]["name"] = "late"
    node.pod(late)
    node.sync()
    node.pod(pod(PODS[0], app="web"), gone=True)
    node.sync()
    assert not node.reaches(net.pods[1])
    node.pod(late, gone=True)
    node.sync()
    assert node.reaches(net.pods[1])


def test_one_pods_change_names_that_pod_only_however_many_there_are() -> None:
    table = PolicyTable("ip", NODE)
    for n in range(20):
        table.namespace(f"ns-{n}", {"team": str(n)})
    for n in range(200):
        made = policy(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": str(n % 7)}}}]}])
        table.policy((f"ns-{n % 20}", f"p-{n}"), {**made, "metadata": {"name": f"p-{n}", "namespace": f"ns-{n % 20}"}})
    for n in range(200):
        made = pod(f"10.244.1.{n}", namespace=f"ns-{n % 20}", app=str(n % 7))
        table.pod((f"ns-{n % 20}", f"pod-{n}"), made)
    table.rebuild()
    table.pod(("ns-0", "pod-0"), pod("10.244.1.0", namespace="ns-0", app="5"))
    commands = table.update()
    assert commands
    assert all("10.244.1.0" in command for command in commands)
    assert table.update() == []


def cluster(pods: int, policies: int) -> PolicyTable:
    """Pods and policies spread over twenty namespaces."""
    table = PolicyTable("ip", NODE)
    for n in range(20):
        table.namespace(f"ns-{n}", {"team": str(n)})
    for n in range(policies):
        table.policy((f"ns-{n % 20}", f"p-{n}"), numbered(n))
    for n in range(pods):
        made = pod(f"10.244.{n // 250}.{n % 250}", namespace=f"ns-{n % 20}", app=str(n % 7))
        table.pod((f"ns-{n % 20}", f"pod-{n}"), made)
    return table


def numbered(n: int, app: str = "1") -> Object:
    made = policy(
        selector={"matchLabels": {"app": app}}, ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": n + 1}]}]
    )
    return {**made, "metadata": {"name": f"p-{n}", "namespace": f"ns-{n % 20}"}}


def test_one_policys_change_touches_its_rules_or_its_pods_and_nothing_else() -> None:
    table = cluster(pods=200, policies=100)
    table.rebuild()
    changed = numbered(3)
    changed["spec"]["ingress"][0]["ports"] = [{"port": 9999}]
    table.policy(("ns-3", "p-3"), changed)
    assert len(list(table.work())) == 0, "no pod is looked at"
    (flush, rule) = [line for line in table.update() if not line.startswith("add chain")]
    assert flush.startswith("flush chain")
    assert "9999" in rule
    table.policy(("ns-3", "p-3"), numbered(3, app="2"))
    elements = [line for line in table.update() if "element" in line]
    assert elements
    mine = {f"10.244.0.{n}" for n in range(200) if n % 20 == 3}
    assert {word.strip(",") for line in elements for word in line.split() if word.startswith("10.")} <= mine


def test_changes_are_taken_in_by_steps_of_one_pod_or_one_selector() -> None:
    table = cluster(pods=100, policies=10)
    assert len(list(table.work())) >= 100
    assert list(table.work()) == []


@pytest.mark.parametrize("seed", range(5))
def test_whatever_changed_the_table_is_the_one_made_from_nothing(seed: int) -> None:
    """What the two leave in the kernel is the same: commands are executed by a little model of nft."""
    rng, table, kernel = random.Random(seed), cluster(pods=40, policies=10), Kernel()
    kernel.execute(table.rebuild())
    for _ in range(60):
        n, space = rng.randrange(60), f"ns-{rng.randrange(3)}"
        address = f"10.244.{rng.randrange(2)}.{rng.randrange(30)}"
        match rng.randrange(5):
            case 0 | 1:
                table.pod((space, f"pod-{n}"), pod(address, namespace=space, app=str(rng.randrange(4))))
            case 2:
                table.pod((space, f"pod-{n}"), None) if (space, f"pod-{n}") in table._pods else None
            case 3:
                peer = {"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": str(rng.randrange(3))}}}
                made = policy(selector={"matchLabels": {"app": str(rng.randrange(4))}}, ingress=[{"from": [peer]}])
                made["metadata"] = {"name": f"p-{n % 9}", "namespace": space}
                table.policy((space, f"p-{n % 9}"), None if rng.random() < 0.3 else made)
            case 4:
                table.namespace(space, {"team": str(rng.randrange(3))})
        if rng.random() < 0.5:
            kernel.execute(table.update())
    kernel.execute(table.update())
    again = Kernel()
    again.execute(table.rebuild())
    assert kernel.state == again.state


class Kernel:
    """The chains, sets and maps that nft commands lead to; what is wrong raises."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def execute(self, commands: list[str]) -> None:
        for command in commands:
            verb, kind, _, _, *rest = command.split(" ", 5)
            if kind == "table":
                self.state = {}
                continue
            name, more = rest[0], rest[1] if len(rest) > 1 else ""
            self._one(verb, kind, name, more)

    def _one(self, verb: str, kind: str, name: str, more: str) -> None:
        match verb, kind:
            case "add", "set" | "map":
                assert name not in self.state
                self.state[name] = {}
            case "add", "chain":
                self.state.setdefault(name, [])
            case "add", "rule":
                self.state[name].append(more)
            case "add", "element":
                for key, _, verdict in (part.partition(" : ") for part in more.strip("{ }").split(", ")):
                    assert key not in self.state[name]
                    self.state[name][key] = verdict
            case "delete", "element":
                for key in more.strip("{ }").split(", "):
                    del self.state[name][key]
            case "flush", "chain":
                self.state[name].clear()
            case "delete", "chain" | "set":
                assert not self.state[name] or kind == "set"
                del self.state[name]
            case _:
                raise AssertionError((verb, kind))


def test_a_pod_is_the_same_to_policies_with_only_what_they_ask() -> None:
    whole = pod(PODS[0], app="web")
    whole["metadata"] |= {"annotations": {"long": "x" * 1000}, "resourceVersion": "7"}
    slim = only_what_policies_ask(whole)
    assert pod_facts(slim, NODE, "ip") == pod_facts(whole, NODE, "ip")
    assert len(str(slim)) < len(str(whole)) - 1000
    assert pod_facts(only_what_policies_ask({"metadata": {"name": "a", "namespace": "b"}}), NODE, "ip") is None

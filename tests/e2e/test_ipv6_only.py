"""A cluster whose machine, nodes, pods and Services have addresses of IPv6 alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tests.webs import web_on_every_node

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6"),
]

NODE = "fd00:198:18::10"
WEB = f"""{web_on_every_node()}---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  type: LoadBalancer
  ports: [{{port: 80, targetPort: 8080}}]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    """Two nodes on a machine that has IPv4 on its loopback interface only."""
    with new_machine("tiphys-v6") as made:
        made.run("ip", "-4", "address", "flush", "dev", "eth0")
        made.run("ip", "-6", "address", "add", f"{NODE}/64", "dev", "eth0", "nodad")
        made.run("ip", "-6", "route", "add", "default", "dev", "eth0", "metric", "100")
        made.tiphys(
            *("up", "--nodes", "2", "--bridge", "tiphysv6"),
            *("--pod-cidr", "fd00:10:244::/56", "--service-cidr", "fd00:10:96::/112"),
            timeout=180,
        )
        made.apply(WEB)
        made.kubectl("rollout", "status", "daemonset/web", "--timeout=60s")
        yield made


def asked(cluster: Machine, pod: str, *command: str) -> str:
    return cluster.kubectl("exec", pod, "--", "timeout", "5", *command)


def test_every_address_is_of_ipv6(cluster: Machine) -> None:
    nodes = {node["metadata"]["name"]: node for node in cluster.get("nodes")["items"]}
    assert len(nodes) == 2
    of_nodes = [
        a["address"] for node in nodes.values() for a in node["status"]["addresses"] if a["type"] == "InternalIP"
    ]
    assert NODE in of_nodes
    of_pods = [ip["ip"] for pod in cluster.get("pods")["items"] for ip in pod["status"]["podIPs"]]
    services = cluster.get("services", "-A")["items"]
    of_services = [ip for service in services for ip in service["spec"]["clusterIPs"]]
    assert {ipaddress.ip_address(text).version for text in (*of_nodes, *of_pods, *of_services)} == {6}
    assert {tuple(service["spec"]["ipFamilies"]) for service in services} == {("IPv6",)}
    slices = cluster.get("endpointslices", "-A")["items"]
    assert {slice_["addressType"] for slice_ in slices} == {"IPv6"}


def test_pods_find_and_reach_each_other_services_and_the_api(cluster: Machine) -> None:
    pods = {pod["spec"]["nodeName"]: pod for pod in cluster.get("pods", "-l", "app=web")["items"]}
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    for pod in pods.values():
        name = pod["metadata"]["name"]
        for node, other in pods.items():
            assert asked(cluster, name, "wget", "-qO-", f"http://[{other['status']['podIP']}]:8080/").strip() == node
        found = asked(cluster, name, "nslookup", "web.default.svc.cluster.local")
        assert f"Address: {address}" in found
        assert found.count("Address:") == 2, "the server's and the Service's, none of IPv4"
        seen = {
            asked(cluster, name, "wget", "-qO-", "http://web.default.svc.cluster.local/").strip() for _ in range(10)
        }
        assert seen == pods.keys()
        assert name in cluster.kubectl("exec", name, "--", "hostname")
    kubernetes = cluster.get("service", "kubernetes")["spec"]["clusterIP"]
    assert cluster.run("curl", "-gsk", "--max-time", "5", f"https://[{kubernetes}]/livez").stdout == "ok"


def test_node_ports_and_load_balancers_answer_outside(cluster: Machine) -> None:
    port = cluster.get("service", "web")["spec"]["ports"][0]["nodePort"]
    assert cluster.curl(f"http://[{NODE}]:{port}/", "-g")
    shown = wait_for(lambda: cluster.get("service", "web")["status"]["loadBalancer"].get("ingress"), 20, "an address")
    assert NODE in [entry["ip"] for entry in shown]
    assert cluster.curl(f"http://[{NODE}]/", "-g")


def test_the_end_leaves_no_rule(cluster: Machine) -> None:
    cluster.tiphys("down", timeout=60)
    cluster.tiphys("reset", "--yes", timeout=60)
    assert "tiphys" not in cluster.run("nft", "list", "ruleset").stdout
    assert "tiphys" not in cluster.run("ip", "-brief", "link").stdout

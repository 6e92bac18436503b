"""Three nodes on one machine: real containers on each, and real packets between them.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import NODE_IP, Machine, wait_for
from tests.machine import machine as new_machine
from tests.proxy.lab import inside
from tests.webs import web_on_every_node
from tiphys.cluster.images import DEMO_IMAGE, demo_image
from tiphys.cluster.ocilayout import build

pytestmark = pytest.mark.e2e

PODS, SERVICES = "10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112"

WEB = f"""{web_on_every_node()}---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  ports: [{{port: 80, targetPort: 8080}}]
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Machine]:
    with new_machine("tiphys-nodes") as made:
        made.tiphys("up", "--nodes", "3", "--pod-cidr", PODS, "--service-cidr", SERVICES, timeout=180)
        yield made


def names(nodes: Machine) -> dict[str, str]:
    """Each node and whether it is ready, as kubectl shows it."""
    lines = nodes.kubectl("get", "nodes", "--no-headers").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def web_pods(nodes: Machine) -> dict[str, dict[str, Any]]:
    """The pods that are ready, by node."""
    pods = nodes.get("pods", "-l", "app=web")["items"]
    return {
        pod["spec"]["nodeName"]: pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    }


def wget(nodes: Machine, pod: dict[str, Any], url: str, *, check: bool = True) -> str:
    return nodes.run(
        "kubectl", "exec", pod["metadata"]["name"], "--", "timeout", "4", "wget", "-qO-", url, check=check
    ).stdout.strip()


def test_each_node_registered_with_a_signed_certificate_and_a_range_of_its_own(nodes: Machine) -> None:
    objects = nodes.get("nodes")["items"]
    assert len(objects) == 3
    assert set(names(nodes).values()) == {"Ready"}
    assert len({node["spec"]["podCIDR"] for node in objects}) == 3
    requests = nodes.get("certificatesigningrequests")["items"]
    assert all(request["status"].get("certificate") for request in requests)
    asked = sorted((r["spec"]["signerName"].rpartition("/")[2], r["spec"]["username"].split(":")[1]) for r in requests)
    assert asked == [("kube-apiserver-client-kubelet", "bootstrap")] * 2 + [("kubelet-serving", "node")] * 2
    secrets = nodes.get("secrets", "-n", "kube-system")["items"]
    assert not [s for s in secrets if s["type"] == "bootstrap.kubernetes.io/token"], "tokens outlive their use"


def test_pods_on_different_nodes_reach_each_other_by_address_service_and_name(nodes: Machine) -> None:
    nodes.apply(WEB)
    pods = wait_for(lambda: found if len(found := web_pods(nodes)) == 3 else None, 90, "a pod on each node")
    for source in pods.values():
        for node, target in pods.items():
            assert wget(nodes, source, f"http://{target['status']['podIP']}:8080/") == node
            (_, second) = (entry["ip"] for entry in target["status"]["podIPs"])
            assert wget(nodes, source, f"http://[{second}]:8080/") == node
        seen = {wget(nodes, source, "http://web.default.svc.cluster.local/") for _ in range(12)}
        assert len(seen) > 1
        # By the first node's port, and from there to any pod, one of the asker's own node too.
        port = nodes.get("service", "web")["spec"]["ports"][0]["nodePort"]
        assert {wget(nodes, source, f"http://{NODE_IP}:{port}/") for _ in range(15)} <= set(pods)
        (_, second) = nodes.get("service", "web")["spec"]["clusterIPs"]
        assert wget(nodes, source, f"http://[{second}]/") in pods


def test_the_node_is_the_host_of_containers_on_its_network(nodes: Machine) -> None:
    spec = {"hostNetwork": True, "nodeName": "node-2", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    nodes.kubectl("run", "host", f"--image={DEMO_IMAGE}", f"--overrides={json.dumps({'spec': spec})}", "--", "hostname")
    wait_for(lambda: nodes.get("pod", "host")["status"]["phase"] == "Succeeded", 30, "the pod's end")
    assert nodes.kubectl("logs", "host").strip() == "node-2"
    first = next(n for n in nodes.get("nodes")["items"] if n["metadata"]["name"] not in ("node-2", "node-3"))
    route = nodes.run("ip", "-json", "route", "get", nodes.get("pod", "host")["status"]["podIP"]).stdout
    assert json.loads(route)[0]["prefsrc"] == first["status"]["addresses"][0]["address"]
    nodes.kubectl("delete", "pod", "host", "--now")


IMPORTED = "imported.example/web:1"


def images(nodes: Machine, node: str, *words: str | Path) -> str:
    """What containerd's client says of a node's images; the first node has no name."""
    folder = nodes.folder / "data" / "run" / (f"nodes/{node}" if node else "")
    return nodes.run("ctr", "-a", folder / "containerd.sock", "-n", "k8s.io", "images", *words).stdout


def test_an_image_is_imported_on_every_node(nodes: Machine) -> None:
    archive = nodes.folder / "image.tar"
    archive.write_bytes(build(demo_image(IMPORTED)))
    assert IMPORTED in nodes.tiphys("image", "import", archive).stdout
    for node in ("", "node-2", "node-3"):
        assert IMPORTED in images(nodes, node, "list"), node


def test_a_pod_gets_its_host_port_and_no_more_than_its_bandwidth(nodes: Machine) -> None:
    limited = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}
    ports = [{"containerPort": 8080, "hostPort": 31080}]
    command = ["sh", "-c", "echo limited > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    container = {"name": "web", "image": DEMO_IMAGE, "command": command, "ports": ports}
    spec = {"nodeName": "node-2", "terminationGracePeriodSeconds": 0, "containers": [container]}
    meta = {"name": "limited", "annotations": limited}
    nodes.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}))
    nodes.kubectl("wait", "--for=condition=Ready", "pod/limited", "--timeout=30s")
    host = nodes.get("node", "node-2")["status"]["addresses"][0]["address"]
    wait_for(
        lambda: nodes.run("curl", "-s", f"http://{host}:31080/", check=False).stdout == "limited\n", 10, "the host port"
    )
    shown = ["nsenter", "--net=/run/netns/tiphys0-node-2", "tc", "qdisc", "show"]
    rates = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert "rate 8Mbit" in rates
    assert "rate 4Mbit" in rates
    nodes.kubectl("delete", "pod", "limited", "--now")


def test_logs_and_exec_find_their_node(nodes: Machine) -> None:
    for node, pod in web_pods(nodes).items():
        assert nodes.kubectl("exec", pod["metadata"]["name"], "--", "cat", "/tmp/index.html").strip() == node
        nodes.kubectl("logs", pod["metadata"]["name"])


def test_every_node_itself_reaches_services(nodes: Machine) -> None:
    address = nodes.get("service", "web")["spec"]["clusterIP"]
    for space in (nodes.namespace, "tiphys0-node-2", "tiphys0-node-3"):
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{space}", "curl", "-fsS", "--max-time", "3", f"http://{address}/"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() in names(nodes)


def test_status_and_logs_know_of_all_nodes(nodes: Machine) -> None:
    status = nodes.status()
    assert status["ready"]
    assert sorted(status["nodes"]) == ["node-2", "node-3"]
    assert set(status["nodes"]["node-2"]["components"]) >= {"containerd", "kubelet", "kube-proxy"}
    assert nodes.tiphys("logs", "kubelet", "--node", "node-2").returncode == 0
    wrong = nodes.tiphys("logs", "kubelet", "--node", "node-9", check=False)
    assert "no node node-9" in wrong.stderr


CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"""


def test_a_policy_closes_pods_on_every_node_but_not_to_their_own(nodes: Machine) -> None:
    pods = web_pods(nodes)
    here, there = pods["node-2"], pods["node-3"]
    url = f"http://{there['status']['podIP']}:8080/"
    assert wget(nodes, here, url) == "node-3"
    nodes.apply(CLOSED)
    wait_for(lambda: wget(nodes, here, url, check=False) == "", 20, "the policy's effect")
    nodes.run("nsenter", "--net=/run/netns/tiphys0-node-3", "curl", "-fsS", "--max-time", "3", url)
    assert set(web_pods(nodes)) == set(pods), "probes come from the node, and pass"
    nodes.kubectl("delete", "networkpolicy", "closed")
    wait_for(lambda: wget(nodes, here, url, check=False) == "node-3", 20, "the policy's end")


def test_a_partition_cuts_packets_and_heals(nodes: Machine) -> None:
    pods = web_pods(nodes)
    here, there = pods["node-2"], pods["node-3"]
    url = f"http://{there['status']['podIP']}:8080/"
    nodes.tiphys("node", "partition", "node-3")
    assert wget(nodes, here, url, check=False) == ""
    assert "cut off" in nodes.tiphys("node", "list").stdout
    nodes.tiphys("node", "heal", "node-3")
    wait_for(lambda: wget(nodes, here, url, check=False) == "node-3", 20, "packets after healing")


@pytest.mark.slow
def test_under_a_steady_flow_a_node_that_is_cut_off_costs_its_share_until_it_is_known(nodes: Machine) -> None:
    with Flow(nodes.namespace, nodes.get("service", "web")["spec"]["clusterIP"]) as flow:
        wait_for(lambda: len(flow.seen) >= 100, 30, "a hundred requests")
        assert all(name for _, name in flow.seen), "before the cut every request is answered"
        cut = time.monotonic()
        nodes.tiphys("node", "partition", "node-3")
        wait_for(lambda: names(nodes)["node-3"] == "NotReady", GRACE + 30, "the node to be missed")
        missed = time.monotonic()
        wait_for(lambda: flow.answered_since(missed + 3) >= 100, 60, "a hundred requests after that")
        during = [name for moment, name in flow.seen if cut + 1 < moment < missed]
        assert 0 < during.count("") <= 0.5 * len(during), "a third is the node's share, of random choices"
        assert not [1 for moment, name in flow.seen if moment > missed + 3 and not name], "then none fails"
        assert missed - cut < GRACE + 15
        nodes.tiphys("node", "heal", "node-3")
        healed = time.monotonic()
        wait_for(lambda: "node-3" in web_pods(nodes), 60, "its pod to be ready again")
        healthy = time.monotonic()
        wait_for(lambda: "node-3" in {name for moment, name in flow.seen if moment > healthy}, 20, "requests at node-3")
        assert not [1 for moment, name in flow.seen if moment > healed and not name], "healing costs nothing"
    wait_for(lambda: names(nodes)["node-3"] == "Ready", 30, "the node to be back")


GRACE = 50
"""Seconds until a node that says nothing is not ready (--node-monitor-grace-period)."""


class Flow:
    """Requests to a Service from a network namespace, one after the other, fifty a second at most."""

    def __init__(self, namespace: str, address: str) -> None:
        self._namespace, self._address = namespace, address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=inside, args=(self._namespace, self._run), daemon=True)
        self.seen: list[tuple[float, str]] = []
        """When each request began, and which node answered: empty if none did within a second."""

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def answered_since(self, moment: float) -> int:
        return len([1 for began, name in self.seen if began > moment and name])

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            began = time.monotonic()
            try:
                with socket.create_connection((self._address, 80), timeout=1) as sock:
                    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    name = b"".join(iter(lambda: sock.recv(1000), b"")).rpartition(b"\r\n\r\n")[2].decode().strip()
            except OSError:
                name = ""
            self.seen.append((began, name))


def test_a_stopped_node_starts_again_with_what_it_had_and_what_was_imported_meanwhile(nodes: Machine) -> None:
    before = nodes.get("node", "node-2")["spec"]["podCIDR"]
    nodes.tiphys("node", "stop", "node-2")
    assert not nodes.status()["nodes"]["node-2"]["running"]
    archive = nodes.folder / "newer.tar"
    archive.write_bytes(build(replace(demo_image(IMPORTED), environment={"NEWER": "1"})))
    nodes.tiphys("image", "import", archive)
    nodes.tiphys("node", "start", "node-2")
    listed = [images(nodes, node, "list", f"name=={IMPORTED}").splitlines()[1] for node in ("", "node-2", "node-3")]
    assert len({line.split()[2] for line in listed}) == 1, "a node has an older version"
    assert nodes.get("node", "node-2")["spec"]["podCIDR"] == before
    pods = wait_for(lambda: found if len(found := web_pods(nodes)) == 3 else None, 60, "a pod on each node")
    assert wget(nodes, pods["node-2"], f"http://{pods['node-3']['status']['podIP']}:8080/") == "node-3"


def test_a_node_is_added_and_deleted_without_a_trace(nodes: Machine) -> None:
    nodes.tiphys("node", "add", "extra")
    assert names(nodes)["extra"] == "Ready"
    wait_for(lambda: "extra" in web_pods(nodes), 60, "a pod on the new node")
    spec = {"nodeName": "extra", "containers": [{"name": "c", "image": IMPORTED, "imagePullPolicy": "Never"}]}
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    nodes.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late"}, "spec": spec}))
    wait_for(lambda: nodes.get("pod", "late")["status"]["phase"] == "Succeeded", 60, "the end of its pod")
    nodes.kubectl("delete", "pod", "late", "--now")
    again = nodes.tiphys("node", "add", "extra", check=False)
    assert "a node extra exists already" in again.stderr
    nodes.tiphys("node", "delete", "extra")
    assert "extra" not in names(nodes)
    assert not Path("/run/netns/tiphys0-extra").exists()
    assert not (nodes.folder / "data" / "nodes" / "extra").exists()
    assert not [folder for folder in Path("/sys/fs/cgroup").glob("*/tiphys0-extra") if folder.is_dir()]


def test_down_and_up_bring_all_nodes_back_and_reset_leaves_nothing(nodes: Machine) -> None:
    nodes.tiphys("down", timeout=120)
    nodes.tiphys("up", timeout=180)
    assert set(names(nodes).values()) == {"Ready"}
    nodes.tiphys("reset", "--yes", timeout=180)
    assert not [entry for entry in Path("/run/netns").iterdir() if entry.name.startswith("tiphys0-")]
    assert "tiphys0" not in nodes.run("ip", "-brief", "link").stdout
    assert "tiphys" not in nodes.run("nft", "list", "ruleset").stdout
    assert not (nodes.folder / "data").exists()

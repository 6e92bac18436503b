"""This machine as a cloud: the contract of every provider over real nodes, and a cloud controller manager on them.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cloud import contract
from tests.cloud.contract import World
from tests.cloud.localworld import POOL, run_inside
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.addons.csicloud.controller import NAME as DRIVER
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability

pytestmark = pytest.mark.e2e

SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
BRIDGE = "tiphyscloud"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-cloud") as made:
        words = ("--nodes", "3", "--bridge", BRIDGE, "--load-balancer-pool", "none")
        made.tiphys("up", *words, "--without", "metrics-server", timeout=240)
        yield made


@pytest.fixture(scope="module")
def cloud(cluster: Machine) -> None:
    """The same cluster, whose cloud is run as `tiphys up` does it."""
    cluster.tiphys("down", timeout=120)
    cluster.tiphys("up", "--cloud-provider", "local", "--load-balancer-pool", POOL, timeout=240)


@pytest.mark.parametrize("part", [contract.load_balancers, contract.volumes])
def test_this_machine_keeps_the_contract(cluster: Machine, part: Callable[[World], Awaitable[None]]) -> None:
    run_inside(cluster, part)
    assert cluster.run("ip", "-o", "address", "show", "dev", "lo").stdout.count("198.18.0.2") == 0


def test_a_service_is_reached_through_haproxy(cluster: Machine, cloud: None) -> None:
    cluster.tiphys("demo", timeout=150)
    cluster.kubectl("expose", "-n", "tiphys-demo", "deploy/web", "--name=outside", "--port=80", "--target-port=8080",
                    "--type=LoadBalancer")  # fmt: skip

    def address() -> str:
        ingress = cluster.get("service", "-n", "tiphys-demo", "outside")["status"]["loadBalancer"].get("ingress") or []
        return ingress[0]["ip"] if ingress and ingress[0]["ipMode"] == "Proxy" else ""

    found = wait_for(address, 60, "an address of the pool")
    assert found == POOL.partition("-")[0]
    page = wait_for(lambda: cluster.run("curl", "-fsS", "-m2", f"http://{found}/", check=False).stdout, 30, "the page")
    assert "It works" in page
    cluster.kubectl("delete", "-n", "tiphys-demo", "service", "outside", "--timeout=30s")
    assert cluster.run("ip", "-o", "address", "show", "dev", "lo").stdout.count(found) == 0


def test_a_machine_that_is_shut_down_is_tainted_and_one_that_is_gone_loses_its_node(
    cluster: Machine, cloud: None
) -> None:
    def taints(name: str) -> list[str]:
        node = json.loads(cluster.kubectl("get", "node", name, "-o", "json"))
        return [taint["key"] for taint in node["spec"].get("taints") or ()]

    cluster.tiphys("node", "stop", "node-2", timeout=60)
    cluster.kubectl("patch", "node", "node-2", "--subresource=status", "-p", NOT_READY)  # 50 s before anybody misses it
    wait_for(lambda: SHUTDOWN in taints("node-2"), 60, "the taint")
    cluster.tiphys("node", "start", "node-2", timeout=90)
    wait_for(lambda: SHUTDOWN not in taints("node-2"), 60, "that the taint goes")
    cluster.tiphys("node", "delete", "--keep-object", "node-3", timeout=60)
    cluster.kubectl("patch", "node", "node-3", "--subresource=status", "-p", NOT_READY)
    names = lambda: cluster.kubectl("get", "nodes", "-o", "name")  # noqa: E731
    wait_for(lambda: "node/node-3" not in names(), 60, "that the Node is deleted")
    assert "node/node-2" in names()


@pytest.mark.slow
def test_a_new_node_waits_until_the_cloud_has_said_what_it_is(cluster: Machine, cloud: None) -> None:
    cluster.tiphys("node", "add", "node-4", timeout=90)
    found = wait_for(lambda: (node := cluster.get("node", "node-4")) and "taints" not in node["spec"] and node, 60)
    assert found["spec"]["providerID"] == "local://node-4"
    assert found["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "namespace"
    assert found["metadata"]["labels"]["topology.kubernetes.io/zone"] == "local"
    (address, hostname) = found["status"]["addresses"]
    assert found["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"] == address["address"]
    assert hostname == {"type": "Hostname", "address": "node-4"}
    events = json.loads(cluster.kubectl("get", "events", "-o", "json"))["items"]
    assert "Synced" in {each["reason"] for each in events if each["involvedObject"]["name"] == "node-4"}
    cluster.tiphys("node", "delete", "node-4", timeout=60)


NOT_READY = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})


@pytest.mark.slow
def test_machines_are_looked_after_by_the_contract(cluster: Machine) -> None:
    run_inside(cluster, contract.machines)


CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: cloud, resources: {requests: {storage: 64Mi}}}
---
"""
USER = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  terminationGracePeriodSeconds: 0
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
  containers:
  - name: c
    image: tiphys.local/demo:1
    command: [sh, -c, '{command}; sleep 100000']
    volumeMounts: [{{name: data, mountPath: /data}}]
"""


@pytest.fixture(scope="module")
def driver(cluster: Machine, cloud: None) -> None:
    """The driver of the cloud's disks on two nodes."""
    cluster.tiphys("node", "start", "node-2", timeout=90)  # which the contract of machines has stopped
    for name in (*first_nodes(cluster), "node-2"):
        wait_for(lambda name=name: DRIVER in drivers(cluster, name), 60, f"the driver on {name}")


def drivers(cluster: Machine, node: str) -> list[str]:
    done = cluster.run("kubectl", "get", "csinode", node, "-o", "json", check=False)
    spec = json.loads(done.stdout)["spec"] if done.returncode == 0 else {}
    return [each["name"] for each in spec.get("drivers") or ()]


def attached_to(cluster: Machine) -> list[str]:
    found = cluster.get("volumeattachments")["items"]
    return [each["spec"]["nodeName"] for each in found if each["spec"]["attacher"] == DRIVER]


def first_nodes(cluster: Machine) -> list[str]:
    names: list[str] = [node["metadata"]["name"] for node in cluster.get("nodes")["items"]]
    return [name for name in names if not name.startswith("node-")]


@pytest.mark.slow
def test_a_disk_moves_with_its_pod_to_another_node(cluster: Machine, driver: None) -> None:
    (first,) = first_nodes(cluster)
    cluster.apply(CLAIM + USER.format(name="writer", node="node-2", command="echo kept > /data/file; sync"))
    cluster.kubectl("wait", "pod/writer", "--for=condition=Ready", "--timeout=90s", timeout=100)
    wait_for(lambda: "kept" in cluster.run("kubectl", "exec", "writer", "--", "cat", "/data/file", check=False).stdout,
             30, "the file")  # fmt: skip
    size = cluster.kubectl("exec", "writer", "--", "df", "-m", "/data").split()
    assert 40 < int(size[8]) <= 64, size
    cluster.kubectl("delete", "pod", "writer", "--timeout=60s", timeout=70)
    cluster.apply(USER.format(name="reader", node=first, command="true"))
    cluster.kubectl("wait", "pod/reader", "--for=condition=Ready", "--timeout=90s", timeout=100)
    assert cluster.kubectl("exec", "reader", "--", "cat", "/data/file").strip() == "kept"
    assert attached_to(cluster) == [first]


@pytest.mark.slow
def test_a_disk_grows_with_its_claim(cluster: Machine, driver: None) -> None:
    """While the pod runs, if this machine lets a mounted file system grow, or else with the next pod."""

    def room() -> int:
        """The mebibytes of the file system, as the pod has it."""
        return int(cluster.kubectl("exec", "reader", "--", "df", "-m", "/data").split()[8])

    def claim() -> str:
        found: str = cluster.get("pvc", "data")["status"]["capacity"]["storage"]
        return found

    (first,) = first_nodes(cluster)
    assert room() <= 64
    cluster.kubectl("patch", "pvc", "data", "-p", '{"spec": {"resources": {"requests": {"storage": "160Mi"}}}}')
    if not has_capability(CAP_SYS_RESOURCE):
        wait_for(lambda: "CAP_SYS_RESOURCE" in cluster.kubectl("get", "events"), 90, "that the pod is told of")
        cluster.kubectl("delete", "pod", "reader", "--timeout=60s", timeout=70)
        wait_for(lambda: not cluster.get("node", first)["status"].get("volumesInUse"), 60, "that it is unmounted")
        cluster.apply(USER.format(name="reader", node=first, command="true"))
        cluster.kubectl("wait", "pod/reader", "--for=condition=Ready", "--timeout=90s", timeout=100)
    wait_for(lambda: claim() == "160Mi", 90, "the claim's capacity")
    assert 120 < room() <= 160
    assert cluster.kubectl("exec", "reader", "--", "cat", "/data/file").strip() == "kept"
    cluster.kubectl("delete", "pod", "reader", "--timeout=60s", timeout=70)
    cluster.kubectl("delete", "pvc", "data", "--timeout=60s", timeout=70)
    disks = cluster.folder / "data" / "cloud" / "disks" / "volumes"
    wait_for(lambda: not list(disks.iterdir()), 60, "that the disk is gone")


MOVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: mover}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
      containers:
      - name: c
        image: tiphys.local/demo:1
        command: [sh, -c, "hostname >> /data/pods; sync; sleep 100000"]
        volumeMounts: [{name: data, mountPath: /data}]
"""
SAFE_SECONDS = 360
"""After which a disk is taken from a node that does not say that it is unmounted there, as upstream's."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_disk_of_a_node_that_died_is_elsewhere_after_the_safe_time(cluster: Machine, driver: None) -> None:
    (first,) = first_nodes(cluster)
    cluster.kubectl("cordon", "-l", "kubernetes.io/hostname!=node-2")
    cluster.apply(CLAIM + MOVER)
    cluster.kubectl("rollout", "status", "deploy/mover", "--timeout=90s", timeout=100)
    cluster.kubectl("uncordon", first)
    lost = pods_of(cluster)["node-2"]
    assert attached_to(cluster) == ["node-2"]
    kill_node(cluster, "node-2")

    wait_for(lambda: first in pods_of(cluster), 150, "another pod, on the node that lives")
    found = pods_of(cluster)[first]
    wait_for(lambda: "Multi-Attach error" in cluster.kubectl("get", "events"), 60, "that it waits for its disk")
    assert cluster.get("pod", lost)["metadata"]["deletionTimestamp"], "nobody confirms its end"
    cluster.kubectl("delete", "pod", lost, "--force", "--grace-period=0")
    ended = datetime.now(UTC)
    while attached_to(cluster) == ["node-2"]:
        waited = (datetime.now(UTC) - ended).total_seconds()
        assert waited < SAFE_SECONDS + 90
        time.sleep(1)
    waited = (datetime.now(UTC) - ended).total_seconds()
    print(f"\nthe disk was taken from the dead node {waited:.0f} s after its pod was deleted by force")
    assert waited > SAFE_SECONDS - 5
    cluster.kubectl("wait", f"pod/{found}", "--for=condition=Ready", "--timeout=90s", timeout=100)
    assert attached_to(cluster) == [first]
    assert cluster.kubectl("exec", found, "--", "cat", "/data/pods").split() == [lost, found]


def pods_of(cluster: Machine) -> dict[str, str]:
    """The Deployment's pods by their nodes."""
    pods = cluster.get("pods", "-l", "app=mover")["items"]
    return {pod["spec"].get("nodeName", ""): pod["metadata"]["name"] for pod in pods}


def kill_node(cluster: Machine, name: str) -> None:
    """kill -9 of all that runs on a node, its containers too, and its mounts gone: what a power cut leaves."""
    network = os.stat(f"/run/netns/{BRIDGE}-{name}").st_ino
    while pids := processes_of(network):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    place = str(cluster.folder / "data" / "nodes" / name)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((path for path in mounted if path.startswith(f"{place}/")), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=False)


def processes_of(network: int) -> set[int]:
    """Those in a network namespace, and all that these started."""
    parents, found = {}, set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z":
                continue
            parents[int(entry.name)] = int(parent)
            if os.stat(entry / "ns/net").st_ino == network:
                found.add(int(entry.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found

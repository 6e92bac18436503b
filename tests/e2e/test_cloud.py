"""This machine as a cloud: the contract of every provider over real nodes, and a cloud controller manager on them.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.cloud import contract
from tests.cloud.contract import World
from tests.cloud.localworld import POOL, config_of, run_inside
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

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
def manager(cluster: Machine) -> Iterator[None]:
    """The cloud controller manager with our provider, on the machine."""
    process = cluster.start(
        cluster.tiphys_program, "cloud-controller-manager", "--cloud-provider=local", "--leader-elect=false",
        f"--cloud-config={config_of(cluster)}", f"--kubeconfig={cluster.folder / 'kubeconfig'}",
        "--node-monitor-period=1s", output=cluster.folder / "cloud.log",
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("part", [contract.load_balancers, contract.volumes])
def test_this_machine_keeps_the_contract(cluster: Machine, part: Callable[[World], Awaitable[None]]) -> None:
    run_inside(cluster, part)
    assert cluster.run("ip", "-o", "address", "show", "dev", "lo").stdout.count("198.18.0.2") == 0


def test_a_service_is_reached_through_haproxy(cluster: Machine, manager: None) -> None:
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
    cluster: Machine, manager: None
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
def driver(cluster: Machine) -> Iterator[None]:
    """The driver's controller over this machine's disks, and its part on two nodes."""
    cluster.tiphys("node", "start", "node-2", timeout=90)  # which the contract of machines has stopped
    common = (cluster.tiphys_program, "csi-cloud", f"--kubeconfig={cluster.folder / 'kubeconfig'}")
    data = cluster.folder / "data"
    folders = dict.fromkeys(first_nodes(cluster), data / "kubelet") | {"node-2": data / "nodes/node-2/kubelet"}
    parts = [("controller", "--cloud-provider=local", f"--cloud-config={config_of(cluster)}")]
    parts += [("node", f"--node-name={name}", f"--kubelet-dir={folder}") for name, folder in folders.items()]
    processes = [
        cluster.start(*common, f"--part={part[0]}", *part[1:], output=cluster.folder / f"csi-{number}.log")
        for number, part in enumerate(parts)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def first_nodes(cluster: Machine) -> list[str]:
    names: list[str] = [node["metadata"]["name"] for node in cluster.get("nodes")["items"]]
    return [name for name in names if not name.startswith("node-")]


@pytest.mark.slow
def test_a_disk_moves_with_its_pod_to_another_node(cluster: Machine, driver: None) -> None:
    (first,) = first_nodes(cluster)
    wait_for(lambda: cluster.run("kubectl", "get", "storageclass", "cloud", check=False).returncode == 0, 30, "class")

    def drivers(node: str) -> list[str]:
        done = cluster.run("kubectl", "get", "csinode", node, "-o", "json", check=False)
        spec = json.loads(done.stdout)["spec"] if done.returncode == 0 else {}
        return [each["name"] for each in spec.get("drivers") or ()]

    for node in (first, "node-2"):
        wait_for(lambda node=node: "cloud.tiphys" in drivers(node), 60, f"the driver on {node}")
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
    (attachment,) = [each for each in cluster.get("volumeattachments")["items"]
                     if each["spec"]["attacher"] == "cloud.tiphys"]  # fmt: skip
    assert attachment["spec"]["nodeName"] == first
    cluster.kubectl("delete", "pod", "reader", "--timeout=60s", timeout=70)
    cluster.kubectl("delete", "pvc", "data", "--timeout=60s", timeout=70)
    disks = cluster.folder / "data" / "cloud" / "disks" / "volumes"
    wait_for(lambda: not list(disks.iterdir()), 60, "that the disk is gone")

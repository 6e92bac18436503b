"""Containers on a real node: what they are given, what they may write and store, and what a restart gives them."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubelet.test_figures import OPTIONAL, UNSET, faults
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

pytestmark = pytest.mark.e2e
IMAGE = "tiphys.local/demo:1"
LOOP = "trap 'exit 1' TERM; while :; do sleep 0.3; done"


@pytest.fixture(scope="module")
def node() -> Iterator[Machine]:
    if os.geteuid() != 0 or shutil.which("kubectl") is None:
        pytest.skip("end-to-end tests start containers and need kubectl")
    with new_machine("tiphys-node") as made:
        made.tiphys("up", timeout=180)
        yield made


def run(node: Machine, name: str, script: str, *, mounts: Any = (), volumes: Any = (), **container: Any) -> None:
    spec = {
        "terminationGracePeriodSeconds": 1,
        "restartPolicy": container.pop("restartPolicy", "Always"),
        "volumes": list(volumes),
        "containers": [
            {"name": "c", "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": list(mounts), **container}
        ],
    }
    node.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))


def status(node: Machine, name: str) -> Any:
    return node.get("pod", name)["status"]


def running(node: Machine, name: str, restarts: int = 0) -> Any:
    found = (status(node, name).get("containerStatuses") or [{}])[0]
    return found.get("ready") and found["restartCount"] == restarts


def test_volumes_of_the_api_are_read_only(node: Machine) -> None:
    node.kubectl("create", "configmap", "fixed", "--from-literal=k=first")
    script = "exec 2>&1; echo changed > /v/k; touch /v/new; cat /v/k"
    volume = {"name": "v", "configMap": {"name": "fixed"}}
    mount = {"name": "v", "mountPath": "/v"}
    run(node, "scribbler", script, mounts=[mount], volumes=[volume], restartPolicy="Never")
    wait_for(lambda: status(node, "scribbler")["phase"] in ("Succeeded", "Failed"), 30)
    log = node.kubectl("logs", "scribbler")
    assert log.lower().count("read-only file system") == 2
    assert log.endswith("first")


def test_a_changed_configmap_by_subpath_is_seen_after_a_restart(node: Machine) -> None:
    node.kubectl("create", "configmap", "knobs", "--from-literal=size=small")
    volume = {"name": "v", "configMap": {"name": "knobs"}}
    run(node, "knob", LOOP, mounts=[{"name": "v", "mountPath": "/size", "subPath": "size"}], volumes=[volume])
    wait_for(lambda: running(node, "knob"), 30)
    assert node.kubectl("exec", "knob", "--", "cat", "/size") == "small"
    node.kubectl("patch", "configmap", "knobs", "--type", "merge", "-p", '{"data":{"size":"large"}}')
    wait_for(lambda: node.kubectl("get", "configmap", "knobs", "-o", "jsonpath={.data.size}") == "large", 5)
    data = node.folder / "data"
    wait_for(lambda: any(p.read_text() == "large" for p in data.rglob("kubernetes.io~configmap/v/size")), 30)
    node.kubectl("exec", "knob", "--", "kill", "1")
    wait_for(lambda: running(node, "knob", 1), 60)
    assert node.kubectl("exec", "knob", "--", "cat", "/size") == "large"


def test_pods_that_store_too_much_are_evicted_and_memory_has_its_size(node: Machine) -> None:
    write = "dd if=/dev/zero of={}/x bs=1M count=6; sleep 1000"
    disk = {"name": "s", "emptyDir": {"sizeLimit": "2Mi"}}
    run(node, "disk", write.format("/s"), mounts=[{"name": "s", "mountPath": "/s"}], volumes=[disk])
    run(node, "eph", write.format(""), resources={"limits": {"ephemeral-storage": "2Mi"}})
    memory = [
        {"name": "a", "emptyDir": {"medium": "Memory"}},
        {"name": "b", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in "ab"]
    run(node, "mem", LOOP, mounts=mounts, volumes=memory, resources={"limits": {"memory": "64Mi"}})
    wait_for(lambda: running(node, "mem"), 30)
    lines = node.kubectl("exec", "mem", "--", "df", "-m", "/a", "/b").splitlines()[1:]
    assert [line.split()[1] for line in lines] == ["64", "64"]
    wait_for(lambda: status(node, "disk")["phase"] == status(node, "eph")["phase"] == "Failed", 60, "eviction")
    assert status(node, "disk")["reason"] == status(node, "eph")["reason"] == "Evicted"
    assert status(node, "disk")["message"] == 'Usage of EmptyDir volume "s" exceeds the limit "2Mi". '


def test_a_deferred_resize_is_given_by_no_restart(node: Machine) -> None:
    amounts = {"requests": {"cpu": "20m", "memory": "20Mi"}, "limits": {"cpu": "100m", "memory": "40Mi"}}
    run(node, "other", LOOP, resources={"requests": {"cpu": "100m"}})
    run(node, "greedy", LOOP, resources=amounts)
    wait_for(lambda: running(node, "greedy") and running(node, "other"), 30)
    (found,) = node.get("nodes")["items"]
    most = found["status"]["allocatable"]["cpu"]
    wanted = {"name": "c", "resources": {"requests": {"cpu": f"{int(most) * 1000 - 10}m"}, "limits": {"cpu": most}}}
    patch = json.dumps({"spec": {"containers": [wanted]}})
    node.kubectl("patch", "pod", "greedy", "--subresource", "resize", "-p", patch)

    def deferred() -> bool:
        shown = status(node, "greedy")
        pending = [c["reason"] for c in shown["conditions"] if c["type"] == "PodResizePending"]
        return pending == ["Deferred"] and shown["containerStatuses"][0]["allocatedResources"]["cpu"] == "20m"

    wait_for(deferred, 30)
    node.kubectl("exec", "greedy", "--", "kill", "1")
    wait_for(lambda: running(node, "greedy", 1), 60)
    assert deferred()


def test_the_summary_of_a_real_node_is_whole(node: Machine) -> None:
    (found,) = node.get("nodes")["items"]
    path = f"/api/v1/nodes/{found['metadata']['name']}/proxy"
    summary = json.loads(node.kubectl("get", "--raw", f"{path}/stats/summary"))
    optional = OPTIONAL | {"PodStats.network"}
    assert faults("stats.v1alpha1", "Summary", summary, "", optional) == []
    assert {one["name"] for one in summary["node"]["systemContainers"]} == {"kubelet", "runtime", "pods"}
    mem = next(pod for pod in summary["pods"] if pod["podRef"]["name"] == "mem")
    assert {volume["name"] for volume in mem["volume"]} > {"a", "b"}
    assert mem["memory"]["workingSetBytes"] > 0
    assert mem["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0
    text = node.kubectl("get", "--raw", f"{path}/metrics/cadvisor")
    assert 'container_memory_working_set_bytes{container="c"' in text
    config = json.loads(node.kubectl("get", "--raw", f"{path}/configz"))["kubeletconfig"]
    assert faults("kubelet.config.v1beta1", "KubeletConfiguration", config, "", UNSET) == []


def test_a_list_is_applied(node: Machine) -> None:
    """kubectl checks it against the definitions that it reads as protobuf."""
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inlist"}, "data": {"a": "b"}}
    said = node.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [item]}))
    assert said == "configmap/inlist created\n"


def test_a_wide_headless_service_resolves_whole(node: Machine) -> None:
    """90 addresses are more than a datagram holds: the resolver of a container asks again by TCP."""
    port = {"name": "p", "port": 80}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wide"}}
    service["spec"] = {"clusterIP": "None", "ports": [port]}
    slices = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [port]}
    slices["metadata"] = {"name": "wide-1", "labels": {"kubernetes.io/service-name": "wide"}}
    addresses = [f"10.250.1.{number + 1}" for number in range(90)]
    slices["endpoints"] = [{"addresses": [address]} for address in addresses]
    node.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, slices]}))
    name = "wide.default.svc.cluster.local"
    resolver = node.folder / "resolv.conf"
    resolver.write_text("nameserver 10.96.0.10\n")
    script = f"mount --bind {resolver} /etc/resolv.conf && timeout 5 getent ahostsv4 {name}"

    def resolved() -> bool:
        said = node.run("unshare", "-m", "sh", "-c", script, check=False).stdout
        return {line.split()[0] for line in said.splitlines()} == set(addresses)

    wait_for(resolved, 20, "90 addresses")


def test_reset_beside_a_cluster_that_makes_and_removes_pods(node: Machine) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            run(node, "churn", LOOP, restartPolicy="Never")
            node.kubectl("delete", "pod", "churn", "--now", "--wait=false")
            node.kubectl("wait", "--for=delete", "pod/churn", "--timeout=60s")

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        with new_machine("tiphys-beside") as other:
            other.tiphys("up", "--no-kubeconfig", "--bridge", "tpbeside", timeout=180)
            done = other.tiphys("reset", "--yes", check=False, timeout=120)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
            assert not (other.folder / "data").exists()
    finally:
        stop.set()
        churning.join()
    run(node, "after", LOOP)
    wait_for(lambda: running(node, "after"), 30)

"""A cluster that lasts, as a new administrator makes it: init, a second run, a worker that joins, and reset."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.kubeadmnode import Machines, Node, machines
from tests.machine import wait_for

pytestmark = [pytest.mark.e2e]

STUDY_NOTE = (
    "kube-apiserver --advertise-address={address} --allow-privileged=true --authorization-mode=Node,RBAC "
    "--client-ca-file=/etc/kubernetes/pki/ca.crt --enable-admission-plugins=NodeRestriction "
    "--enable-bootstrap-token-auth=true --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt "
    "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt "
    "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key --etcd-servers=https://127.0.0.1:2379 "
    "--insecure-port=0 --kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt "
    "--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key "
    "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname "
    "--proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt "
    "--proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key "
    "--requestheader-allowed-names=front-proxy-client "
    "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt "
    "--requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group "
    "--requestheader-username-headers=X-Remote-User --secure-port=6443 "
    "--service-account-key-file=/etc/kubernetes/pki/sa.pub --service-cluster-ip-range=10.96.0.0/12 "
    "--tls-cert-file=/etc/kubernetes/pki/apiserver.crt --tls-private-key-file=/etc/kubernetes/pki/apiserver.key"
)
"""The API server's command in a study note of 2020."""
NEEDED_TODAY = (
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local "
    "--service-account-signing-key-file=/etc/kubernetes/pki/sa.key"
)


@pytest.fixture(scope="module")
def wire() -> Iterator[Machines]:
    with machines("e2e") as made:
        yield made


@pytest.fixture(scope="module")
def first(wire: Machines) -> Node:
    node = wire.add("cp1")
    node.import_image()
    node.file("/etc/init.yaml").write_text(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n"
        f"nodeRegistration: {{kubeletExtraArgs: [{{name: cgroup-root, value: {node.cgroup_root}}}]}}\n---\n"
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n"
        "networking: {podSubnet: 10.244.0.0/16}\n"
    )
    return node


def pods(node: Node) -> dict[str, str]:
    """The pods of kube-system that are ready, by name, each with its node."""
    listed = json.loads(node.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: pod["spec"].get("nodeName", "")
        for pod in listed
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    }


def test_a_second_run_continues_what_a_failing_phase_left(first: Node) -> None:
    broken = first.file("/var/lib/kubelet/config.yaml")
    broken.mkdir(parents=True)  # the phase kubelet-start cannot write its file
    failed = first.tiphys("init", "--config", "/etc/init.yaml", check=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: ")
    assert "config.yaml" in failed.stderr
    broken.rmdir()
    done = first.tiphys("init", "--config", "/etc/init.yaml")
    assert "Your Kubernetes control-plane has initialized successfully!" in done.stdout
    assert "[certs] Using existing ca certificate authority" in done.stdout


def test_the_control_plane_is_listed_with_its_add_ons(first: Node) -> None:
    static = {f"{name}-cp1" for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")}
    others = {"kube-proxy", "coredns", "pod-network"}

    def all_ready() -> bool:
        ready = pods(first)
        return static <= ready.keys() and all(any(pod.startswith(f"{name}-") for pod in ready) for name in others)

    wait_for(all_ready, 120, "every pod of kube-system")


def test_a_worker_joins_by_the_printed_command(wire: Machines, first: Node) -> None:
    worker = wire.add("w1")
    worker.import_image()
    worker.file("/etc/default").mkdir(exist_ok=True)
    worker.file("/etc/default/kubelet").write_text(f"KUBELET_EXTRA_ARGS=--cgroup-root={worker.cgroup_root}\n")
    command = first.tiphys("token", "create", "--print-join-command").stdout.split()
    assert command[:2] == ["tiphys", "join"]
    joined = worker.tiphys(*command[1:])
    assert "This node has joined the cluster" in joined.stdout
    wait_for(
        lambda: (
            first.kubectl("get", "node", "w1", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
            == "True"
        ),
        90,
        "the worker's readiness",
    )
    first.kubectl("create", "deployment", "web", "--image=tiphys.local/demo:1", "--", "httpd", "-f", "-p", "8080")
    first.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=90)
    shown = first.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].spec.nodeName}")
    assert shown == "w1"


def test_a_manifest_of_2020_runs_with_nothing_but_the_image_changed(first: Node) -> None:
    file = first.file("/etc/kubernetes/manifests/kube-apiserver.yaml")
    ours = yaml.safe_load(file.read_text())
    note = STUDY_NOTE.format(address=first.address).split()
    asked = first.tiphys(*note, check=False)
    assert "--service-account-issuer" in asked.stderr
    assert "--service-account-signing-key-file" in asked.stderr
    pod = json.loads(json.dumps(ours))
    container = pod["spec"]["containers"][0]
    container["command"] = [*note, *NEEDED_TODAY.split()]
    file.write_text(yaml.safe_dump(pod))

    def runs() -> bool:
        shown = first.run(
            "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "pod", "-n", "kube-system",
            "kube-apiserver-cp1", "-o", "json", check=False,
        )  # fmt: skip
        return "--insecure-port=0" in shown.stdout and shown.returncode == 0

    wait_for(runs, 90, "the API server with the other command")


def test_reset_leaves_nothing(wire: Machines, first: Node) -> None:
    for node in (wire.nodes["w1"], first):
        node.tiphys("reset", "--force", "--cri-socket=unix:///run/containerd/containerd.sock")
        assert not list(node.file("/etc/kubernetes/manifests").iterdir())
        assert not node.file("/etc/kubernetes/kubelet.conf").exists()
        assert not node.file("/var/lib/etcd").exists() or not list(node.file("/var/lib/etcd").iterdir())
        assert not list(node.file("/var/lib/kubelet").iterdir())
        assert node.run("ctr", "--namespace=k8s.io", "tasks", "list", "-q").stdout == ""

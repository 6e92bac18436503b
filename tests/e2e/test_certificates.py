"""Certificates that live for minutes: everything goes on past their ends, and nothing is started again.

``pytest -m slow -s tests/e2e/test_certificates.py`` prints what docs/clusters.md says of it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography import x509

from tests.kubeadmnode import Node, machines
from tests.machine import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.etcd, pytest.mark.timeout(1200)]

LIFE = 240
"""Seconds that each certificate of the control plane lives."""
RENEWED_EVERY = 60
LIVES = 1.75
SERVERS = {"kube-apiserver": 6443, "etcd": 2379, "kubelet": 10250}
_KIND = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: "


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with machines("certs") as made:
        node = made.add("cp1")
        node.import_image()
        node.file("/etc/init.yaml").write_text(
            f"{_KIND}InitConfiguration\n"
            f"nodeRegistration: {{kubeletExtraArgs: [{{name: cgroup-root, value: {node.cgroup_root}}}], taints: []}}\n"
            f"---\n{_KIND}ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n"
            f"networking: {{podSubnet: 10.244.0.0/16}}\ncertificateValidityPeriod: {LIFE}s\n"
            "controllerManager: {extraArgs: [{name: cluster-signing-duration, value: 150s}]}\n"
            "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n"
        )
        node.tiphys("init", "--config", "/etc/init.yaml")
        yield node


def served(node: Node, port: int) -> x509.Certificate | None:
    """The certificate that a server shows; None if the handshake fails."""
    script = "import ssl, sys; sys.stdout.write(ssl.get_server_certificate(('127.0.0.1', int(sys.argv[1])), timeout=3))"
    done = node.run(sys.executable, "-c", script, str(port), check=False)
    return x509.load_pem_x509_certificate(done.stdout.encode()) if done.returncode == 0 else None


def containers(node: Node) -> dict[str, str]:
    """The container of each static pod, by the pod's name."""
    listed = json.loads(node.kubectl("get", "pods", "-n", "kube-system", "-l", "tier=control-plane", "-o", "json"))
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"]
        for pod in listed["items"]
        if pod["status"].get("containerStatuses")
    }


class Approver:
    """The administrator who approves what the kubelet asks to serve with. ``failures``: kubectl without an answer."""

    def __init__(self, node: Node) -> None:
        self._node, self._end = node, threading.Event()
        self.approved: set[str] = set()
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        kubectl = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
        while not self._end.wait(2):
            done = self._node.run(*kubectl, "get", "csr", "-o", "json", check=False)
            if done.returncode != 0:
                self.failures.append(done.stderr.strip())
                continue
            for request in json.loads(done.stdout)["items"]:
                serving = request["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
                name = request["metadata"]["name"]
                if not serving or name in self.approved or (request.get("status") or {}).get("conditions"):
                    continue
                if self._node.run(*kubectl, "certificate", "approve", name, check=False).returncode == 0:
                    self.approved.add(name)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


def test_everything_goes_on_past_the_ends_of_its_certificates(node: Node) -> None:
    approver = Approver(node)
    try:
        _live_on(node, approver)
    finally:
        approver.stop()


def renew(node: Node) -> None:
    said = node.tiphys("certs", "renew", "all", "--config=/etc/init.yaml").stdout
    assert "nothing has to be restarted" in said


def _live_on(node: Node, approver: Approver) -> None:
    renew(node)
    wait_for(lambda: served(node, SERVERS["kubelet"]), 150, "the kubelet's first serving certificate")
    wait_for(lambda: len(containers(node)) == 4, 60, "the static pods")
    begun, before = time.monotonic(), containers(node)
    first = {name: served(node, port) for name, port in SERVERS.items()}
    links = ("kubelet-client-current.pem", "kubelet-server-current.pem")
    kubelets: dict[str, set[str]] = {link: set() for link in links}
    while (left := begun + LIVES * LIFE - time.monotonic()) > 0:
        renew(node)
        for _ in range(int(min(left, RENEWED_EVERY) / 5) or 1):
            time.sleep(5)  # the life of certificates passes
            for link in links:
                kubelets[link].add(node.file(f"/var/lib/kubelet/pki/{link}").resolve().name)
    assert containers(node) == before
    last = {name: served(node, port) for name, port in SERVERS.items()}
    for name, certificate in last.items():
        assert certificate is not None, name
        assert certificate.not_valid_after_utc > datetime.now(UTC), name
        old = first[name]
        assert old is not None
        assert old.not_valid_after_utc < datetime.now(UTC), name
    node.kubectl("create", "deployment", "late", "--image=tiphys.local/demo:1", "--", "httpd", "-f", "-p", "8080")
    node.kubectl("rollout", "status", "deployment/late", "--timeout=60s", timeout=90)
    assert node.kubectl("exec", "deployment/late", "--", "echo", "reached") == "reached\n"
    assert approver.failures == []
    for link, seen in kubelets.items():
        assert len(seen) >= 2, link
    print(
        f"\n{LIVES * LIFE:.0f} s, {LIVES} lives of the control plane's certificates: no container restarted, kubectl "
        f"never failed; the kubelet had {len(kubelets[links[0]])} client and {len(kubelets[links[1]])} serving "
        "certificates"
    )

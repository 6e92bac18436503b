"""A cluster is saved, destroyed and restored, moved to real etcd and back: every object is as it was.

The tests of this file run in order, on one cluster: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine import NODE_IP, Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cluster.pki import ensure_pki
from tiphys.cluster.settings import Settings

pytestmark = pytest.mark.e2e

ELSEWHERE = "198.19.7.7"
KINDS = "pods,services,secrets,configmaps,deployments,replicasets,serviceaccounts,clusterroles"
SECOND_PORT, ETCD_PORT, PEER_PORT = 7443, 23790, 23800


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-backup") as made:
        made.tiphys("up", "--backup-to", made.folder / "scheduled", "--backup-every", "10s", "--backup-keep", "2")
        made.tiphys("demo", timeout=150)
        made.kubectl("create", "secret", "generic", "kept", "--from-literal=word=argo")
        yield made


def objects(cluster: Machine, *words: str) -> dict[str, str]:
    """The resource version of each object, by kind, namespace, name and uid."""
    listed = json.loads(cluster.kubectl(*words, "get", KINDS, "-A", "-o", "json"))["items"]
    return {"/".join((o["kind"], *(o["metadata"].get(f, "") for f in ("namespace", "name", "uid")))):
            o["metadata"]["resourceVersion"] for o in listed}  # fmt: skip


def etcdctl(cluster: Machine, *words: str | Path, tool: str = "etcdctl") -> str:
    """As runbooks call it, with the files that kubeadm makes."""
    pki = cluster.folder / "data/pki/etcd"
    tls = (f"--cacert={pki}/ca.crt", f"--cert={pki}/server.crt", f"--key={pki}/server.key")
    return cluster.run(*tool.split(), "--endpoints=https://127.0.0.1:2379", *tls, *words).stdout


@pytest.mark.slow
def test_scheduled_backups_are_made_and_the_oldest_go(cluster: Machine) -> None:
    folder = cluster.folder / "scheduled"
    first = wait_for(lambda: sorted(folder.glob("tiphys-*.tar.gz")), 20, "the first backup")
    wait_for(lambda: not first[0].exists() and len(list(folder.glob("*.tar.gz"))) == 2, 40, "the oldest to go")
    assert cluster.components()["backup"]["restarts"] == 0


@pytest.mark.etcd
def test_etcds_own_tool_saves_and_reads_the_snapshot(cluster: Machine) -> None:
    saved = cluster.folder / "snapshot.db"
    etcdctl(cluster, "snapshot", "save", saved)
    real = json.loads(cluster.run("etcdctl", "snapshot", "status", saved, "-w", "json").stdout)
    ours = json.loads(cluster.tool("etcdctl", "snapshot", "status", saved, "-w", "json").stdout)
    assert real == ours
    assert real["totalKey"] > 200


@pytest.mark.etcd
def test_the_cluster_moves_to_real_etcd_and_back(cluster: Machine) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    there, back = cluster.folder / "there.db", cluster.folder / "back.db"
    before = objects(cluster)
    etcdctl(cluster, "snapshot", "save", there)
    cluster.tiphys("down")
    peer = f"http://127.0.0.1:{PEER_PORT}"
    member = cluster.folder / "member.etcd"
    cluster.run(
        *("etcdctl", "snapshot", "restore", there, f"--data-dir={member}", "--name=m0"),
        *(f"--initial-cluster=m0={peer}", f"--initial-advertise-peer-urls={peer}"),
    )
    etcd = cluster.start("etcd", "--name=m0", f"--data-dir={member}", *urls(peer), output=cluster.folder / "etcd.log")
    apiserver = cluster.start(*apiserver_words(cluster), output=cluster.folder / "apiserver.log")
    second = ("--server", f"https://{NODE_IP}:{SECOND_PORT}")
    try:
        wait_for(lambda: cluster.run("kubectl", *second, "get", "--raw", "/readyz", check=False).returncode == 0, 60)
        assert before.items() <= objects(cluster, *second).items()
        cluster.kubectl(*second, "create", "configmap", "made-on-etcd")
        expected = objects(cluster, *second)
        cluster.run("etcdctl", f"--endpoints=http://127.0.0.1:{ETCD_PORT}", "snapshot", "save", back)
    finally:
        for process in (apiserver, etcd):
            process.terminate()
            process.wait(20)
    (cluster.folder / "data/etcd").rename(cluster.folder / "embedded-before")
    cluster.tool("etcdctl", "snapshot", "restore", back, f"--data-dir={cluster.folder}/data/etcd")
    cluster.tiphys("up", timeout=180)
    after = objects(cluster)
    lasting = {key: version for key, version in expected.items() if key.split("/")[0] in ("Secret", "ConfigMap")}
    assert lasting.items() <= after.items()
    assert expected.keys() <= after.keys()


def urls(peer: str) -> list[str]:
    client = f"http://127.0.0.1:{ETCD_PORT}"
    names = {"listen-client-urls": client, "advertise-client-urls": client, "listen-peer-urls": peer}
    return [f"--{name}={url}" for name, url in names.items()]


def apiserver_words(cluster: Machine) -> list[str]:
    pki = cluster.folder / "data/pki"
    return [
        str(cluster.tiphys_program),
        "kube-apiserver",
        f"--advertise-address={NODE_IP}",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={pki}/ca.crt",
        f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
        f"--secure-port={SECOND_PORT}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
    ]


def test_a_fresh_machine_with_another_address_continues_the_cluster(cluster: Machine, tmp_path: Path) -> None:
    saved = tmp_path / "home.tar.gz"
    before = objects(cluster)
    cluster.tiphys("backup", saved)
    assert saved.stat().st_mode & 0o077 == 0
    with new_machine("tiphys-restore") as fresh:
        for words in (
            ("address", "del", f"{NODE_IP}/24", "dev", "eth0"),
            ("address", "add", f"{ELSEWHERE}/24", "dev", "eth0"),
            ("route", "add", "default", "dev", "eth0"),
        ):
            subprocess.run(["ip", "-n", fresh.namespace, *words], check=True)
        fresh.tiphys("restore", saved)
        again = fresh.tiphys("restore", saved, check=False)
        assert again.returncode == 1
        assert "holds a cluster already; `tiphys reset` removes it" in again.stderr
        assert f"the node moves to {ELSEWHERE}" in fresh.tiphys("up", timeout=180).stderr
        assert before.keys() == {key for key in objects(fresh) if key in before}
        assert fresh.get("secret", "kept")["data"] == cluster.get("secret", "kept")["data"]
        fresh.kubectl("wait", "-n", "tiphys-demo", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
        port = fresh.get("service", "web", "-n", "tiphys-demo")["spec"]["ports"][0]["nodePort"]
        # What was backed up says that the pods are ready, until the kubelet of the new machine has looked.
        page = ("curl", "-fsS", "--max-time", "5", f"http://{ELSEWHERE}:{port}/")
        wait_for(lambda: "It works" in fresh.run(*page, check=False).stdout, 120, "the page of the restored demo")


def test_a_stopped_cluster_is_saved_too(cluster: Machine, tmp_path: Path) -> None:
    cluster.tiphys("down")
    done = cluster.tiphys("backup", tmp_path)
    assert "cluster tiphys, revision" in done.stdout
    assert len(list(tmp_path.glob("tiphys-tiphys-*.tar.gz"))) == 1


@pytest.mark.etcd
def test_a_control_plane_nodes_etcd_is_saved_and_made_again_at_another_address(tmp_path: Path) -> None:
    """kubeadm's files, and Debian's etcd behind mutual TLS, as a static pod of it serves on its node."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    old, new, saved = tmp_path / "old", tmp_path / "new", tmp_path / "node.tar.gz"
    with new_machine("tiphys-member") as node:
        host = node.run("hostname").stdout.strip().lower()
        ensure_pki(Settings(data_dir=old / "etc/kubernetes", node_name=host, node_ip=NODE_IP))
        none = ("--data-dir", tmp_path / "none")
        with member(node, old, host, f"--initial-cluster={host}=https://{NODE_IP}:2380"):
            etcdctl_of(node, old, "put", "/registry/x", "argo")
            node.tool("backup", *none, "--root", old, saved)
        node.tool("restore", *none, "--root", new, "--node-ip", "127.0.0.2", saved)
        assert not (new / "etc/kubernetes/pki/apiserver.crt").exists(), "it names the old address"
        shutil.copytree(old / "etc/kubernetes/pki/etcd", new / "etc/kubernetes/pki/etcd", dirs_exist_ok=True)
        with member(node, new, host):
            assert etcdctl_of(node, new, "get", "/registry/x", "--print-value-only").strip() == "argo"
            assert "https://127.0.0.2:2380" in etcdctl_of(node, new, "member", "list")
        again = node.tool("restore", *none, "--root", new, saved, check=False)
        assert "exists already; `tiphys reset` removes it" in again.stderr


def etcdctl_of(node: Machine, root: Path, *words: str) -> str:
    pki = root / "etc/kubernetes/pki/etcd"
    tls = (f"--cacert={pki}/ca.crt", f"--cert={pki}/server.crt", f"--key={pki}/server.key")
    return node.run("etcdctl", "--endpoints=https://127.0.0.1:2379", *tls, *words).stdout


@contextmanager
def member(node: Machine, root: Path, name: str, *words: str) -> Iterator[None]:
    pki = root / "etc/kubernetes/pki/etcd"
    pair = (f"--cert-file={pki}/server.crt", f"--key-file={pki}/server.key", f"--trusted-ca-file={pki}/ca.crt")
    peers = [f"--peer-{word[2:]}" for word in pair]
    client = "https://127.0.0.1:2379"
    process = node.start(
        *("etcd", f"--name={name}", f"--data-dir={root}/var/lib/etcd", *pair, *peers, "--client-cert-auth"),
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}", "--peer-client-cert-auth"),
        *(f"--listen-peer-urls=https://{NODE_IP}:2380", f"--initial-advertise-peer-urls=https://{NODE_IP}:2380"),
        *words,
        output=root / "etcd.log",
    )
    try:
        wait_for(lambda: node.run("curl", "-sk", f"{client}/", check=False).returncode in (0, 56), 20, "etcd")
        yield
    finally:
        process.terminate()
        process.wait(20)

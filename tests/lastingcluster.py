"""A cluster that lasts on the machines of ``kubeadmnode``: init, joins, a writer that counts, and who leads what.

For the end-to-end test of a whole life (tests/e2e/test_lasting.py) and for bench/failover.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.kubeadmnode import Machines, Node
from tests.machine import wait_for
from tiphys.cluster.kubeadm import discovery, images

ENDPOINT = "198.18.7.100:6443"
TOKEN, KEY = "abcdef.0123456789abcdef", "ab" * 32
LEASES = {"address": "tiphys-virtual-address", "controllers": "kube-controller-manager"}
ADMIN = "/etc/kubernetes/admin.conf"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
OLD_IMAGE = "tiphys.local/tiphys:0.0.9"
_KIND = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: "
_WRITER = """
import asyncio, sys
from pathlib import Path
from tiphys.client.kubeconfig import connected
from tiphys.client.errors import AlreadyExists, ApiError
from tiphys.client.resources import CONFIG_MAPS
async def main():
    number, log = 0, open("/var/lib/acknowledged", "w", buffering=1)
    while not Path("/var/lib/stop-writing").exists():
        try:
            async with connected(Path("/etc/kubernetes/admin.conf"), "writer") as client:
                while not Path("/var/lib/stop-writing").exists():
                    meta = {"name": f"w-{number}", "namespace": "default"}
                    async with asyncio.timeout(3):
                        try:
                            await client.create(
                                CONFIG_MAPS, {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta}
                            )
                        except AlreadyExists:
                            pass
                    log.write(f"w-{number}\\n")
                    number += 1
                    await asyncio.sleep(0.02)
        except (ApiError, ConnectionError, TimeoutError, OSError):
            await asyncio.sleep(0.2)
asyncio.run(main())
"""


def init(node: Node, *words: str, old: bool = False) -> float:
    """Make the first control plane, whose nodes share a virtual address; returns the seconds that it took.

    ``old``: with the image of an older release.
    """
    node.file("/etc/init.yaml").write_text(
        f"{_KIND}InitConfiguration\n{_registration(node)}{_release(node, old=old)}"
        f"bootstrapTokens: [{{token: {TOKEN}}}]\ncertificateKey: '{KEY}'\n---\n"
        f"{_KIND}ClusterConfiguration\ncontrolPlaneEndpoint: {ENDPOINT}\nencryptionAlgorithm: ECDSA-P256\n"
        "networking: {podSubnet: 10.244.0.0/16}\n"
    )
    started = time.monotonic()
    node.tiphys("init", "--config", "/etc/init.yaml", "--upload-certs", "--virtual-address", *words)
    return time.monotonic() - started


def pin(node: Node) -> str:
    """What a machine that joins knows the cluster's authority by."""
    return discovery.pins_of(node.file("/etc/kubernetes/pki/ca.crt").read_bytes())[0]


def join(node: Node, authority: str, *, control_plane: bool, old: bool = False) -> float:
    """Join a machine; returns the seconds that it took. ``old``: with the image of an older release."""
    role = f"controlPlane: {{certificateKey: '{KEY}'}}\n" if control_plane else ""
    node.file("/etc/join.yaml").write_text(
        f"{_KIND}JoinConfiguration\n{role}discovery: {{bootstrapToken: {{token: {TOKEN}, "
        f"apiServerEndpoint: '{ENDPOINT}', caCertHashes: ['{authority}']}}}}\n{_registration(node)}"
        f"{_release(node, old=old and control_plane)}"
    )
    started = time.monotonic()
    node.tiphys("join", "--config", "/etc/join.yaml")
    return time.monotonic() - started


def _registration(node: Node) -> str:
    return f"nodeRegistration: {{kubeletExtraArgs: [{{name: cgroup-root, value: {node.cgroup_root}}}]}}\n"


def _release(node: Node, *, old: bool) -> str:
    """The field of a configuration that has the control plane run an older release's image, by patches."""
    if not old:
        return ""
    node.run("ctr", "--namespace=k8s.io", "images", "tag", images.ours(), OLD_IMAGE)
    folder = node.file("/etc/patches")
    folder.mkdir(exist_ok=True)
    for component in COMPONENTS:
        patch = {"spec": {"containers": [{"name": component, "image": OLD_IMAGE}]}}
        (folder / f"{component}+strategic.json").write_text(json.dumps(patch))
    return "patches: {directory: /etc/patches}\n"


def let_administer(node: Node, first: Node) -> None:
    """Give a machine the administrator's kubeconfig, as an administrator copies it to a desk."""
    node.file(ADMIN).write_bytes(first.file(ADMIN).read_bytes())


def answers(node: Node) -> bool:
    """Whether kubectl on this machine is answered within a second."""
    command = ("kubectl", f"--kubeconfig={ADMIN}", "--request-timeout=1s", "get", "nodes")
    return node.run(*command, check=False, timeout=10).returncode == 0


def leaders(node: Node) -> dict[str, str]:
    """The nodes that hold the Leases, by the Leases' names."""
    words = ("--request-timeout=2s", "get", "lease", "-n", "kube-system", "-o", "json")
    listed = json.loads(node.kubectl(*words))["items"]
    held = {lease["metadata"]["name"]: lease["spec"].get("holderIdentity", "").partition("_")[0] for lease in listed}
    return {name: held[name] for name in (*LEASES.values(), "kube-scheduler") if name in held}


def etcdctl(node: Node, *words: str, endpoints: Sequence[str] = ("127.0.0.1",)) -> str:
    """etcd's own client on a control plane, with the files that kubeadm makes."""
    pki = "/etc/kubernetes/pki/etcd"
    urls = ",".join(f"https://{address}:2379" for address in endpoints)
    tls = (f"--cacert={pki}/ca.crt", f"--cert={pki}/server.crt", f"--key={pki}/server.key")
    return node.run("etcdctl", f"--endpoints={urls}", *tls, *words).stdout


def etcd_leader(nodes: Sequence[Node]) -> Node:
    """The control plane whose member leads."""
    by_address = {node.address: node for node in nodes}
    shown = json.loads(etcdctl(nodes[0], "endpoint", "status", "-w", "json", endpoints=list(by_address)))
    leading = next(one for one in shown if one["Status"]["leader"] == one["Status"]["header"]["member_id"])
    return by_address[leading["Endpoint"].removeprefix("https://").rpartition(":")[0]]


def lead_etcd(nodes: Sequence[Node], wanted: Node) -> None:
    """Let the member of ``wanted`` lead."""
    if (leader := etcd_leader(nodes)) is wanted:
        return
    listed = json.loads(etcdctl(leader, "member", "list", "-w", "json"))["members"]
    member = next(one["ID"] for one in listed if one["name"] == wanted.name)
    etcdctl(leader, "move-leader", f"{member:x}")


@dataclass
class Writer:
    """A process on a machine that creates ConfigMaps all the time, and notes each that was acknowledged."""

    node: Node
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, node: Node) -> Writer:
        node.file("/var/lib/stop-writing").unlink(missing_ok=True)
        return cls(node, subprocess.Popen(node.argv(sys.executable, "-c", _WRITER), env=node.environment))

    def acknowledged(self) -> list[str]:
        file = self.node.file("/var/lib/acknowledged")
        return file.read_text().splitlines() if file.exists() else []

    def stop(self) -> list[str]:
        """End it; returns the names of the acknowledged ConfigMaps that are not there."""
        self.node.file("/var/lib/stop-writing").touch()
        self.process.wait()
        there = set(self.node.kubectl("get", "configmaps", "-o", "name").split())
        return [name for name in self.acknowledged() if f"configmap/{name}" not in there]


@dataclass(frozen=True)
class Outage:
    """What a failure of one machine cost: seconds, and writes."""

    answered: float
    """Until kubectl was answered again."""
    writing: float
    """Until a hundred more writes were acknowledged."""
    acknowledged: int
    lost: list[str]


def kill(machines: Machines, victim: str, observer: Node) -> Outage:
    """kill -9 of everything on a machine while ``observer`` writes and asks."""
    writer = Writer.start(observer)
    wait_for(lambda: len(writer.acknowledged()) > 100, 60, "a hundred writes")
    before, started = len(writer.acknowledged()), time.monotonic()
    killer = threading.Thread(target=machines.nodes[victim].kill_everything)
    killer.start()
    wait_for(lambda: answers(observer), 60, "an answer to kubectl")
    answered = time.monotonic() - started
    wait_for(lambda: len(writer.acknowledged()) > before + 100, 60, "writes to go on")
    writing = time.monotonic() - started
    killer.join()
    lost = writer.stop()
    return Outage(answered, writing, len(writer.acknowledged()), lost)

"""Three control planes and a worker, and kill -9 of all that runs on the leader: how long kubectl waits, what is lost.

By hand, as root: ``python -m bench.failover [address|controllers]``, by what the node that is killed leads: the virtual
address, or the controllers (and mostly etcd, which began there). Each node is a namespace of its own
(tests/kubeadmnode.py), with real containerd and etcd. A writer on the worker creates ConfigMaps through the virtual
address all the time, and notes each that was acknowledged; in the end each of those has to be there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from tests.kubeadmnode import Machines, Node, machines
from tests.machine import wait_for
from tiphys.cluster.kubeadm import discovery

ENDPOINT = "198.18.7.100:6443"
TOKEN, KEY = "abcdef.0123456789abcdef", "ab" * 32
LEASES = {"address": "tiphys-virtual-address", "controllers": "kube-controller-manager"}
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


def main(what: str) -> int:
    with machines("failover") as made:
        first = made.add("cp1")
        first.import_image()
        _init(first)
        pin = discovery.pins_of(first.file("/etc/kubernetes/pki/ca.crt").read_bytes())[0]
        for name in ("cp2", "cp3", "w1"):
            _join(made.add(name), pin)
        worker = made.nodes["w1"]
        worker.file("/etc/kubernetes/admin.conf").write_bytes(first.file("/etc/kubernetes/admin.conf").read_bytes())
        print(_kubectl(worker, "get", "pods", "-n", "kube-system", "-o", "wide"), flush=True)
        return _fail_over(made, worker, what)


def _fail_over(made: Machines, worker: Node, what: str) -> int:
    writer = subprocess.Popen(worker.argv(sys.executable, "-c", _WRITER), env=worker.environment)
    wait_for(lambda: len(_acknowledged(worker)) > 100, 60, "a hundred writes")
    leaders = _leaders(worker)
    leader = made.nodes[leaders[LEASES[what]]]
    print(f"{', '.join(f'{name}: {node}' for name, node in leaders.items())}; killing {leader.name}", flush=True)
    before, started = len(_acknowledged(worker)), time.monotonic()
    killer = threading.Thread(target=leader.kill_everything)
    killer.start()
    wait_for(lambda: _answers(worker), 60, "an answer to kubectl")
    waited = time.monotonic() - started
    wait_for(lambda: len(_acknowledged(worker)) > before + 100, 60, "writes go on")
    writing = time.monotonic() - started
    killer.join()
    worker.file("/var/lib/stop-writing").touch()
    writer.wait()
    acknowledged = _acknowledged(worker)
    there = set(_kubectl(worker, "get", "configmaps", "-o", "name").split())
    lost = [name for name in acknowledged if f"configmap/{name}" not in there]
    print(f"kubectl answered again after {waited:.1f} s, a hundred more writes were acknowledged after {writing:.1f} s")
    print(f"{len(acknowledged)} writes were acknowledged, {len(lost)} of them are lost")
    return 1 if lost or waited > 10 else 0


def _init(node: Node) -> None:
    extra = f"nodeRegistration: {{kubeletExtraArgs: [{{name: cgroup-root, value: {node.cgroup_root}}}]}}\n"
    node.file("/etc/init.yaml").write_text(
        f"{_KIND}InitConfiguration\n{extra}bootstrapTokens: [{{token: {TOKEN}}}]\ncertificateKey: '{KEY}'\n---\n"
        f"{_KIND}ClusterConfiguration\ncontrolPlaneEndpoint: {ENDPOINT}\nencryptionAlgorithm: ECDSA-P256\n"
        "networking: {podSubnet: 10.244.0.0/16}\n"
    )
    started = time.monotonic()
    node.tiphys("init", "--config", "/etc/init.yaml", "--upload-certs", "--virtual-address")
    print(f"init took {time.monotonic() - started:.1f} s", flush=True)


def _join(node: Node, pin: str) -> None:
    node.import_image()
    control_plane = f"controlPlane: {{certificateKey: '{KEY}'}}\n" if node.name.startswith("cp") else ""
    node.file("/etc/join.yaml").write_text(
        f"{_KIND}JoinConfiguration\n{control_plane}discovery: {{bootstrapToken: {{token: {TOKEN}, "
        f"apiServerEndpoint: '{ENDPOINT}', caCertHashes: ['{pin}']}}}}\n"
        f"nodeRegistration: {{kubeletExtraArgs: [{{name: cgroup-root, value: {node.cgroup_root}}}]}}\n"
    )
    started = time.monotonic()
    node.tiphys("join", "--config", "/etc/join.yaml")
    print(f"join of {node.name} took {time.monotonic() - started:.1f} s", flush=True)


def _kubectl(node: Node, *words: str) -> str:
    return node.kubectl("--request-timeout=2s", *words)


def _answers(node: Node) -> bool:
    command = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=1s", "get", "nodes")
    return node.run(*command, check=False, timeout=10).returncode == 0


def _leaders(node: Node) -> dict[str, str]:
    """The nodes that hold the Leases, by the Leases' names."""
    listed = json.loads(_kubectl(node, "get", "lease", "-n", "kube-system", "-o", "json"))["items"]
    held = {lease["metadata"]["name"]: lease["spec"].get("holderIdentity", "").partition("_")[0] for lease in listed}
    return {name: held[name] for name in (*LEASES.values(), "kube-scheduler") if name in held}


def _acknowledged(node: Node) -> list[str]:
    file = node.file("/var/lib/acknowledged")
    return file.read_text().splitlines() if file.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "controllers"))

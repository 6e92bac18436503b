"""The image of the components: assembled twice, imported, and its commands run as pods of a real cluster."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import NODE_IP, Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cli.main import COMPONENTS
from tiphys.cluster.imagebuild.assemble import Recipe, cached_image
from tiphys.cluster.images import COMPONENT_IMAGE, demo_image
from tiphys.cluster.ocilayout import build

pytestmark = pytest.mark.e2e

PORT = 7443

APISERVER = """
apiVersion: v1
kind: Pod
metadata: {{name: second-apiserver, namespace: kube-system}}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 0
  containers:
  - name: kube-apiserver
    image: {image}
    command:
    - kube-apiserver
    - --advertise-address={ip}
    - --authorization-mode=Node,RBAC
    - --client-ca-file={pki}/ca.crt
    - --etcd-cafile={pki}/etcd/ca.crt
    - --etcd-certfile={pki}/apiserver-etcd-client.crt
    - --etcd-keyfile={pki}/apiserver-etcd-client.key
    - --etcd-servers=https://127.0.0.1:2379
    - --secure-port={port}
    - --service-account-issuer=https://kubernetes.default.svc.cluster.local
    - --service-account-key-file={pki}/sa.pub
    - --service-account-signing-key-file={pki}/sa.key
    - --service-cluster-ip-range=10.96.0.0/16
    - --tls-cert-file={pki}/apiserver.crt
    - --tls-private-key-file={pki}/apiserver.key
    readinessProbe: {{httpGet: {{scheme: HTTPS, host: {ip}, port: {port}, path: /readyz}}, periodSeconds: 1}}
    volumeMounts: [{{name: pki, mountPath: {pki}, readOnly: true}}]
  volumes: [{{name: pki, hostPath: {{path: {pki}, type: DirectoryOrCreate}}}}]
"""

IMPORTS = """
import importlib, pkgutil, tiphys
for module in pkgutil.walk_packages(tiphys.__path__, "tiphys."):
    if ".testing" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with new_machine("tiphys-image") as made:
        made.tiphys("up", timeout=180)
        yield made


@pytest.fixture(scope="module")
def image(cluster: Machine) -> Path:
    file = cluster.folder / "image.tar"
    cluster.tiphys("image", "build", "-o", file, timeout=180)
    return file


def run(cluster: Machine, name: str, *command: str) -> str:
    """What a command says that runs in a pod of the image, to its end."""
    words = ("--image", COMPONENT_IMAGE, "--restart=Never", "--command", "--", *command)
    cluster.kubectl("run", name, *words)
    wait_for(lambda: phase(cluster, name) in ("Succeeded", "Failed"), 60, f"the end of {name}")
    said = cluster.kubectl("logs", name)
    assert phase(cluster, name) == "Succeeded", said
    cluster.kubectl("delete", "pod", name, "--now")
    return said


def phase(cluster: Machine, name: str) -> str:
    return str(cluster.get("pod", name)["status"]["phase"])


def test_the_same_parts_give_the_same_bytes(image: Path) -> None:
    """Two processes, and the second may take the layers from where an earlier run of the suite left them."""
    second = cached_image(Recipe(tuple(COMPONENTS)))
    assert second.read_bytes() == image.read_bytes()
    assert image.stat().st_size < 150e6


def test_no_entry_names_the_machine_that_built_it(image: Path) -> None:
    with tarfile.open(image) as layout:
        manifest = blob(layout, json.load(member(layout, "index.json"))["manifests"][0])
        assert "created" not in blob(layout, manifest["config"])
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=member(layout, f"blobs/sha256/{layer['digest'][7:]}")) as entries:
                of_machine = [e.name for e in entries if e.mtime or e.uid or e.gid or e.uname]
                assert of_machine == []


def member(layout: tarfile.TarFile, name: str) -> Any:
    return layout.extractfile(name)


def blob(layout: tarfile.TarFile, descriptor: dict[str, str]) -> Any:
    return json.load(member(layout, f"blobs/sha256/{descriptor['digest'][7:]}"))


def test_it_is_imported_and_every_component_is_a_command_in_it(cluster: Machine, image: Path) -> None:
    assert COMPONENT_IMAGE in cluster.tiphys("image", "import", str(image)).stdout
    socket = cluster.folder / "data" / "run" / "containerd.sock"
    assert COMPONENT_IMAGE in cluster.tiphys("image", "list", "--address", socket).stdout
    script = f"import shutil; print([n for n in {sorted(COMPONENTS)} if not shutil.which(n)])"
    assert run(cluster, "names", "/opt/tiphys/bin/python3", "-c", script).strip() == "[]"


def test_a_component_says_its_version_within_a_second(cluster: Machine, image: Path) -> None:
    """A second of its own: other tests' work beside it does not count."""
    script = (
        "import subprocess, resource; "
        "print(subprocess.check_output(['kube-apiserver', '--version'], text=True).strip()); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    name, version, seconds = run(cluster, "version", "/opt/tiphys/bin/python3", "-c", script).split()
    assert (name, version) == ("Kubernetes", "v1.36.0")
    assert float(seconds) < 1


def test_every_module_of_the_package_finds_what_it_imports(cluster: Machine, image: Path) -> None:
    assert run(cluster, "imports", "/opt/tiphys/bin/python3", "-c", IMPORTS).strip() == "imported"


def test_the_packet_programs_find_their_libraries(cluster: Machine, image: Path) -> None:
    for words in (("nft", "--version"), ("conntrack", "--version"), ("iptables", "--version"), ("ip", "-V")):
        assert " v" in (said := run(cluster, "tool", *words)) or "iproute2" in said


@pytest.mark.slow
def test_an_image_upon_a_base_runs_with_what_the_base_has(cluster: Machine, image: Path) -> None:
    """The base is one with a shell, which ours has none of; a second build takes our layers from its cache."""
    base, built = cluster.folder / "base.tar", cluster.folder / "upon.tar"
    base.write_bytes(build(replace(demo_image("example.com/base:1"), environment={"OF_THE_BASE": "argo"})))
    name = "tiphys.local/upon:1"
    cluster.tiphys("image", "build", "--base", base, "--name", name, "-o", built, timeout=600)
    cluster.tiphys("image", "import", str(built))
    script = "echo $OF_THE_BASE; kube-apiserver --version; etcd --version | head -n 1; busybox true && echo shell"
    words = ("--image", name, "--restart=Never", "--command", "--", "sh", "-c", script)
    cluster.kubectl("run", "upon", *words)
    wait_for(lambda: phase(cluster, "upon") in ("Succeeded", "Failed"), 60, "the end of the pod")
    said = cluster.kubectl("logs", "upon").splitlines()
    assert phase(cluster, "upon") == "Succeeded", said
    assert (said[0], said[1], said[-1]) == ("argo", "Kubernetes v1.36.0", "shell")
    cluster.kubectl("delete", "pod", "upon", "--now")


def test_an_api_server_serves_from_the_image(cluster: Machine, image: Path) -> None:
    pki = cluster.folder / "data" / "pki"
    cluster.apply(APISERVER.format(image=COMPONENT_IMAGE, ip=NODE_IP, pki=pki, port=PORT))
    started = time.monotonic()
    cluster.kubectl("wait", "-n", "kube-system", "pod/second-apiserver", "--for=condition=Ready", "--timeout=60s")
    print(f"ready after {time.monotonic() - started:.1f} s")
    names = cluster.kubectl("--server", f"https://{NODE_IP}:{PORT}", "get", "nodes", "-o", "name")
    assert names == cluster.kubectl("get", "nodes", "-o", "name")
    cluster.kubectl("delete", "pod", "-n", "kube-system", "second-apiserver", "--now")

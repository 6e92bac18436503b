"""A cluster that lasts, as a new administrator makes it: init, a second run, a worker that joins, and reset."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.kubeadmnode import Machines, Node, machines
from tests.machine import wait_for
from tests.wire.certificates import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

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
    text = node.file("/etc/init.yaml").read_text()
    for name, timeout in (("impatient", "kubernetesAPICall"), ("hasty", "kubeletHealthCheck")):
        with_timeout = f"kind: InitConfiguration\ntimeouts: {{{timeout}: 3s}}"
        node.file(f"/etc/{name}.yaml").write_text(text.replace("kind: InitConfiguration", with_timeout, 1))
    return node


def pods(node: Node) -> dict[str, str]:
    """The pods of kube-system that are ready, by name, each with its node."""
    listed = json.loads(node.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: pod["spec"].get("nodeName", "")
        for pod in listed
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    }


@dataclass(frozen=True)
class Fault:
    """What makes a phase of ``init`` fail, what undoes it, and what the message has to say beside the phase's name."""

    phase: str
    do: Callable[[Node], object]
    undo: Callable[[Node], object]
    says: str
    words: tuple[str, ...] = ()
    """Further words of the command."""


def spoiled(phase: str, path: str, says: str, *words: str, folder: bool = False) -> Fault:
    """A file with nonsense, or a folder in its place; what was there comes back."""

    def do(node: Node) -> None:
        file = node.file(path)
        if file.exists():
            file.rename(file.with_name(f"{file.name}.kept"))
        file.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            file.mkdir()
        else:
            file.write_text("nonsense")

    def undo(node: Node) -> None:
        file = node.file(path)
        file.rmdir() if folder else file.unlink()
        kept = file.with_name(f"{file.name}.kept")
        if kept.exists():
            kept.rename(file)

    return Fault(phase, do, undo, says, words)


def kubelet_finalize() -> Fault:
    """The phase has something to do once the kubelet has a pair of its own: until then, one stands for it."""
    phase, words = (
        "kubelet-finalize/enable-client-cert-rotation",
        ("phase", "kubelet-finalize", "--config=/etc/init.yaml"),
    )
    inner = spoiled(phase, "/etc/kubernetes/kubelet.conf", "is not a valid kubeconfig", *words)
    pair = "/var/lib/kubelet/pki/kubelet-client-current.pem"

    def do(node: Node) -> None:
        inner.do(node)
        if not node.file(pair).is_symlink():
            node.file(pair).write_text("none yet")

    def undo(node: Node) -> None:
        if not node.file(pair).is_symlink():
            node.file(pair).unlink()
        inner.undo(node)

    return Fault(phase, do, undo, inner.says, words)


def denied(phase: str, group: str, resource: str, *words: str) -> Fault:
    """A policy of the cluster refuses what the phase writes."""

    house = ("kubectl", "--kubeconfig=/etc/kubernetes/super-admin.conf")

    def do(node: Node) -> None:
        node.run(*house, "apply", "-f", "-", stdin=POLICY.format(group=group, resource=resource))
        wait_for(lambda: refuses(node), 30, "the policy to be in force")

    def undo(node: Node) -> None:
        node.run(*house, "delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--all")
        wait_for(lambda: not refuses(node), 30, "the policy to be gone")

    def refuses(node: Node) -> bool:
        probe = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: probe, namespace: default}\nspec: {limits: []}"
        somebody = ("--as=kubernetes-admin", "--as-group=system:masters")
        return (
            node.run(*house, *somebody, "create", "--dry-run=server", "-f", "-", check=False, stdin=probe).returncode
            != 0
        )

    return Fault(phase, do, undo, "denied request: the house's policy", ("--config=/etc/impatient.yaml", *words))


POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: house}}
spec:
  matchConstraints:
    resourceRules:
    - {{apiGroups: ["{group}"], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: ["{resource}"]}}
    - {{apiGroups: [""], apiVersions: ["*"], operations: [CREATE], resources: [limitranges]}}
  validations:
  - {{expression: "request.userInfo.username != 'kubernetes-admin'", message: "the house's policy"}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: house}}
spec: {{policyName: house, validationActions: [Deny]}}
"""
FAULTS = (
    Fault(
        "preflight",
        lambda node: node.run("sysctl", "-qw", "net.ipv4.ip_forward=0"),
        lambda node: node.run("sysctl", "-qw", "net.ipv4.ip_forward=1"),
        "/proc/sys/net/ipv4/ip_forward contents are not set to 1; set it: `sysctl -w net.ipv4.ip_forward=1`",
    ),
    spoiled("certs/apiserver", "/etc/kubernetes/pki/apiserver.crt", "restore it, or move it away"),
    spoiled("kubeconfig/admin", "/etc/kubernetes/admin.conf", "cannot use /etc/kubernetes/admin.conf"),
    spoiled("etcd/local", "/var/lib/etcd", "/var/lib/etcd: File exists", "--skip-phases=preflight"),
    spoiled(
        "control-plane/scheduler",
        "/etc/kubernetes/manifests/kube-scheduler.yaml",
        "Is a directory",
        "--skip-phases=preflight",
        folder=True,
    ),
    spoiled("kubelet-start", "/var/lib/kubelet/config.yaml", "kubelet/config.yaml: Is a directory", folder=True),
    Fault(  # the kubelet does not run yet
        "wait-control-plane",
        lambda node: None,
        lambda node: None,
        "failed while waiting for the kubelet to start: kubelet is not healthy after 3s",
        ("phase", "wait-control-plane", "--config=/etc/hasty.yaml"),
    ),
)
"""In the order of the phases: each run continues what the one before has left, up to its own fault."""
LATER_FAULTS = (
    denied("upload-config/kubeadm", "", "configmaps"),
    denied("upload-certs", "", "secrets", "--upload-certs"),
    denied("mark-control-plane", "", "nodes"),
    denied("bootstrap-token", "rbac.authorization.k8s.io", "clusterrolebindings"),
    kubelet_finalize(),
    denied("addon/coredns", "apps", "deployments"),
    denied("addon/kube-proxy", "apps", "daemonsets"),
)
"""The same of the phases that need the API server."""
LATER = ("upload-config", "upload-certs", "mark-control-plane", "bootstrap-token", "kubelet-finalize", "addon")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.phase)
def test_a_phase_that_fails_says_what_to_do(first: Node, fault: Fault) -> None:
    fails(first, fault)


def test_a_part_of_the_phases_can_be_run_first(first: Node) -> None:
    first.tiphys("init", "--config=/etc/init.yaml", f"--skip-phases={','.join(LATER)}")


@pytest.mark.parametrize("fault", LATER_FAULTS, ids=lambda fault: fault.phase)
def test_a_later_phase_that_fails_says_what_to_do(first: Node, fault: Fault) -> None:
    fails(first, fault)


def fails(first: Node, fault: Fault) -> None:
    """Run ``init`` into a fault, and hold its message to what it has to say."""
    fault.do(first)
    try:
        config = () if any(word.startswith("--config") for word in fault.words) else ("--config=/etc/init.yaml",)
        failed = first.tiphys("init", *fault.words, *config, check=False)
    finally:
        fault.undo(first)
    assert failed.returncode == 1, failed.stdout
    assert f"error: error execution phase {fault.phase}: " in failed.stderr
    assert fault.says in failed.stderr
    assert "run the same command again: it continues from what is there" in failed.stderr


def test_the_run_after_every_failure_completes(first: Node) -> None:
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


@pytest.mark.etcd
def test_a_control_plane_uses_an_etcd_that_runs_elsewhere(wire: Machines, first: Node) -> None:
    """Real etcd with mutual TLS on another machine, which init checks and reset leaves alone."""
    elsewhere = wire.nodes["w1"]
    authority = Authority("etcd")
    folder = "/etc/etcd-elsewhere"
    for node, stem, pair in (
        (elsewhere, "server", authority.issue("w1", server=True, addresses=(elsewhere.address, "127.0.0.1"))),
        (first, "client", authority.issue("kube-apiserver")),
    ):
        node.file(folder).mkdir()
        for end, pem in zip(("crt", "key"), pair, strict=True):
            node.file(f"{folder}/{stem}.{end}").write_bytes(pem)
        node.file(f"{folder}/ca.crt").write_bytes(authority.pem)
    url = f"https://{elsewhere.address}:2379"
    peers = "http://127.0.0.1:2380"
    with (elsewhere.folder / "etcd.log").open("wb") as log:
        etcd = subprocess.Popen(
            elsewhere.argv(
                *("etcd", "--name=elsewhere", "--data-dir=/var/lib/etcd-elsewhere", f"--listen-client-urls={url}"),
                *(f"--advertise-client-urls={url}", f"--listen-peer-urls={peers}"),
                *(f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=elsewhere={peers}"),
                *("--client-cert-auth", f"--trusted-ca-file={folder}/ca.crt"),
                *(f"--cert-file={folder}/server.crt", f"--key-file={folder}/server.key"),
            ),
            env=elsewhere.environment,
            stdout=log,
            stderr=log,
        )
    try:
        external = (
            f"etcd: {{external: {{endpoints: ['{url}'], caFile: {folder}/ca.crt, certFile: {folder}/client.crt, "
            f"keyFile: {folder}/client.key}}}}\n"
        )
        given = first.file("/etc/init.yaml").read_text()
        first.file("/etc/external.yaml").write_text(given + external)
        first.file("/etc/wrong.yaml").write_text(given + external.replace(":2379", ":2378"))
        failed = first.tiphys("init", "--config", "/etc/wrong.yaml", check=False)
        assert "[ERROR ExternalEtcdVersion]: external etcd at https://" in failed.stderr
        assert not first.file("/etc/kubernetes/pki/ca.crt").exists()
        first.tiphys("init", "--config", "/etc/external.yaml")
        assert not first.file("/etc/kubernetes/manifests/etcd.yaml").exists()
        first.kubectl("create", "configmap", "kept-elsewhere")
        tls = (f"--cacert={folder}/ca.crt", f"--cert={folder}/client.crt", f"--key={folder}/client.key")
        ask = ("etcdctl", f"--endpoints={url}", *tls, "get", "--keys-only", "/registry/configmaps/default/")
        assert "/registry/configmaps/default/kept-elsewhere" in first.run(*ask, "--prefix").stdout
        said = first.tiphys("reset", "--force", "--cri-socket=unix:///run/containerd/containerd.sock").stdout
        assert "[reset] No etcd config found. Assuming external etcd" in said
        assert "kept-elsewhere" in first.run(*ask, "--prefix").stdout
    finally:
        etcd.terminate()
        etcd.wait(20)

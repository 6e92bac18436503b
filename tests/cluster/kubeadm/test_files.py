"""What the phases write, fact by fact as kubeadm v1.36 writes it: files, modes, certificates, kubeconfigs, manifests.

``data/*.yaml`` is what `kubeadm init phase etcd local` and `… control-plane all` gave for ``CONFIGURATION``.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from tiphys.cluster.kubeadm import workflow
from tiphys.cluster.kubeadm.certificates import disk
from tiphys.cluster.kubeadm.configuration import documents, dynamic, load
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.kubeconfig import KUBECONFIG
from tiphys.cluster.kubeadm.phases.staticpods import CONTROL_PLANE, ETCD
from tiphys.cluster.pki import CLIENT, SERVER, names_of

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIGURATION = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.5.6.7}
nodeRegistration: {name: cp1, criSocket: "unix:///run/containerd/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {podSubnet: 10.244.0.0/16}
controlPlaneEndpoint: cp.example:6443
apiServer: {certSANs: [extra.example, 10.9.9.9]}
imageRepository: registry.k8s.io
encryptionAlgorithm: ECDSA-P256
"""
PHASES = (CERTS, KUBECONFIG, ETCD, CONTROL_PLANE)
API_NAMES = [
    "cp.example",
    "cp1",
    "extra.example",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
    "10.5.6.7",
    "10.9.9.9",
]
ETCD_NAMES = ["cp1", "localhost", "10.5.6.7", "127.0.0.1", "::1"]


def context(root: Path, text: str = CONFIGURATION) -> Installation:
    configuration = load.init_configuration(documents.read_text(text, "cfg"), dynamic.Host("h", "1.1.1.1"))
    said: list[str] = []
    return Installation(configuration, HostRoot(root), say=said.append, warn=said.append, now=NOW)


def run(made: Installation, *phases, **options) -> None:
    asyncio.run(workflow.run(phases or PHASES, made, **options))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("node")
    run(context(root))
    return root


def test_files_and_modes(written):
    stems = [
        "ca",
        "apiserver",
        "apiserver-kubelet-client",
        "front-proxy-ca",
        "front-proxy-client",
        "apiserver-etcd-client",
    ]
    stems += ["etcd/ca", "etcd/server", "etcd/peer", "etcd/healthcheck-client"]
    wanted = {f"pki/{stem}.crt": 0o644 for stem in stems} | {f"pki/{stem}.key": 0o600 for stem in stems}
    wanted |= {"pki/sa.key": 0o600, "pki/sa.pub": 0o600}
    wanted |= {f"{name}.conf": 0o600 for name in ("admin", "super-admin", "kubelet", "controller-manager", "scheduler")}
    components = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    wanted |= {f"manifests/{name}.yaml": 0o600 for name in components}
    folder = written / "etc/kubernetes"
    found = {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert found == wanted
    assert (folder / "manifests").stat().st_mode & 0o777 == 0o700
    assert (written / "var/lib/etcd").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("stem", "common_name", "authority", "usages", "names"),
    [
        ("apiserver", "kube-apiserver", "ca", SERVER, API_NAMES),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "ca", CLIENT, []),
        ("front-proxy-client", "front-proxy-client", "front-proxy-ca", CLIENT, []),
        ("etcd/server", "cp1", "etcd/ca", SERVER + CLIENT, ETCD_NAMES),
        ("etcd/peer", "cp1", "etcd/ca", SERVER + CLIENT, ETCD_NAMES),
        ("etcd/healthcheck-client", "kube-etcd-healthcheck-client", "etcd/ca", CLIENT, []),
        ("apiserver-etcd-client", "kube-apiserver-etcd-client", "etcd/ca", CLIENT, []),
    ],
)
def test_a_certificate(written, stem, common_name, authority, usages, names):
    folder = written / "etc/kubernetes/pki"
    pair = disk.read_pair(folder, stem)
    signer = disk.read_authority(folder, authority).certificate
    certificate = pair.certificate
    certificate.verify_directly_issued_by(signer)
    assert certificate.subject.rfc4514_string() == f"CN={common_name}"
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    extension = certificate.extensions.get_extension_for_class
    assert list(extension(x509.ExtendedKeyUsage).value) == list(usages)
    usage = extension(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_encipherment, usage.value.key_cert_sign) == (
        True,
        True,
        False,
    )
    assert extension(x509.BasicConstraints).value.ca is False
    identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extension(x509.AuthorityKeyIdentifier).value.key_identifier == identifier
    assert names_of(certificate) == names


@pytest.mark.parametrize(
    ("stem", "name"), [("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca"), ("etcd/ca", "etcd-ca")]
)
def test_an_authority(written, stem, name):
    certificate = disk.read_authority(written / "etc/kubernetes/pki", stem).certificate
    assert certificate.subject.rfc4514_string() == f"CN={name}"
    assert names_of(certificate) == [name]
    assert certificate.not_valid_after_utc == NOW + timedelta(days=3650)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign, usage.crl_sign) == (
        True,
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("file", "user", "organization", "server"),
    [
        ("admin", "kubernetes-admin", "kubeadm:cluster-admins", "https://cp.example:6443"),
        ("super-admin", "kubernetes-super-admin", "system:masters", "https://cp.example:6443"),
        ("kubelet", "system:node:cp1", "system:nodes", "https://10.5.6.7:6443"),
        ("controller-manager", "system:kube-controller-manager", "", "https://10.5.6.7:6443"),
        ("scheduler", "system:kube-scheduler", "", "https://10.5.6.7:6443"),
    ],
)
def test_a_kubeconfig(written, file, user, organization, server):
    from tiphys.cluster import kubeconfig

    path = written / f"etc/kubernetes/{file}.conf"
    config = kubeconfig.load(path)
    assert config["current-context"] == f"{user}@kubernetes"
    assert [entry["name"] for entry in config["clusters"]] == ["kubernetes"]
    assert config["contexts"] == [{"context": {"cluster": "kubernetes", "user": user}, "name": f"{user}@kubernetes"}]
    address, authority, certificate, _ = kubeconfig.credentials(config)
    assert address == server
    assert authority == (written / "etc/kubernetes/pki/ca.crt").read_bytes()
    subject = x509.load_pem_x509_certificate(certificate).subject.rfc4514_string()
    assert subject == (f"CN={user},O={organization}" if organization else f"CN={user}")


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_a_manifest_is_upstreams_to_the_letter(written, name):
    assert (written / f"etc/kubernetes/manifests/{name}.yaml").read_text() == (DATA / f"{name}.yaml").read_text()


def test_our_image_has_every_component_and_etcd_34(tmp_path):
    made = context(tmp_path, CONFIGURATION.replace("imageRepository: registry.k8s.io\n", ""))
    run(made, ETCD, CONTROL_PLANE)
    folder = tmp_path / "etc/kubernetes/manifests"
    pods = {path.stem: yaml.safe_load(path.read_text())["spec"]["containers"][0] for path in folder.iterdir()}
    assert {pod["image"] for pod in pods.values()} == {"tiphys.local/tiphys:0.1.0"}
    assert "--experimental-initial-corrupt-check=true" in pods["etcd"]["command"]
    assert pods["etcd"]["livenessProbe"]["httpGet"]["path"] == "/metrics"


def test_a_second_run_keeps_every_file(tmp_path):
    run(context(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "etc").rglob("*") if path.is_file()}
    again = context(tmp_path)
    run(again)
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_there_and_wrong_is_refused_with_the_remedy(tmp_path):
    run(context(tmp_path), CERTS, KUBECONFIG)
    other = context(tmp_path, CONFIGURATION.replace("10.9.9.9", "10.8.8.8"))
    with pytest.raises(
        KubeadmError, match=r"phase certs/apiserver: certificate apiserver .* not 10.8.8.8; move apiserver.crt"
    ):
        run(other, CERTS)
    elsewhere = context(tmp_path, CONFIGURATION.replace("cp.example", "other.example"))
    with pytest.raises(
        KubeadmError, match=r'"/etc/kubernetes/admin.conf" exists already but has an unexpected API Server URL'
    ):
        run(elsewhere, KUBECONFIG)


def test_with_an_external_ca_everything_signed_has_to_be_there(tmp_path):
    run(context(tmp_path), CERTS, KUBECONFIG)
    pki = tmp_path / "etc/kubernetes/pki"
    (pki / "ca.key").unlink()
    run(context(tmp_path), CERTS, KUBECONFIG, CONTROL_PLANE)
    manager = yaml.safe_load((tmp_path / "etc/kubernetes/manifests/kube-controller-manager.yaml").read_text())
    assert "--cluster-signing-key-file=" in manager["spec"]["containers"][0]["command"]
    (pki / "apiserver.crt").unlink()
    with pytest.raises(KubeadmError, match=r"without ca.key it cannot be signed here: have your CA sign"):
        run(context(tmp_path), CERTS)


def test_patches_of_a_folder_change_the_manifests(tmp_path):
    folder = tmp_path / "patches"
    folder.mkdir()
    (folder / "kube-apiserver0.yaml").write_text(
        "spec: {containers: [{name: kube-apiserver, resources: {requests: {cpu: 100m}}}]}"
    )
    (folder / "kube-apiserver1+merge.yaml").write_text("metadata: {annotations: {a: b}}")
    (folder / "etcd+json.json").write_text('[{"op": "add", "path": "/metadata/labels/c", "value": "d"}]')
    (folder / "notes.txt").write_text("x")
    text = CONFIGURATION.replace("nodeRegistration", f"patches: {{directory: {folder}}}\nnodeRegistration")
    run(context(tmp_path, text), ETCD, CONTROL_PLANE)

    def read(name: str) -> dict:
        return yaml.safe_load((tmp_path / f"etc/kubernetes/manifests/{name}.yaml").read_text())

    server = read("kube-apiserver")
    assert server["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}}
    assert len(server["spec"]["containers"][0]["command"]) == 28
    assert server["metadata"]["annotations"]["a"] == "b"
    assert read("etcd")["metadata"]["labels"]["c"] == "d"


def test_phases_run_alone_are_skipped_and_are_named_in_errors(tmp_path):
    run(context(tmp_path), only="certs/ca")
    assert [path.name for path in sorted((tmp_path / "etc/kubernetes/pki").iterdir())] == ["ca.crt", "ca.key"]
    run(context(tmp_path), skipped=["certs/sa", "kubeconfig", "etcd", "control-plane"])
    assert not (tmp_path / "etc/kubernetes/pki/sa.key").exists()
    with pytest.raises(KubeadmError, match="invalid phase name: foo"):
        run(context(tmp_path), skipped=["foo"])

"""Joining: whom a machine trusts, what etcd's members are asked, what reset reads; and renewal of certificates."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cluster.kubeadm.test_files import NOW, context, run
from tiphys.cli.kubeadm import certs as certs_command
from tiphys.cli.kubeadm import join as join_command
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import discovery, images, kubeconfigs, upgrading
from tiphys.cluster.kubeadm.certificates import disk, renewal, restarting
from tiphys.cluster.kubeadm.certificates.issue import make_authority
from tiphys.cluster.kubeadm.configuration import fromflags, load
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.kubeconfig import KUBECONFIG, ensure
from tiphys.cluster.kubeadm.phases.reset import Resetting, cleanup_node, etcd_flags
from tiphys.cluster.kubeadm.phases.showjoin import command
from tiphys.cluster.kubeadm.phases.staticpods import CONTROL_PLANE, ETCD, write_etcd
from tiphys.controllers.access.bootstrap.tokens import signature

TOKEN = "abcdef.0123456789abcdef"
PAIR = make_authority("kubernetes", "ECDSA-P256", NOW, timedelta(days=1))
TEXT = files.dump(kubeconfigs.cluster_only("https://10.0.0.1:6443", PAIR.certificate_pem)).decode()
SIGNED = {"kubeconfig": TEXT, "jws-kubeconfig-abcdef": signature(TEXT, *TOKEN.split("."))}


def test_a_map_that_the_token_signs_is_trusted_and_another_is_not():
    assert discovery.verified(SIGNED, TOKEN) == TEXT
    for data in (
        {**SIGNED, "kubeconfig": TEXT.replace("10.0.0.1", "10.0.0.2")},
        {"kubeconfig": TEXT},
        {**SIGNED, "jws-kubeconfig-abcdef": signature(TEXT, "abcdef", "another")},
    ):
        with pytest.raises(KubeadmError, match="failed to verify JWS signature"):
            discovery.verified(data, TOKEN)
    with pytest.raises(KubeadmError, match="isn't set up for token bootstrapping"):
        discovery.verified({}, TOKEN)


def test_an_authority_has_to_be_pinned():
    found = discovery.cluster_of(TEXT, "the map")
    assert (found.server, found.authority) == ("https://10.0.0.1:6443", PAIR.certificate_pem)
    discovery.check_pins(found.authority, ["sha256:" + "0" * 64, discovery.pin_of(PAIR.certificate)])
    with pytest.raises(KubeadmError, match="none of the public keys sha256:"):
        discovery.check_pins(found.authority, ["sha256:" + "0" * 64])


def test_a_discovery_file_without_an_authority_is_malformed():
    with pytest.raises(KubeadmError, match="it has to name a server and certificate-authority-data"):
        discovery.cluster_of("clusters: [{name: a, cluster: {server: x}}]", "file.conf")


def test_the_printed_command_is_one_that_join_reads():
    printed = command("https://cp.example:6443", TOKEN, ["sha256:" + "a" * 64], control_plane=True, key="ab" * 32)
    words = printed.replace("\\\n", " ").split()
    assert words[:2] == ["tiphys", "join"]
    given = join_command.parser(None).values(words[2:])
    join = load.join_configuration(join_command._documents(given), Host("n", "10.0.0.9"))
    assert join["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "cp.example:6443"
    assert join["discovery"]["tlsBootstrapToken"] == TOKEN
    assert join["controlPlane"]["certificateKey"] == "ab" * 32
    assert join["controlPlane"]["localAPIEndpoint"] == {"bindPort": 6443, "advertiseAddress": "10.0.0.9"}
    assert join["nodeRegistration"]["taints"][0]["effect"] == "NoSchedule"


def test_flags_of_a_control_plane_need_to_be_one():
    with pytest.raises(ConfigurationError, match="--certificate-key is a control plane's; give --control-plane"):
        join_command._documents({"certificate-key": "ab" * 32, "token": TOKEN, "endpoint": "h:1"})


def test_reset_reads_what_etcd_was_started_with(tmp_path: Path):
    assert etcd_flags(HostRoot(tmp_path)) is None
    run(context(tmp_path), ETCD)
    flags = etcd_flags(HostRoot(tmp_path))
    assert flags["initial-advertise-peer-urls"] == "https://10.5.6.7:2380"
    assert flags["data-dir"] == "/var/lib/etcd"


def test_a_dry_reset_removes_nothing(tmp_path: Path):
    run(context(tmp_path), CERTS, KUBECONFIG)
    before = sorted(tmp_path.rglob("*"))
    said: list[str] = []
    reset = load.reset_configuration(fromflags.documents_of({}, fromflags.RESET_FLAGS), Host("n", "10.0.0.9"))
    asyncio.run(cleanup_node(Resetting(reset, HostRoot(tmp_path), dry_run=True, say=said.append)))
    assert sorted(tmp_path.rglob("*")) == before
    assert "[dryrun] Would remove Kubernetes-managed containers" in said


def test_a_renewed_certificate_says_the_same_and_lasts_longer(tmp_path: Path):
    made = context(tmp_path)
    run(made, CERTS, KUBECONFIG)
    made.now = NOW + timedelta(days=300)
    known = {renewable.name: renewable for renewable in renewal.renewables(made)}
    assert list(known) == sorted(known)
    assert "virtual-address.conf" not in known
    ensure(made, kubeconfigs.VIRTUAL_ADDRESS)
    known = {renewable.name: renewable for renewable in renewal.renewables(made)}
    assert renewal.renew(made, known["virtual-address.conf"]).endswith(" renewed")
    kubeconfig = made.kubeconfigs / "admin.conf"
    inode = kubeconfig.stat().st_ino
    for name in ("apiserver", "etcd-peer", "admin.conf"):
        before = renewal.current(made, known[name])
        assert renewal.renew(made, known[name]).endswith(" renewed")
        after = renewal.current(made, known[name])
        assert renewal.contents_of(after) == renewal.contents_of(before)
        assert after.not_valid_after_utc - before.not_valid_after_utc == timedelta(days=300)
        assert after.public_key() != before.public_key()
    # A static pod has its kubeconfig mounted as one file: another in its place would not reach it.
    assert (kubeconfig.stat().st_ino, kubeconfig.stat().st_mode & 0o777) == (inode, 0o600)
    run(made, CERTS, KUBECONFIG)


def test_only_upstreams_components_with_a_kubeconfig_start_again_for_a_renewed_certificate(tmp_path: Path):
    made = context(tmp_path)
    run(made, CONTROL_PLANE)
    every = [renewable.name for renewable in renewal.renewables(made)]
    assert restarting.needed(made.places, every) == ["kube-controller-manager", "kube-scheduler"]
    file = made.places.manifest("kube-controller-manager")
    image = upgrading.image_of(file.read_bytes())
    assert image.startswith("registry.k8s.io/")
    file.write_text(file.read_text().replace(image, images.ours()))
    assert restarting.needed(made.places, every) == ["kube-scheduler"]
    assert restarting.needed(made.places, ["apiserver", "controller-manager.conf"]) == []


def test_what_is_missing_and_what_others_sign_is_said(tmp_path: Path, capsys):
    made = context(tmp_path)
    run(made, CERTS)
    (made.pki / "ca.key").unlink()
    (made.pki / "front-proxy-client.crt").unlink()
    assert certs_command.main(["check-expiration", "--rootfs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "!MISSING! front-proxy-client" in shown
    assert "!MISSING! admin.conf" in shown
    line = next(line for line in shown.splitlines() if line.startswith("apiserver "))
    assert line.split()[-2:] == ["ca", "yes"]
    known = {renewable.name: renewable for renewable in renewal.renewables(made)}
    assert "Detected external ca" in renewal.renew(made, known["apiserver"])


def test_requests_hold_the_names_and_keys_stay_beside_them(tmp_path: Path):
    argv = ["generate-csr", "--rootfs", str(tmp_path)]
    assert certs_command.main(argv) == 0
    from cryptography import x509

    folder = tmp_path / "etc/kubernetes"
    request = x509.load_pem_x509_csr((folder / "pki/apiserver.csr").read_bytes())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    assert request.public_key() == disk.read_key(folder / "pki/apiserver.key").public_key()
    assert (folder / "admin.conf.csr").exists()
    assert certs_command.main(argv) == 1


def test_an_upgrade_changes_what_differs_and_keeps_etcds_members(tmp_path: Path):
    made = context(tmp_path)
    run(made, CERTS, ETCD, CONTROL_PLANE)
    assert [change.component for change in upgrading.changes(made) if change.old != change.new] == []
    made.configuration.cluster["imageRepository"] = "example.org/k8s"
    changed = {change.component: change for change in upgrading.changes(made)}
    assert list(changed) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    before, after = changed["kube-scheduler"].images
    assert (before, after) == ("registry.k8s.io/kube-scheduler:v1.36.0", "example.org/k8s/kube-scheduler:v1.36.0")
    assert "+    image: example.org/k8s/kube-scheduler:v1.36.0" in changed["kube-scheduler"].diff(0)
    members = [("cp1", "https://10.5.6.7:2380"), ("cp2", "https://10.5.6.8:2380")]
    write_etcd(made, members)
    assert upgrading.initial_cluster(etcd_flags(made.places)) == members
    etcd = next(upgrading.changes(made))
    assert etcd.old == etcd.new


def test_a_kubelets_kubeconfig_that_names_its_pair_is_kept_by_a_second_run(tmp_path: Path):
    made = context(tmp_path)
    run(made, CERTS, KUBECONFIG)
    path = made.kubeconfigs / "kubelet.conf"
    config = files.load(path)
    pair = "/var/lib/kubelet/pki/kubelet-client-current.pem"
    config["users"][0]["user"] = {"client-certificate": pair, "client-key": pair}
    path.write_bytes(files.dump(config))
    run(made, KUBECONFIG)
    assert files.load(path) == config

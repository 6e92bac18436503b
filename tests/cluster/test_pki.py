"""Certificates: what is made, when it is made again, and what real TLS says of it."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tiphys.cluster.pki import CLIENT, SERVER, ensure_authority, ensure_pki
from tiphys.cluster.settings import Settings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CLIENTS = ["apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client", "etcd/healthcheck-client"]
FILES = [
    *CLIENTS,
    "ca",
    "front-proxy-ca",
    "etcd/ca",
    "apiserver",
    "kubelet",
    "loopback",
    "metrics-server",
    "etcd/server",
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, run_dir=tmp_path / "run", node_name="n1", node_ip="10.1.2.3")
    ensure_pki(made, NOW)
    return made


def contents(settings: Settings) -> dict[str, bytes]:
    return {str(p.relative_to(settings.pki)): p.read_bytes() for p in settings.pki.rglob("*") if p.is_file()}


def test_the_files_are_kubeadms_and_private(settings: Settings) -> None:
    expected = {f"{name}.{end}" for name in FILES for end in ("crt", "key")} | {"sa.key", "sa.pub"}
    assert set(contents(settings)) == expected
    assert {os.stat(settings.pki / name).st_mode & 0o777 for name in expected} == {0o600}


def test_a_second_time_changes_nothing(settings: Settings) -> None:
    before = contents(settings)
    ensure_pki(settings, NOW + timedelta(days=1))
    assert contents(settings) == before


def test_what_is_about_to_expire_is_made_again_and_the_authority_stays(settings: Settings) -> None:
    before = contents(settings)
    ensure_pki(settings, NOW + timedelta(days=336))
    after = contents(settings)
    assert after["ca.crt"] == before["ca.crt"]
    assert after["sa.key"] == before["sa.key"]
    assert after["apiserver.crt"] != before["apiserver.crt"]


def test_etcds_certificate_is_for_clients_too_and_one_that_is_not_is_made_again(settings: Settings) -> None:
    path = settings.pki / "etcd" / "server"
    authority = ensure_authority(settings.pki, "etcd/ca", "etcd-ca", NOW)
    for_servers = authority.issue("n1", (), ["localhost", "127.0.0.1", "::1", "n1", "10.1.2.3"], usages=SERVER, now=NOW)
    for end, data in zip(("crt", "key"), for_servers, strict=True):
        path.with_suffix(f".{end}").write_bytes(data)
    ensure_pki(settings, NOW)
    certificate = x509.load_pem_x509_certificate(path.with_suffix(".crt").read_bytes())
    assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {*SERVER, *CLIENT}


def test_a_new_address_gets_into_the_servers_certificate(settings: Settings) -> None:
    moved = settings.changed(node_ip="10.9.9.9")
    before = contents(settings)
    ensure_pki(moved, NOW)
    certificate = x509.load_pem_x509_certificate((settings.pki / "apiserver.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "10.9.9.9" in {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert "10.96.0.1" in {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    assert contents(settings)["front-proxy-client.crt"] == before["front-proxy-client.crt"]


def test_a_damaged_certificate_is_made_again(settings: Settings) -> None:
    (settings.pki / "kubelet.crt").write_text("nonsense")
    ensure_pki(settings, NOW)
    x509.load_pem_x509_certificate((settings.pki / "kubelet.crt").read_bytes())


def test_tls_accepts_the_chain(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, node_name="n1", node_ip="10.1.2.3")
    ensure_pki(settings)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(settings.pki / "apiserver.crt", settings.pki / "apiserver.key")
    server_side.load_verify_locations(settings.pki / "ca.crt")
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=str(settings.pki / "ca.crt"))
    client_side.load_cert_chain(
        settings.pki / "apiserver-kubelet-client.crt", settings.pki / "apiserver-kubelet-client.key"
    )
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="kubernetes.default")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    done = {client: False, server: False}
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                continue
    assert all(done.values())
    subject = dict(part[0] for part in server.getpeercert()["subject"])
    assert subject == {"organizationName": "kubeadm:cluster-admins", "commonName": "kube-apiserver-kubelet-client"}

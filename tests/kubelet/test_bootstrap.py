"""A node that begins without an API server, or without a certificate."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.kubelet.world import NODE, World, virtual_loop
from tiphys.client.rest import Client
from tiphys.cluster.kubeadm.certificates.issue import Wanted, issue, make_authority
from tiphys.cluster.pki import CLIENT
from tiphys.kubelet.certificates.client import CURRENT, current, ensure_client, keep_renewed
from tiphys.kubelet.certificates.pairs import due_at
from tiphys.kubelet.certificates.serving import ServingCertificate
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import apply_file
from tiphys.runtime.clock import VirtualClock
from tiphys.runtime.component import CannotStart, ConfigError
from tiphys.wire.http import Request, Response
from tiphys.wire.inprocess import InProcessTransport

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: kube-system}
spec: {hostNetwork: true, containers: [{name: main, image: i, command: [kube-apiserver]}]}
"""
KUBEADM_CONFIG = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}, x509: {clientCAFile: /ca.crt}}
authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
healthzPort: 10248
imageMinimumGCAge: 0s
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
memorySwap: {}
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
"""


def test_static_pods_run_before_an_api_server_answers_and_are_shown_once_it_does(tmp_path: Path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "api.yaml").write_text(MANIFEST)
    with virtual_loop() as loop:

        async def scene() -> None:
            world = World(tmp_path, VirtualClock(loop))
            world.api.down = True
            world.kubelet = world.new_kubelet(manifests)
            task = asyncio.ensure_future(world.kubelet.run())
            await world.until(lambda: world.started("main") == 1)
            mirror = f"/api/v1/namespaces/kube-system/pods/api-{NODE}"
            assert world.api.get(mirror) is None
            world.api.down = False
            await world.until(lambda: world.api.get(mirror) is not None, seconds=30)
            await world.until(lambda: (world.api.get(mirror).get("status") or {}).get("phase") == "Running")
            assert world.started("main") == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        loop.run_until_complete(scene())


def test_a_configuration_as_kubeadm_writes_it_is_read_and_zeros_are_defaults():
    config = KubeletConfig("n")
    apply_file(config, KUBEADM_CONFIG, "config.yaml")
    assert (config.rotate_certificates, config.healthz_port, config.image_minimum_age) == (True, 10248, 120.0)
    with pytest.raises(ConfigError, match="upstream's field tracing is not supported"):
        apply_file(config, KUBEADM_CONFIG + "tracing: {endpoint: x}\n", "config.yaml")


class Signer:
    """The part of an API server that signs nodes' certificates, for an hour each."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.authority = make_authority("kubernetes", "ECDSA-P256", self.now, timedelta(days=3650))
        self.requests: dict[str, dict] = {}
        self.signed = 0

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    async def handle(self, request: Request) -> Response:
        import orjson

        if request.method == "POST":
            body = orjson.loads(request.body)
            self.requests["csr-1"] = {**body, "metadata": {"name": "csr-1"}}
        made = self.requests["csr-1"]
        if request.method == "GET":
            made["status"] = {"certificate": base64.b64encode(self._sign(made)).decode()}
        return Response(200, {"Content-Type": "application/json"}, orjson.dumps(made))

    def _sign(self, made: dict) -> bytes:
        csr = x509.load_pem_x509_csr(base64.b64decode(made["spec"]["request"]))
        subject = csr.subject.rfc4514_string()
        assert subject == f"CN=system:node:{NODE},O=system:nodes"
        self.signed += 1
        builder = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self.authority.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(self.signed)
            .not_valid_before(self.now)
            .not_valid_after(self.now + timedelta(hours=1))
        )
        builder = self._extended(builder, csr)
        from cryptography.hazmat.primitives import hashes

        return builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _extended(self, builder: x509.CertificateBuilder, csr: x509.CertificateSigningRequest):
        return builder


def test_a_certificate_is_renewed_in_time_and_the_link_leads_to_the_newest(tmp_path: Path):
    with virtual_loop() as loop:
        clock = VirtualClock(loop)
        now = datetime.fromtimestamp(clock.now(), UTC)
        signer = Signer(clock)
        client = Client(InProcessTransport(signer.handle), user_agent="kubelet")
        config = tmp_path / "kubelet.conf"
        pair = {"client-certificate": str(tmp_path / CURRENT), "client-key": str(tmp_path / CURRENT)}
        config.write_text(yaml.safe_dump({"users": [{"user": pair}]}))

        async def scene() -> None:
            task = asyncio.ensure_future(keep_renewed(client, config, tmp_path, NODE, clock, random.Random(1)))
            while signer.signed < 1:
                await asyncio.sleep(1)
            first = (tmp_path / CURRENT).resolve()
            while signer.signed < 2:
                await asyncio.sleep(60)
            assert 0.7 * 3600 - 60 < clock.now() - now.timestamp() < 0.9 * 3600 + 120
            assert current(config).serial_number == 2
            assert first.stat().st_mode & 0o777 == 0o600
            task.cancel()

        loop.run_until_complete(scene())


def test_a_certificate_in_the_kubeconfig_itself_is_replaced_at_once_and_the_file_names_the_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a control plane of kubeadm's: otherwise the client would show the old one to its end, and beyond."""
    monkeypatch.chdir(tmp_path)
    with virtual_loop() as loop:
        clock = VirtualClock(loop)
        signer = Signer(clock)
        client = Client(InProcessTransport(signer.handle), user_agent="kubelet")
        config = tmp_path / "kubelet.conf"
        wanted = Wanted(f"system:node:{NODE}", usages=CLIENT)
        old = issue(signer.authority, wanted, "ECDSA-P256", signer.now, timedelta(days=365))
        data = {
            "client-certificate-data": base64.b64encode(old.certificate_pem).decode(),
            "client-key-data": base64.b64encode(old.key_pem).decode(),
        }
        config.write_text(yaml.safe_dump({"kind": "Config", "users": [{"name": "u", "user": data}]}))

        async def scene() -> None:
            task = asyncio.ensure_future(keep_renewed(client, config, Path("."), NODE, clock, random.Random(1)))
            await asyncio.sleep(5)
            pair = str(tmp_path / CURRENT)
            user = yaml.safe_load(config.read_text())["users"][0]
            assert user == {"name": "u", "user": {"client-certificate": pair, "client-key": pair}}
            assert config.stat().st_mode & 0o777 == 0o600
            assert current(config).serial_number == signer.signed == 1
            await asyncio.sleep(2000)
            assert signer.signed == 1
            task.cancel()

        loop.run_until_complete(scene())


def test_without_a_certificate_and_without_a_token_the_kubelet_says_what_to_do(tmp_path: Path):
    with pytest.raises(CannotStart, match="join the node again with a new token"):
        asyncio.run(
            ensure_client(bootstrap=tmp_path / "b.conf", kubeconfig=tmp_path / "k.conf", folder=tmp_path, node_name="n")
        )


def test_renewal_is_due_within_the_last_third_of_a_life():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    authority = make_authority("a", "ECDSA-P256", now, timedelta(days=10))
    pair = issue(authority, Wanted("n", usages=CLIENT), "ECDSA-P256", now, timedelta(days=1))
    assert due_at(pair.certificate, 0.5) == (now + timedelta(hours=12, minutes=-2.5)).timestamp()


class Decided(Signer):
    """Requests wait until somebody approves them, as those of serving certificates do."""

    approved = False
    asked = 0

    async def handle(self, request: Request) -> Response:
        import orjson

        if request.method == "POST":
            self.asked += 1
            body = orjson.loads(request.body)
            assert body["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
            assert body["spec"]["usages"] == ["digital signature", "server auth"]
            self.requests["csr-1"] = {**body, "metadata": {"name": "csr-1"}}
        if request.method == "POST" or not self.approved:
            return Response(200, {"Content-Type": "application/json"}, orjson.dumps(self.requests["csr-1"]))
        return await super().handle(Request("GET", request.path))

    def _extended(self, builder: x509.CertificateBuilder, csr: x509.CertificateSigningRequest):
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return builder.add_extension(names.value, critical=False)


def test_a_serving_certificate_waits_for_its_approval_and_is_renewed_before_it_ends(tmp_path: Path):
    with virtual_loop() as loop:
        clock = VirtualClock(loop)
        signer = Decided(clock)
        client = Client(InProcessTransport(signer.handle), user_agent="kubelet")
        shown: list[tuple[float, int]] = []

        def show(path: Path) -> None:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [NODE]
            assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
            shown.append((clock.now(), certificate.serial_number))

        async def scene() -> None:
            serving = serving_certificate(client, tmp_path, ("10.0.0.1",), show, clock)
            task = asyncio.ensure_future(serving.run())
            await asyncio.sleep(600)
            assert (signer.asked, shown) == (1, [])
            signer.approved = True
            await asyncio.sleep(30)
            assert [serial for _, serial in shown] == [1]
            await asyncio.sleep(3600)
            assert [serial for _, serial in shown] == [1, 2]
            assert 0.7 * 3600 < shown[1][0] - shown[0][0] < 0.9 * 3600 + 60
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        loop.run_until_complete(scene())


def test_a_node_with_another_address_asks_for_another_serving_certificate(tmp_path: Path):
    with virtual_loop() as loop:
        clock = VirtualClock(loop)
        signer = Decided(clock)
        signer.approved = True
        client = Client(InProcessTransport(signer.handle), user_agent="kubelet")
        shown: list[int] = []

        async def run(*addresses: str) -> None:
            show = lambda path: shown.append(x509.load_pem_x509_certificate(path.read_bytes()).serial_number)  # noqa: E731
            serving = serving_certificate(client, tmp_path, addresses, show, clock)
            task = asyncio.ensure_future(serving.run())
            await asyncio.sleep(10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        loop.run_until_complete(run("10.0.0.1"))
        loop.run_until_complete(run("10.0.0.1"))
        assert (signer.asked, shown) == (1, [1, 1])
        loop.run_until_complete(run("10.0.0.2"))
        assert (signer.asked, shown) == (2, [1, 1, 2])


def serving_certificate(
    client: Client, folder: Path, addresses: tuple[str, ...], show: Callable[[Path], None], clock: VirtualClock
) -> ServingCertificate:
    return ServingCertificate(
        client=client, folder=folder, names=(NODE, *addresses), show=show, clock=clock, rng=random.Random(1)
    )


def test_a_request_that_nobody_decides_on_is_given_up_and_sent_again(tmp_path: Path):
    with virtual_loop() as loop:
        clock = VirtualClock(loop)
        signer = Decided(clock)
        client = Client(InProcessTransport(signer.handle), user_agent="kubelet")

        async def scene() -> None:
            serving = serving_certificate(client, tmp_path, ("10.0.0.1",), lambda path: None, clock)
            task = asyncio.ensure_future(serving.run())
            await asyncio.sleep(2000)
            assert signer.asked == 3
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        loop.run_until_complete(scene())

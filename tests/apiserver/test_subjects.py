"""Certificates whose subject names several users: admission, signer and authenticator see the same one."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.apiserver.apiworld import World, run
from tiphys.api.credentials import subject_of
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.certificates import ClientCertificates, user_of_certificate
from tiphys.kubelet.server.auth import user_of_certificate as kubelet_user
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import Peer, Request

CN, ORG, UID = (x509.ObjectIdentifier(text) for text in ("2.5.4.3", "2.5.4.10", "1.3.6.1.4.1.57683.2"))
KEY = ec.generate_private_key(ec.SECP256R1())
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def name_of(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def certificate(*parts: tuple[x509.ObjectIdentifier, str]) -> bytes:
    name, then = name_of(*parts), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, then, then + timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def request(*parts: tuple[x509.ObjectIdentifier, str]) -> str:
    made = x509.CertificateSigningRequestBuilder(name_of(*parts)).sign(KEY, hashes.SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


def test_of_several_common_names_the_last_counts_everywhere() -> None:
    der = certificate((CN, "alice"), (ORG, "devs"), (CN, "bob"), (ORG, "ops"))
    user, agent_user = user_of_certificate(der), kubelet_user(der)
    assert user is not None
    assert agent_user is not None
    assert (user.name, user.groups) == ("bob", ("devs", "ops", "system:authenticated"))
    assert (agent_user.name, agent_user.groups) == (user.name, user.groups)
    assert subject_of(name_of((CN, "alice"), (CN, "bob"))).common_name == "bob"


@pytest.mark.parametrize("names", [("alice", "system:node:a"), ("system:kube-scheduler", "alice")])
def test_a_component_and_somebody_else_are_nobody(names: tuple[str, str]) -> None:
    der = certificate(*((CN, name) for name in names))
    with pytest.raises(Rejected):
        user_of_certificate(der)
    assert kubelet_user(der) is None


def test_what_is_left_of_a_certificates_time_is_measured_with_each_call() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

    class AnHourBefore(SystemClock):
        def now(self) -> float:
            return then + 86400 - 3600

    certificates = ClientCertificates(AnHourBefore())
    peer = Peer("192.0.2.1", 1, certificate=certificate((CN, "alice")))
    asyncio.run(certificates.authenticate(Request("GET", "/", peer=peer)))
    (family,) = certificates.figures()
    below = {sample.labels.get("le"): sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert (below["1800.0"], below["3600.0"], below["+Inf"]) == (0, 1, 1)


def test_without_a_common_name_there_is_no_user() -> None:
    der = certificate((ORG, "system:masters"))
    assert user_of_certificate(der) is None
    assert kubelet_user(der) is None


@pytest.mark.parametrize(
    ("uids", "problem"),
    [
        (("7",), ""),
        ((), ""),
        (("7", "8"), r"expected 1 UID, but found multiple: \[7 8\]"),
    ],
)
def test_a_subject_may_name_the_users_uid(uids: tuple[str, ...], problem: str) -> None:
    der = certificate((CN, "bob"), *((UID, uid) for uid in uids))
    if problem:
        with pytest.raises(Rejected, match=problem):
            user_of_certificate(der)
    else:
        user = user_of_certificate(der)
        assert user is not None
        assert user.uid == "".join(uids)


NODE = ("system:node:n", ("system:nodes",))


@pytest.mark.parametrize(
    ("parts", "signer", "user", "status"),
    [
        ([(ORG, "system:nodes"), (CN, "system:node:n")], "kube-apiserver-client-kubelet", NODE, 201),
        ([(ORG, "system:nodes"), (CN, "system:node:m")], "kube-apiserver-client-kubelet", NODE, 403),
        ([(CN, "system:node:m"), (CN, "system:node:n")], "kube-apiserver-client-kubelet", NODE, 403),
        ([(CN, "system:node:n"), (CN, "system:node:m")], "kubelet-serving", NODE, 403),
        ([(CN, "bob"), (CN, "system:kube-scheduler")], "kube-apiserver-client", ("admin", ("system:masters",)), 403),
        (
            [(CN, "bob"), (ORG, "x"), (ORG, "system:masters")],
            "kube-apiserver-client",
            ("admin", ("system:masters",)),
            403,
        ),
        ([(CN, "bob"), (CN, "jane")], "kube-apiserver-client", ("admin", ("system:masters",)), 201),
    ],
)
def test_who_may_ask_for_whom(
    parts: list[tuple[x509.ObjectIdentifier, str]], signer: str, user: tuple[str, tuple[str, ...]], status: int
) -> None:
    async def work(world: World) -> None:
        spec = {"request": request(*parts), "signerName": f"kubernetes.io/{signer}", "usages": ["client auth"]}
        answer = await world.raw("POST", REQUESTS, {"metadata": {"name": "r"}, "spec": spec}, user=user)
        assert answer.status == status, answer.body

    run(work)

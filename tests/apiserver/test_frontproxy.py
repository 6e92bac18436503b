"""Proxies in front of the server that say who calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from tests.apiserver.apiworld import World, run
from tests.wire.certificates import Authority
from tiphys.apiserver.authn.requestheader import user_of_headers
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config, FrontProxy
from tiphys.wire.http import Headers, Peer, Request

CLIENTS, PROXIES = Authority("kubernetes"), Authority("front-proxy-ca")
CONFIG = Config(seed=1, client_ca=CLIENTS.pem, front_proxy=FrontProxy(PROXIES.pem))


VIRTUAL_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""The world's time: certificates are in force for an hour before and after it, and connections may outlive them."""


def der(authority: Authority, name: str, later: timedelta = timedelta()) -> bytes:
    shifted = VIRTUAL_BEGIN + later - datetime.now(UTC)
    return load_pem_x509_certificate(authority.issue(name, shifted=shifted)[0]).public_bytes(Encoding.DER)


def sent(*fields: tuple[str, str]) -> Headers:
    return Headers.of([(name.lower(), value) for name, value in fields])


def test_what_the_headers_say() -> None:
    headers = sent(
        ("X-Remote-User", "alice"),
        ("X-Remote-Uid", "7"),
        ("X-Remote-Group", "devs, and others"),
        ("X-Remote-Group", "ops"),
        ("X-Remote-Extra-Example.com%2FScope", "read"),
        ("X-Remote-Extra-Example.com%2FScope", "write"),
    )
    proxy = FrontProxy(b"")
    extra = (("example.com/scope", ("read", "write")),)
    assert user_of_headers(headers, proxy) == User("alice", ("devs, and others", "ops"), "7", extra)
    assert user_of_headers(sent(("X-Remote-Group", "ops")), proxy) is None


@pytest.mark.parametrize(
    ("certificate", "status", "name"),
    [
        (der(PROXIES, "front-proxy-client"), 201, "alice"),
        (der(PROXIES, "another"), 401, ""),
        (der(CLIENTS, "front-proxy-client"), 201, "front-proxy-client"),
        (der(Authority("stranger"), "front-proxy-client"), 401, ""),
        (None, 201, "system:anonymous"),
        (der(PROXIES, "front-proxy-client", timedelta(hours=-2)), 401, ""),
        (der(CLIENTS, "alice", timedelta(hours=-2)), 401, ""),
        (der(CLIENTS, "alice", timedelta(hours=2)), 401, ""),
    ],
    ids=[
        *("proxy", "of another name", "a client that says so", "stranger", "nobody"),
        *("a proxy's that is over", "a client's that is over", "one that is not yet in force"),
    ],
)
def test_only_a_proxy_is_believed(certificate: bytes | None, status: int, name: str) -> None:
    async def work(world: World) -> None:
        headers = sent(("content-type", "application/json"), ("X-Remote-User", "alice"))
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        peer = Peer(certificate=certificate, secure=True)
        response = await world.server.handler(Request("POST", path, "", headers, b"{}", peer))
        if name == "system:anonymous":
            assert response.status == 403
            assert b'User \\"system:anonymous\\" cannot create' in response.body
            return
        assert response.status == status
        if name:
            assert b'"username":"%s"' % name.encode() in response.body

    run(work, CONFIG)


def test_a_proxys_own_certificate_names_no_user() -> None:
    async def work(world: World) -> None:
        peer = Peer(certificate=der(PROXIES, "front-proxy-client"), secure=True)
        response = await world.server.handler(Request("GET", "/version", peer=peer))
        assert response.status == 401

    run(work, CONFIG)


def test_extension_servers_are_told_whom_to_believe() -> None:
    async def work(world: World) -> None:
        path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
        data = (await world.json("GET", path))["data"]
        assert data["requestheader-client-ca-file"] == PROXIES.pem.decode()
        assert data["requestheader-allowed-names"] == '["front-proxy-client"]'
        assert data["requestheader-username-headers"] == '["X-Remote-User"]'

    run(work, CONFIG)


def test_what_clients_say_of_themselves_reaches_nobody_behind() -> None:
    """Neither in the headers that everybody knows, nor in those that this server's proxies, and so the servers behind
    it, have for it."""
    proxy = FrontProxy(
        PROXIES.pem,
        username_headers=("X-Remote-User", "X-Own-User"),
        uid_headers=("X-Own-Uid",),
        group_headers=("X-Own-Group",),
        extra_prefixes=("X-Own-Extra-",),
    )

    async def work(world: World) -> None:
        fields = sent(
            ("X-Own-User", "root"),
            ("X-Own-Uid", "0"),
            ("X-Own-Group", "system:masters"),
            ("X-Own-Group", "wheel"),
            ("X-Own-Extra-Scopes", "all"),
            ("X-Remote-User", "root"),
            ("X-Remote-Uid", "0"),
            ("X-Remote-Group", "system:masters"),
            ("X-Remote-Extra-Scopes", "all"),
            ("X-Own", "stays"),
            ("Accept", "*/*"),
        )
        request = Request("GET", "/version", "", fields, b"", Peer(identity=("jane", ()), secure=True))
        assert (await world.server.handler(request)).status == 200
        assert dict(request.headers) == {"x-own": "stays", "accept": "*/*"}
        assert request.headers.each("x-own-group") == []

    run(work, Config(seed=1, client_ca=CLIENTS.pem, front_proxy=proxy))

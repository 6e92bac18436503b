"""Callers of servers beside the API server: front proxies, client certificates, tokens; and what they may do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from tests.apiserver.apiworld import World, run
from tests.wire.certificates import Authority
from tiphys.apiserver.call import User as CallUser
from tiphys.apiserver.config import Config, FrontProxy
from tiphys.client.delegated import AccessReviews, DelegatedAuthentication, TokenReviews, Trust, User, read_trust
from tiphys.wire.http import Headers, Peer, Request


def signed(authority: Authority, name: str, *organizations: str) -> bytes:
    """A certificate in DER."""
    pem, _ = authority.issue(name, organizations=organizations)
    return load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


CLIENTS, PROXIES, OTHERS = Authority("clients"), Authority("proxies"), Authority("others")
TRUST = Trust(
    client_ca=CLIENTS.pem,
    proxy_ca=PROXIES.pem,
    proxy_names=("front-proxy-client",),
    username_headers=("x-remote-user",),
    uid_headers=("x-remote-uid",),
    group_headers=("x-remote-group",),
    extra_prefixes=("x-remote-extra-",),
)
REMOTE = Headers.of(
    [("x-remote-user", "ann"), ("x-remote-group", "dev"), ("x-remote-group", "ops"), ("x-remote-extra-k", "v")]
)


class NoTokens:
    async def user(self, token: str) -> User | None:
        return User(f"by {token}") if token != "wrong" else None


@pytest.mark.parametrize(
    ("certificate", "headers", "user"),
    [
        (signed(PROXIES, "front-proxy-client"), REMOTE, User("ann", ("dev", "ops"), "", (("k", ("v",)),))),
        (signed(PROXIES, "front-proxy-client"), Headers(), None),
        (signed(PROXIES, "somebody"), REMOTE, None),
        (signed(CLIENTS, "bob", "dev"), REMOTE, User("bob", ("dev", "system:authenticated"))),
        (signed(CLIENTS, "front-proxy-client"), REMOTE, User("front-proxy-client", ("system:authenticated",))),
        (signed(OTHERS, "front-proxy-client"), REMOTE, None),
        (None, REMOTE, None),
        (None, Headers({"authorization": "Bearer t"}), User("by t")),
        (None, Headers({"authorization": "Bearer wrong"}), None),
    ],
)
def test_who_calls(certificate: bytes | None, headers: Headers, user: User | None) -> None:
    authentication = DelegatedAuthentication(TRUST, NoTokens())  # type: ignore[arg-type]
    request = Request("GET", "/", headers=headers, peer=Peer(certificate=certificate, secure=True))
    assert asyncio.run(authentication.user(request)) == user


def test_trust_is_what_the_api_server_publishes() -> None:
    async def work(world: World) -> None:
        assert await read_trust(world.admin) == TRUST

    run(work, Config(seed=1, client_ca=CLIENTS.pem, front_proxy=FrontProxy(PROXIES.pem)))


def test_tokens_and_rights_are_asked_once() -> None:
    asked: list[str] = []

    async def work(world: World) -> None:
        client = world.client_of("extension", ("system:masters",))
        create = client.create

        async def counting(resource: Any, obj: Any, **more: Any) -> Any:
            asked.append(obj["kind"])
            return await create(resource, obj, **more)

        client.create = counting  # type: ignore[method-assign]
        tokens, reviews = TokenReviews(client, world.clock, 10.0), AccessReviews(client, world.clock, 10.0, 5.0)
        for _ in range(3):
            assert await tokens.user("secret") == User("bob", ("dev", "system:authenticated"))
            assert await tokens.user("wrong") is None
            assert not await reviews.allowed(User("bob"), {"verb": "get", "resource": "pods"})
            assert await reviews.allowed(User("root", ("system:masters",)), {"verb": "get", "path": "/metrics"})
        assert sorted(asked) == ["SubjectAccessReview"] * 2 + ["TokenReview"] * 2
        await world.clock.sleep(6)
        await reviews.allowed(User("bob"), {"verb": "get", "resource": "pods"})
        await reviews.allowed(User("root", ("system:masters",)), {"verb": "get", "path": "/metrics"})
        assert asked.count("SubjectAccessReview") == 3

    run(work, Config(seed=1, tokens={"secret": CallUser("bob", ("dev",))}))

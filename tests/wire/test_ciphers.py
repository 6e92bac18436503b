"""Which suites servers agree to with TLS 1.2: none of the CBC mode, unless they are told to."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from tests.wire.certificates import Authority
from tiphys.wire.tls import contexts
from tiphys.wire.tls.ciphers import openssl_list


async def suite_of(policy: contexts.TLSPolicy, offered: str) -> str:
    """The suite that a server of this policy agrees to. Raises ``ConnectionError`` for none."""
    authority = Authority()
    server_side = contexts.server_context(*authority.issue("localhost", server=True), policy=policy)
    client_side = contexts.client_context(authority.pem)
    client_side.maximum_version = ssl.TLSVersion.TLSv1_2
    client_side.set_ciphers(offered)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=server_side)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname="localhost")
        name, _, _ = writer.get_extra_info("cipher")
        writer.transport.abort()
        return str(name)


CBC = ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384")
GOOD = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")


@pytest.mark.parametrize("suite", CBC)
def test_suites_of_the_cbc_mode_are_refused(suite: str) -> None:
    with pytest.raises((ConnectionError, ssl.SSLError)):
        asyncio.run(suite_of(contexts.TLSPolicy(), suite))


@pytest.mark.parametrize("suite", GOOD)
def test_others_are_agreed_to(suite: str) -> None:
    assert asyncio.run(suite_of(contexts.TLSPolicy(), suite)) == suite


def test_who_asks_for_the_cbc_mode_by_name_has_it() -> None:
    policy = contexts.TLSPolicy(ciphers=openssl_list(["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"]))
    assert asyncio.run(suite_of(policy, CBC[0])) == CBC[0]

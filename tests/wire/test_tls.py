"""Certificates: who is shown which, who is let in, and how they are renewed without a restart."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import uvloop
from cryptography import x509

from tests.wire.certificates import Authority
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts
from tiphys.wire.tls.following import FollowedCertificate

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


async def who(request: Request) -> Response:
    """Answers with the client's name."""
    certificate = request.peer.certificate
    name = x509.load_der_x509_certificate(certificate).subject.rfc4514_string() if certificate else "anonymous"
    return Response(200, {}, name.encode())


async def ask(port: int, context: ssl.SSLContext, name: str = "localhost") -> str:
    transport = SocketTransport("127.0.0.1", port, context, name)
    try:
        return (await (await transport.send(Request("GET", "/"), timeout=5)).read()).decode()
    finally:
        await transport.close()


@LOOPS
def test_client_certificates(loop) -> None:
    authority, stranger = Authority(), Authority("stranger")

    async def main() -> None:
        context = contexts.server_context(*authority.issue("localhost", server=True), client_ca=authority.pem)
        server = await serve(who, "127.0.0.1", 0, tls=context)
        assert await ask(server.port, contexts.client_context(authority.pem)) == "anonymous"
        assert await ask(server.port, contexts.client_context(authority.pem, *authority.issue("alice"))) == "CN=alice"
        with pytest.raises(ConnectionError):
            await ask(server.port, contexts.client_context(authority.pem, *stranger.issue("mallory")))
        with pytest.raises(ConnectionError):
            await ask(server.port, contexts.client_context(stranger.pem))
        with pytest.raises(ConnectionError):
            await ask(server.port, contexts.client_context(authority.pem), "elsewhere")
        assert await ask(server.port, contexts.client_context(verify=False), "elsewhere") == "anonymous"
        await server.close(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@LOOPS
def test_renewal_and_names(loop, tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    cert, key = tmp_path / "cert", tmp_path / "key"
    for path, pem in zip((cert, key), old.issue("localhost", server=True), strict=True):
        path.write_bytes(pem)

    async def main() -> None:
        context = contexts.server_context(cert, str(key), client_ca=old.pem)
        server = await serve(who, "127.0.0.1", 0, tls=context)
        assert await ask(server.port, contexts.client_context(old.pem, *old.issue("alice"))) == "CN=alice"
        other = contexts.KeyPair(*old.issue("sub.example", server=True), names=("*.example",))
        context.reload(*new.issue("localhost", server=True), client_ca=new.pem, more=(other,))
        assert await ask(server.port, contexts.client_context(new.pem, *new.issue("bob"))) == "CN=bob"
        with pytest.raises(ConnectionError):  # the old authority is no longer trusted
            await ask(server.port, contexts.client_context(new.pem, *old.issue("alice")))
        assert await ask(server.port, contexts.client_context(old.pem), "sub.example") == "anonymous"
        with pytest.raises(ssl.SSLError):
            context.reload(new.issue("x")[0], old.issue("x")[1])
        assert await ask(server.port, contexts.client_context(new.pem)) == "anonymous"  # a bad renewal changes nothing
        await server.close(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_client_shows_its_renewed_certificate_with_the_next_request(tmp_path: Path) -> None:
    """Though connections are kept: the one that showed the old certificate carries no further request."""
    authority = Authority()
    cert, key = tmp_path / "cert", tmp_path / "key"

    def renew(name: str) -> None:
        for path, pem in zip((cert, key), authority.issue(name), strict=True):
            path.write_bytes(pem)

    async def main() -> None:
        context = contexts.server_context(*authority.issue("localhost", server=True), client_ca=authority.pem)
        server = await serve(who, "127.0.0.1", 0, tls=context)
        renew("alice")
        tls = contexts.client_context(authority.pem, cert, key)
        followed = FollowedCertificate.in_files(tls, cert, key)
        transport = SocketTransport("127.0.0.1", server.port, tls, "localhost", certificate=followed)

        async def shown() -> str:
            followed._looked = float("-inf")  # as if a second had passed
            return (await (await transport.send(Request("GET", "/"), timeout=5)).read()).decode()

        assert [await shown(), await shown()] == ["CN=alice", "CN=alice"]
        cert.write_bytes(authority.issue("bob")[0])  # its key is still to come
        assert await shown() == "CN=alice"
        renew("carol")
        assert await shown() == "CN=carol"
        key.unlink()
        assert await shown() == "CN=carol"
        await transport.close()
        await server.close(0)

    asyncio.run(main())


def test_a_server_without_a_certificate_serves_once_it_has_one() -> None:
    authority = Authority()

    async def main() -> None:
        context = contexts.server_context(None, None, authority.pem)
        server = await serve(who, "127.0.0.1", 0, tls=context)
        client = contexts.client_context(authority.pem, *authority.issue("alice"))
        with pytest.raises(ConnectionError):
            await ask(server.port, client)
        context.reload(*authority.issue("localhost", server=True), authority.pem)
        assert await ask(server.port, client) == "CN=alice"
        await server.close(0)

    asyncio.run(main())


def test_old_protocols_are_refused() -> None:
    authority = Authority()

    async def main() -> None:
        server = await serve(
            who, "127.0.0.1", 0, tls=contexts.server_context(*authority.issue("localhost", server=True))
        )
        context = contexts.client_context(authority.pem)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await ask(server.port, context) == "anonymous"
        await server.close(0)

    asyncio.run(main())
    assert contexts.client_context().minimum_version == ssl.TLSVersion.TLSv1_2


def test_keys_in_memory_leave_no_descriptor_behind() -> None:
    pair = Authority().issue("localhost", server=True)
    contexts.server_context(*pair)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        contexts.server_context(*pair)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_plain_http_on_a_tls_port_and_silence_end() -> None:
    authority = Authority()

    async def main() -> None:
        server = await serve(
            who, "127.0.0.1", 0, tls=contexts.server_context(*authority.issue("localhost", server=True))
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            assert not (await reader.read()).startswith(b"HTTP")
        writer.close()
        assert await ask(server.port, contexts.client_context(authority.pem)) == "anonymous"
        await server.close(0)

    asyncio.run(main())


def first_flight(context: ssl.SSLContext) -> bytes:
    """What a server answers to a hello, which TLS 1.2 leaves readable."""
    client = contexts.client_context(verify=False)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    hello, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    read = ssl.MemoryBIO()
    read.write(hello.read())
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(read, answer, server_side=True).do_handshake()
    return answer.read()


def test_clients_are_told_whose_certificates_are_believed(tmp_path: Path) -> None:
    server, one, other, renewed = (Authority(name) for name in ("server", "one", "other", "renewed"))
    names = [authority.certificate.subject.public_bytes() for authority in (one, other, renewed)]
    (tmp_path / "ca.crt").write_bytes(one.pem)
    pair = server.issue("localhost", server=True)
    context = contexts.server_context(*pair, client_ca=(tmp_path / "ca.crt", other.pem))
    assert [name in first_flight(context) for name in names] == [True, True, False]
    context.reload(*pair, client_ca=renewed.pem)
    assert [name in first_flight(context) for name in names] == [False, False, True]
    context.reload(*pair)
    assert not any(name in first_flight(context) for name in names)

"""Certificates of clients that cannot be verified: the handshake goes on, and they count for nothing."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from tests.wire.certificates import Authority
from tests.wire.h2client import Http2Client
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Request, Response
from tiphys.wire.server import Server, serve
from tiphys.wire.tls import contexts

AUTHORITY, SECOND, STRANGER = Authority("cluster-ca"), Authority("front-proxy-ca"), Authority("stranger-ca")
SERVER_PAIR = AUTHORITY.issue("localhost", server=True)
YESTERDAY = datetime.timedelta(days=-1)

GOOD = AUTHORITY.issue("alice")
BAD = {
    "expired": (AUTHORITY.issue("alice", shifted=YESTERDAY), "x509: certificate has expired or is not yet valid"),
    "not yet": (AUTHORITY.issue("alice", shifted=-YESTERDAY), "x509: certificate has expired or is not yet valid"),
    "unknown": (STRANGER.issue("alice"), "x509: certificate signed by unknown authority"),
    "of a server": (AUTHORITY.issue("alice", server=True), "x509: certificate specifies an incompatible key usage"),
}


async def who(request: Request) -> Response:
    """What the server knows of its caller."""
    peer = request.peer
    return Response(200, {"X-Refused": peer.refused_certificate}, b"verified" if peer.certificate else b"nobody")


def run(use: Callable[[Server], Awaitable[None]]) -> None:
    async def main() -> None:
        policy = contexts.TLSPolicy(asks=True)
        context = contexts.server_context(*SERVER_PAIR, (AUTHORITY.pem, SECOND.pem), policy=policy)
        assert context.asks
        server = await serve(who, "127.0.0.1", 0, tls=context)
        try:
            async with asyncio.timeout(60):
                await use(server)
        finally:
            await server.close(0.1)

    asyncio.run(main())


async def ask(
    server: Server, pair: tuple[bytes, bytes] | None, version: ssl.TLSVersion | None = None
) -> tuple[str, str]:
    context = contexts.client_context(AUTHORITY.pem, *(pair or ()))
    if version is not None:
        context.maximum_version = version
    transport = SocketTransport("127.0.0.1", server.port, context, "localhost")
    answer = await transport.send(Request("GET", "/"))
    said = (await answer.read()).decode(), answer.headers["x-refused"]
    await transport.close()
    return said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", BAD)
def test_bad_ones_do_not_count_and_say_why(kind: str, version: ssl.TLSVersion) -> None:
    pair, problem = BAD[kind]

    async def use(server: Server) -> None:
        assert await ask(server, pair, version) == ("nobody", problem)
        assert await ask(server, GOOD, version) == ("verified", "")
        assert await ask(server, SECOND.issue("proxy"), version) == ("verified", "")
        assert await ask(server, None, version) == ("nobody", "")
        assert await ask(server, pair, version) == ("nobody", problem)

    run(use)


def test_over_http2() -> None:
    async def use(server: Server) -> None:
        for pair, expected in ((GOOD, b"verified"), (BAD["unknown"][0], b"nobody")):
            client = await Http2Client.connect(server.port, contexts.client_context(AUTHORITY.pem, *pair))
            assert (await client.get("/")).body == expected
            client.close()

    run(use)


def test_handshakes_in_turns_do_not_mix_up_their_outcomes() -> None:
    async def use(server: Server) -> None:
        pairs = [GOOD, BAD["unknown"][0], None, BAD["expired"][0]] * 10
        said = await asyncio.gather(*(ask(server, pair) for pair in pairs))
        assert [name for name, _ in said] == ["verified", "nobody", "nobody", "nobody"] * 10

    run(use)


def test_a_session_that_is_taken_up_again_verifies_nothing() -> None:
    async def use(server: Server) -> None:
        for pair in (BAD["unknown"][0], GOOD):
            context = contexts.client_context(AUTHORITY.pem, *pair)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            loop = asyncio.get_running_loop()

            def twice(context: ssl.SSLContext = context) -> list[bool]:
                import socket

                session, reused = None, []
                for _ in range(2):
                    raw = socket.create_connection(("127.0.0.1", server.port))
                    with context.wrap_socket(raw, server_hostname="localhost", session=session) as connection:
                        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        while connection.recv(4096):
                            pass
                        session = connection.session
                        reused.append(bool(connection.session_reused))
                return reused

            assert await loop.run_in_executor(None, twice) == [False, False]

    run(use)


def test_the_handshake_names_the_authorities() -> None:
    async def use(server: Server) -> None:
        argv = ("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", "localhost")
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        said, _ = await process.communicate()
        _, _, names = said.decode().partition("Acceptable client certificate CA names")
        assert "CN = cluster-ca" in names.replace("CN=", "CN = ")
        assert "CN = front-proxy-ca" in names.replace("CN=", "CN = ")

    run(use)


def test_without_the_policy_the_handshake_verifies() -> None:
    async def main() -> None:
        server = await serve(who, "127.0.0.1", 0, tls=contexts.server_context(*SERVER_PAIR, AUTHORITY.pem))
        with pytest.raises(ConnectionError):
            await ask(server, BAD["unknown"][0])
        await server.close(0.1)

    asyncio.run(main())

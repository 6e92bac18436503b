"""How `tiphys kube-apiserver` listens, as its flags say."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.apiserver.apiworld import World, run
from tests.wire.certificates import Authority
from tiphys.apiserver import command, configuring
from tiphys.apiserver.config import Config
from tiphys.apiserver.configuring import configuration
from tiphys.apiserver.flags import parser
from tiphys.apiserver.serving import Serving, serving
from tiphys.runtime.clock import SystemClock
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls.contexts import client_context
from tiphys.wire.tls.snipair import sni_pair


async def hello(request: Request) -> Response:
    return Response(200, {}, b"hello")


def made(tmp_path: Path, *words: str) -> Serving:
    flags_parser = parser()
    flags = flags_parser.parse(["--data-dir", str(tmp_path), "--cert-dir", str(tmp_path / "certs"), *words])
    return serving(flags, configuration(flags, flags_parser), SystemClock())


def with_server(served: Serving, ask: Callable[[int], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await serve(hello, "127.0.0.1", 0, tls=served.tls, limits=served.limits)
        try:
            await ask(server.port)
        finally:
            await server.close(0)

    asyncio.run(main())


def agreed(context: ssl.SSLContext) -> Callable[[int], Awaitable[None]]:
    async def ask(port: int) -> None:
        transport = SocketTransport("127.0.0.1", port, context)
        assert await (await transport.send(Request("GET", "/"), timeout=5)).read() == b"hello"
        await transport.close()

    return ask


def refused(context: ssl.SSLContext) -> Callable[[int], Awaitable[None]]:
    async def ask(port: int) -> None:
        with pytest.raises(ConnectionError):
            await agreed(context)(port)

    return ask


def test_without_a_certificate_it_signs_one_itself_and_keeps_it(tmp_path: Path) -> None:
    served = made(tmp_path)
    certificate, key = tmp_path / "certs" / "apiserver.crt", tmp_path / "certs" / "apiserver.key"
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    with_server(served, agreed(client_context(certificate.read_bytes())))
    before = certificate.read_bytes()
    made(tmp_path)
    assert certificate.read_bytes() == before


def test_tls_is_what_the_flags_say(tmp_path: Path) -> None:
    old = client_context(verify=False)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with_server(made(tmp_path), agreed(old))
    with_server(made(tmp_path, "--tls-min-version=VersionTLS13"), refused(old))
    only = made(tmp_path, "--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    with_server(only, agreed(old))
    old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with_server(only, refused(old))
    with pytest.raises(ValueError, match="cipher suite 'TLS_RSA_WITH_RC4_128_SHA' is unknown or not safe; choose from"):
        made(tmp_path, "--tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA")


def test_http2_can_be_turned_off_and_bounded(tmp_path: Path) -> None:
    def protocol(served: Serving) -> str | None:
        found: list[str | None] = []

        async def ask(port: int) -> None:
            context = client_context(verify=False)
            context.set_alpn_protocols(["h2", "http/1.1"])
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            found.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
            writer.transport.abort()

        with_server(served, ask)
        return found[0]

    assert protocol(made(tmp_path)) == "h2"
    assert protocol(made(tmp_path, "--disable-http2-serving")) == "http/1.1"
    assert made(tmp_path).limits.streams == 250
    assert made(tmp_path, "--http2-max-streams-per-connection=7").limits.streams == 7


def test_certificates_for_names(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"
    for path, data in zip((certificate, key), authority.issue("other.example", server=True), strict=True):
        path.write_bytes(data)
    assert sni_pair(f"{certificate},{key}").names == ("other.example",)
    assert sni_pair(f"{certificate},{key}:a.example,*.b.example").names == ("a.example", "*.b.example")
    with pytest.raises(ValueError, match="is not of the form CERT,KEY"):
        sni_pair("just-one")

    async def ask(port: int) -> None:
        transport = SocketTransport("127.0.0.1", port, client_context(authority.pem), "other.example")
        assert await (await transport.send(Request("GET", "/"), timeout=5)).read() == b"hello"
        await transport.close()

    with_server(made(tmp_path, f"--tls-sni-cert-key={certificate},{key}"), ask)


def test_a_certificate_that_is_there_is_used_however_soon_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    authority = Authority()
    pair = authority.issue("localhost", server=True)  # which ends in an hour
    for name, data in zip(("apiserver.crt", "apiserver.key"), pair, strict=True):
        (folder / name).write_bytes(data)
    with_server(made(tmp_path), agreed(client_context(authority.pem, None, None)))
    assert ((folder / "apiserver.crt").read_bytes(), (folder / "apiserver.key").read_bytes()) == pair


@pytest.mark.parametrize("name", ["apiserver.crt", "apiserver.key"])
def test_half_a_pair_is_refused(name: str, tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "certs" / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}, certificate and key must be supplied as a pair"):
        made(tmp_path)


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_pods_are_sent_to_an_address_that_is_not_loopback(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuring, "host_address", lambda family: "10.1.2.3" if family == socket.AF_INET else None)
    flags = parser()
    words = ["--data-dir", str(tmp_path), f"--bind-address={bound}"]
    assert configuration(flags.parse(words), flags).advertise_address == "10.1.2.3"
    monkeypatch.setattr(configuring, "host_address", lambda family: None)
    with pytest.raises(SystemExit, match="--advertise-address"):
        configuration(flags.parse(words), flags)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--egress-selector-config-file=x"], "upstream's flag --egress-selector-config-file=x is not supported"),
        (["--tls-min-version=VersionTLS10"], "invalid choice: 'VersionTLS10'"),
        (["--cors-allowed-origins=("], r"--cors-allowed-origins: '\(' is not a regular expression"),
        (["--service-account-lookup=false"], "invalid choice: False"),
        (["--storage-backend=etcd2"], "invalid choice: 'etcd2'"),
    ],
)
def test_what_cannot_be_done_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    flags = parser()
    with pytest.raises(SystemExit, match=message):
        configuration(flags.parse(["--data-dir", str(tmp_path), "--advertise-address=192.0.2.1", *words]), flags)


def test_browsers() -> None:
    async def work(world: World) -> None:
        allowed = await world.raw("GET", "/version", origin="https://app.example.com")
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert allowed.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        assert (await world.raw("OPTIONS", "/api/v1/pods", origin="https://app.example.com", user=None)).status == 204
        other = await world.raw("GET", "/version", origin="https://evil.example")
        assert "Access-Control-Allow-Origin" not in other.headers

    origins, directives = (r"^https://app\.example\.com$",), ("max-age=31536000", "includeSubDomains")
    run(work, Config(seed=1, cors_allowed_origins=origins, strict_transport_security=directives))


def test_tolerations_as_the_flags_say() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        spec = {"containers": [{"name": "c", "image": "i"}]}
        pod = await world.json("POST", "/api/v1/namespaces/a/pods", {"metadata": {"name": "p"}, "spec": spec})
        seconds = {t["key"]: t["tolerationSeconds"] for t in pod["spec"]["tolerations"]}
        assert seconds == {"node.kubernetes.io/not-ready": 10, "node.kubernetes.io/unreachable": 20}

    run(work, Config(seed=1, not_ready_toleration_seconds=10, unreachable_toleration_seconds=20))


def test_kubelets_are_verified_only_against_an_authority_that_is_named(tmp_path: Path) -> None:
    """As upstream: kubeadm names none, as each kubelet signs its own certificate."""
    authority = Authority()
    for name, pem in zip(("crt", "key"), authority.issue("kube-apiserver-kubelet-client"), strict=True):
        (tmp_path / name).write_bytes(pem)
    (tmp_path / "ca").write_bytes(authority.pem)
    given = {"kubelet_client_certificate": tmp_path / "crt", "kubelet_client_key": tmp_path / "key"}
    modes = {}
    for ca in (None, tmp_path / "ca"):
        dialer = command._dialer(argparse.Namespace(**given, kubelet_certificate_authority=ca))
        assert dialer is not None
        assert dialer._kubelet_tls is not None
        modes[ca is None] = dialer._kubelet_tls.verify_mode
    assert modes == {True: ssl.CERT_NONE, False: ssl.CERT_REQUIRED}

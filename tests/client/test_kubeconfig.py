"""Kubeconfig files: what is read from them, and how each fault in one is named."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from cryptography.x509 import load_der_x509_certificate

from tests.wire.certificates import Authority
from tiphys.client import kubeconfig
from tiphys.client.kubeconfig import KubeconfigError
from tiphys.client.options import ClientOptions
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls import following
from tiphys.wire.tls.contexts import server_context

PEM = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def config(cluster: Any = None, user: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:8001"} if cluster is None else cluster}],
        "users": [{"name": "u", "user": {} if user is None else user}],
        **more,
    }


def write(folder: Path, content: Any) -> Path:
    path = folder / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def connect(path: Path, **more: Any) -> None:
    async def work() -> None:
        await kubeconfig.client_from_file(path, "test", **more).close()

    asyncio.run(work())


FAULTS: dict[str, tuple[Any, str]] = {
    "no YAML": ("a: [", "is not YAML"),
    "no mapping": ("- a", "does not hold a kubeconfig"),
    "nothing": ("", "does not hold a kubeconfig"),
    "no context": ({}, "there is no context ''"),
    "another context": (config(**{"current-context": "there"}), "there is no context 'there'"),
    "contexts of another shape": (config(contexts={"here": {}}), "there is no context 'here'"),
    "a context of another shape": (config(contexts=[{"name": "here", "context": "x"}]), "there is no context 'here'"),
    "no cluster": (config(clusters=None), "there is no cluster 'c'"),
    "no user": (config(users=[]), "there is no user 'u'"),
    "no server": (config({}), "None is not the URL of a server"),
    "another scheme": (config({"server": "ftp://x"}), "'ftp://x' is not the URL of a server"),
    "a plugin": (config(user={"exec": {"command": "x"}}), "user.exec is not supported by Tiphys"),
    "a password": (config(user={"username": "x"}), "user.username is not supported by Tiphys"),
    "no base64": (
        config({"server": "https://x", "certificate-authority-data": "?"}),
        "certificate-authority-data is not base64",
    ),
    "no certificate": (
        config({"server": "https://x", "certificate-authority-data": base64.b64encode(b"x").decode()}),
        "its certificates and keys cannot be used",
    ),
    "no file": (config({"server": "https://x", "certificate-authority": "gone"}), "cannot be used"),
}


@pytest.mark.parametrize(("content", "message"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named_with_its_file(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(KubeconfigError) as caught:
        connect(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot read .*: No such file"):
        connect(tmp_path / "gone")


def test_who_acts_as_another_needs_no_credentials_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, config(user={"exec": {}, "username": "x"}))
    with pytest.raises(KubeconfigError):
        connect(path)
    connect(path, anonymous=True)


def test_a_client_is_closed_in_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with kubeconfig.connected(write(tmp_path, config({"server": "http://[::1]"})), "test") as client:
            assert client is not None

    asyncio.run(work())


def test_an_https_server_with_a_name_of_its_own(tmp_path: Path) -> None:
    connect(write(tmp_path, config({"server": "https://x", "insecure-skip-tls-verify": True, "tls-server-name": "y"})))


def test_authority_and_path_of_the_server(tmp_path: Path) -> None:
    data = base64.b64encode(PEM).decode()
    path = write(tmp_path, config({"server": "https://x/clusters/a", "certificate-authority-data": data}))
    assert kubeconfig.authority_from_file(path) == PEM
    assert kubeconfig.server_path(path) == "/clusters/a"
    (tmp_path / "ca.crt").write_bytes(PEM)
    path = write(tmp_path, config({"server": "https://x", "certificate-authority": "ca.crt"}))
    assert kubeconfig.authority_from_file(path) == PEM
    assert kubeconfig.server_path(path) == "/"
    assert kubeconfig.authority_from_file(write(tmp_path, config())) == b""
    with pytest.raises(KubeconfigError, match=r"cannot read .*ca\.key"):
        kubeconfig.authority_from_file(write(tmp_path, config({"certificate-authority": "ca.key"})))


def test_credentials_of_one_user_and_of_all(tmp_path: Path) -> None:
    data = base64.b64encode(PEM).decode()
    users = [
        {"name": "u", "user": {"client-certificate-data": data, "client-key": "key.pem"}},
        {"name": "v", "user": {"token": "secret"}},
        {"name": "w", "user": None},
    ]
    path = write(tmp_path, config(users=users))
    own = kubeconfig.credentials_from_file(path)
    assert (own.certificate, own.key, own.token) == (PEM, tmp_path / "key.pem", None)
    everyone, current = kubeconfig.users_from_file(path)
    assert current == "u"
    assert everyone["u"] == own
    assert everyone["v"].token is not None
    assert everyone["v"].token() == "secret"
    assert everyone["w"].token is None
    assert kubeconfig.users_from_file(write(tmp_path, {"users": users}))[1] == ""


def test_a_context_without_a_user_has_no_credentials(tmp_path: Path) -> None:
    path = write(tmp_path, config(contexts=[{"name": "here", "context": {"cluster": "c"}}]))
    assert kubeconfig.credentials_from_file(path) == kubeconfig.Credentials(None, None, None)


def test_a_token_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    read = kubeconfig.credentials_from_file(write(tmp_path, config(user={"tokenFile": "token"}))).token
    assert read is not None
    assert read() == "first"
    token.write_text("second\n")
    os.utime(token, ns=(1, 1))
    assert read() == "second"
    assert read() == "second"


def test_a_certificate_in_the_file_itself_is_shown_once_it_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOKS_EVERY", 0.0)
    authority = Authority()

    async def who(request: Request) -> Response:
        name = load_der_x509_certificate(request.peer.certificate or b"").subject.rfc4514_string()
        return Response(200, {"content-type": "application/json"}, orjson.dumps({"who": name}))

    def renew(port: int, name: str) -> None:
        cert, key = (base64.b64encode(pem).decode() for pem in authority.issue(name))
        cluster = {"server": f"https://127.0.0.1:{port}"}
        cluster["certificate-authority-data"] = base64.b64encode(authority.pem).decode()
        write(tmp_path, config(cluster, {"client-certificate-data": cert, "client-key-data": key}))

    async def work() -> None:
        tls = server_context(*authority.issue("localhost", server=True), client_ca=authority.pem)
        server = await serve(who, "127.0.0.1", 0, tls=tls)
        renew(server.port, "before")
        async with kubeconfig.connected(tmp_path / "config", "test") as client:
            assert orjson.loads(await (await client.request("GET", "/")).read()) == {"who": "CN=before"}
            write(tmp_path, "half: [")
            assert orjson.loads(await (await client.request("GET", "/")).read()) == {"who": "CN=before"}
            renew(server.port, "after")
            assert orjson.loads(await (await client.request("GET", "/")).read()) == {"who": "CN=after"}
        await server.close(0)

    asyncio.run(work())


def test_in_a_pod_the_service_account_takes_the_files_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "serviceaccount"
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", folder)
    with pytest.raises(kubeconfig.KubeconfigError, match="no --kubeconfig is given, and this is no pod"):
        kubeconfig.server_of(folder)
    folder.mkdir()
    (folder / "token").write_text("secret\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert kubeconfig.server_of(folder) == "https://[fd00::1]:443"
    token = kubeconfig.credentials_from_file(folder).token
    assert token is not None
    assert token() == "secret"


def test_a_server_that_is_named_wins_over_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, config({"server": "http://127.0.0.1:8001"}))

    async def work() -> None:
        options = ClientOptions(server="http://127.0.0.2:8002")
        client = kubeconfig.client_from_file(path, "test", options=options)
        with pytest.raises(ConnectionError, match=re.escape("127.0.0.2:8002")):
            await client.request("GET", "/")
        await client.close()

    asyncio.run(work())

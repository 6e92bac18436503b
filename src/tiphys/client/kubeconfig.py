"""A client from a kubeconfig file: the current context's server and credentials.

Credentials are read again when their file changes, as whoever rotates them expects: a token and a certificate with the
next request, also a certificate that stands in the kubeconfig itself. In a pod, ``SERVICE_ACCOUNT`` takes the file's
place: the pod's own service account.

Sources: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiphys.client.calls import Calls
from tiphys.client.options import ClientOptions
from tiphys.client.rest import Client
from tiphys.runtime import yamltext
from tiphys.runtime.component import CannotStart
from tiphys.wire.client import SocketTransport
from tiphys.wire.tls.contexts import Pem, client_context
from tiphys.wire.tls.following import FollowedCertificate

Config = dict[str, Any]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Given in place of a kubeconfig: the server and the credentials that every container finds."""


class KubeconfigError(CannotStart):
    """The kubeconfig cannot be used; the message names the file and what is wrong with it."""


def client_from_file(
    path: Path,
    user_agent: str,
    *,
    timeout: float = 60,
    anonymous: bool = False,
    options: ClientOptions | None = None,
) -> Client:
    """A client of the current context. Needs a running event loop; the caller closes it. Raises ``KubeconfigError``.

    ``anonymous`` leaves the user's credentials out, for a client that is to act as somebody else.
    """
    options = options or ClientOptions()
    transport, token = transport_from_file(path, anonymous=anonymous, server=options.server)
    return Client(
        transport,
        user_agent=user_agent,
        token=token,
        timeout=timeout,
        calls=Calls(urlsplit(options.server or server_of(path)).netloc),
        limits=options.limits,
    )


def transport_from_file(
    path: Path, *, anonymous: bool = False, server: str = ""
) -> tuple[SocketTransport, Callable[[], str] | None]:
    """The connection to the current context's server, which shows the user's certificate, and the user's token.

    For who carries requests on as they are. ``anonymous`` leaves the user's credentials out, ``server`` is a URL that
    wins over the context's. Raises ``KubeconfigError``.
    """
    config = _read(path)
    context, cluster = _current(config, path)
    cluster = {**cluster, "server": server or cluster.get("server")}
    known = context.get("user") and not anonymous
    user = _named(config, "users", "user", context["user"], path) if known else {}
    _refuse_unsupported(user, path)

    def pair() -> tuple[Pem, Pem]:
        try:
            return _pair(_named(_read(path), "users", "user", context["user"], path), path)
        except KubeconfigError as error:  # it may be half-written
            raise ValueError(str(error)) from error

    return _transport(cluster, user, path, pair), _token(user, path)


def credentials_from_file(path: Path) -> Credentials:
    """The credentials of the current context's user. Raises ``KubeconfigError``."""
    config = _read(path)
    context, _ = _current(config, path)
    user = _named(config, "users", "user", context["user"], path) if context.get("user") else {}
    return _credentials(user, path)


@contextlib.asynccontextmanager
async def connected(path: Path, user_agent: str, options: ClientOptions | None = None) -> AsyncIterator[Client]:
    """The client of ``client_from_file``, closed in the end."""
    client = client_from_file(path, user_agent, options=options)
    try:
        yield client
    finally:
        await client.close()


def authority_from_file(path: Path) -> bytes:
    """The certificates that the current context's cluster is checked by, PEM; empty if the file has none.

    Raises ``KubeconfigError``.
    """
    _, cluster = _current(_read(path), path)
    match _pem(cluster, "certificate-authority", path):
        case Path() as file:
            try:
                return file.read_bytes()
            except OSError as error:
                raise KubeconfigError(f"{path}: cannot read {file}: {error.strerror}") from error
        case bytes() as data:
            return data
    return b""


@dataclass(frozen=True)
class Credentials:
    """What somebody shows to a server: a certificate with its key, each as PEM text or a file, or a token."""

    certificate: Pem | None
    key: Pem | None
    token: Callable[[], str] | None


def users_from_file(path: Path) -> tuple[dict[str, Credentials], str]:
    """The credentials of all users of a file by the user's name, and the user of the current context, empty without
    one. Raises ``KubeconfigError``."""
    config = _read(path)
    users = {str(entry.get("name")): _credentials(entry.get("user") or {}, path) for entry in config.get("users") or ()}
    current = config.get("current-context") or ""
    return users, str(_named(config, "contexts", "context", current, path).get("user") or "") if current else ""


def _credentials(user: Config, path: Path) -> Credentials:
    _refuse_unsupported(user, path)
    return Credentials(_pem(user, "client-certificate", path), _pem(user, "client-key", path), _token(user, path))


def _refuse_unsupported(user: Config, path: Path) -> None:
    if unsupported := [name for name in ("exec", "auth-provider", "username", "as") if user.get(name)]:
        raise KubeconfigError(f"{path}: user.{unsupported[0]} is not supported by Tiphys; use a certificate or a token")


def server_of(path: Path) -> str:
    """The URL of the current context's server. Raises ``KubeconfigError``."""
    _, cluster = _current(_read(path), path)
    return str(cluster.get("server") or "")


def server_path(path: Path) -> str:
    """The path in the URL of the current context's server, ``/`` without one. Raises ``KubeconfigError``."""
    _, cluster = _current(_read(path), path)
    return urlsplit(cluster.get("server") or "").path or "/"


def _read(path: Path) -> Config:
    if path == SERVICE_ACCOUNT:
        return _of_service_account()
    try:
        config = yamltext.load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"cannot read {path}: {error.strerror}") from error
    except yamltext.YAMLError as error:
        raise KubeconfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise KubeconfigError(f"{path} does not hold a kubeconfig")
    return config


def _of_service_account() -> Config:
    """What a kubeconfig would say of the pod that this process runs in."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{what}", "") for what in ("HOST", "PORT"))
    if not (host and port and (SERVICE_ACCOUNT / "token").exists()):
        raise KubeconfigError("no --kubeconfig is given, and this is no pod with a service account; give one")
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return {
        "clusters": [
            {"name": "pod", "cluster": {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}}
        ],
        "users": [{"name": "pod", "user": {"tokenFile": str(SERVICE_ACCOUNT / "token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
        "current-context": "pod",
    }


def _current(config: Config, path: Path) -> tuple[Config, Config]:
    """The current context and its cluster."""
    context = _named(config, "contexts", "context", config.get("current-context") or "", path)
    return context, _named(config, "clusters", "cluster", context.get("cluster", ""), path)


def _named(config: Config, part: str, key: str, name: str, path: Path) -> Config:
    entries = config.get(part) or []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(key) or {}, dict):
            return dict(entry.get(key) or {})
    raise KubeconfigError(f"{path}: there is no {key} {name!r}")


def _pair(user: Config, path: Path) -> tuple[Pem, Pem]:
    """A user's certificate and key. Raises ``ValueError`` without them."""
    certificate, key = _pem(user, "client-certificate", path), _pem(user, "client-key", path)
    if certificate is None or key is None:
        raise ValueError(f"{path} names no certificate and key any more")
    return certificate, key


def _transport(cluster: Config, user: Config, path: Path, pair: Callable[[], tuple[Pem, Pem]]) -> SocketTransport:
    """``pair`` reads the user's certificate and key from the kubeconfig as it is then."""
    address = urlsplit(cluster.get("server") or "")
    if address.scheme not in ("http", "https") or address.hostname is None:
        raise KubeconfigError(f"{path}: {cluster.get('server')!r} is not the URL of a server")
    if address.scheme == "http":
        return SocketTransport(address.hostname, address.port or 80)
    certificate, key = _pem(user, "client-certificate", path), _pem(user, "client-key", path)
    try:
        tls = client_context(
            ca=_pem(cluster, "certificate-authority", path),
            cert=certificate,
            key=key,
            verify=not cluster.get("insecure-skip-tls-verify"),
        )
    except OSError as error:  # ssl.SSLError is one
        raise KubeconfigError(f"{path}: its certificates and keys cannot be used: {error}") from error
    followed = FollowedCertificate(tls, pair, (path,)) if certificate is not None and key is not None else None
    name = cluster.get("tls-server-name")
    return SocketTransport(address.hostname, address.port or 443, tls, name, certificate=followed)


def _pem(entry: Config, name: str, path: Path) -> Pem | None:
    """``<name>-data`` in base64, or the file that ``<name>`` names, relative to the kubeconfig."""
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"{path}: {name}-data is not base64") from error
    return path.parent / entry[name] if entry.get(name) else None


def _token(user: Config, path: Path) -> Callable[[], str] | None:
    if file := user.get("tokenFile"):
        return _FileToken(path.parent / file)
    if token := user.get("token"):
        return lambda: str(token)
    return None


class _FileToken:
    """A token in a file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        self._text = ""

    def __call__(self) -> str:
        stamp = self._path.stat().st_mtime_ns
        if stamp != self._stamp:
            self._text, self._stamp = self._path.read_text().strip(), stamp
        return self._text

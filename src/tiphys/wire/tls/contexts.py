"""TLS contexts for servers and clients: TLS 1.2 and above, certificates from files or from memory, renewable.

``keep_renewed`` follows a server's files while it listens.

A ``ServerContext`` can be given renewed certificates while it listens: connections made from then on use them. It
swaps the whole inner context at the handshake (in the SNI callback, which OpenSSL calls for every client), as the
trusted client CAs of one OpenSSL context can only grow. Source: RFC 8446
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.runtime.clock import Clock
from tiphys.wire.tls import clientcerts
from tiphys.wire.tls.ciphers import DEFAULT
from tiphys.wire.tls.clientauthorities import name_authorities

log = logging.getLogger(__name__)

Pem = bytes | str | Path
"""PEM text as ``bytes``, or the path of a file that holds it."""
Authorities = Pem | tuple[Pem, ...] | None
"""Who signs client certificates; None or none of them: clients are not asked for any."""

LOOKS_EVERY = 5.0
"""Seconds between two looks at a server's files."""
HTTP1 = ("http/1.1",)
HTTP2_AND_1 = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class TLSPolicy:
    """What a server agrees to."""

    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ciphers: str = ""
    """OpenSSL's list of cipher suites for TLS 1.2 (``wire.ciphers`` makes one); empty: ``DEFAULT`` there."""
    alpn: tuple[str, ...] = HTTP2_AND_1
    asks: bool = False
    """A client's certificate that cannot be verified does not end the handshake: see ``wire.clientcerts``. Only for
    servers behind ``TlsLayer``, which keeps such certificates from counting."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (with its chain) and its key. ``names``: the host names it is for; ``*.`` matches one label."""

    cert: Pem
    key: Pem
    names: tuple[str, ...] = ()


class ServerContext(ssl.SSLContext):
    """A server's context whose certificates can be renewed with ``reload``. Made by ``server_context``."""

    _current: ssl.SSLContext
    _by_name: dict[str, ssl.SSLContext]
    _policy: TLSPolicy
    asks = False
    """Whether certificates of clients are verified only beside the handshake, by ``wire.clientcerts``."""

    def reload(self, cert: Pem, key: Pem, client_ca: Authorities = None, more: Sequence[KeyPair] = ()) -> None:
        """Use these from the next handshake on. Raises OSError or ssl.SSLError, and then changes nothing."""
        self._use(cert, key, client_ca, more)

    def _use(self, cert: Pem | None, key: Pem | None, client_ca: Authorities, more: Sequence[KeyPair]) -> None:
        current = _inner(cert, key, client_ca, self._policy)
        by_name = {
            name.lower(): _inner(pair.cert, pair.key, client_ca, self._policy) for pair in more for name in pair.names
        }
        self._current, self._by_name = current, by_name

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        chosen = self._current
        if name and self._by_name:
            name = name.lower().rstrip(".")
            wildcard = "*." + name.partition(".")[2]
            chosen = self._by_name.get(name) or self._by_name.get(wildcard) or chosen
        connection.context = chosen


def server_context(
    cert: Pem | None,
    key: Pem | None,
    client_ca: Authorities = None,
    *,
    more: Sequence[KeyPair] = (),
    policy: TLSPolicy | None = None,
) -> ServerContext:
    """A context for ``wire.server.serve``.

    With ``client_ca``, clients may show a certificate, and one that these authorities did not sign ends the handshake.
    ``more``: certificates chosen by the name that the client asks for (SNI). Without ``cert``, each handshake fails
    until ``reload`` brings one.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context._policy = policy or TLSPolicy()
    context.asks = _set_up(context, cert, key, client_ca, context._policy)
    context._use(cert, key, client_ca, more)
    context.sni_callback = context._choose
    return context


async def keep_renewed(
    context: ServerContext,
    cert: Path,
    key: Path,
    client_ca: Authorities = None,
    *,
    more: Sequence[KeyPair] = (),
    clock: Clock,
    seconds: float = LOOKS_EVERY,
) -> None:
    """Use renewed files soon after they change, until cancelled. A half-written pair waits for its other half."""
    pems = [cert, key, *_each(client_ca), *(part for pair in more for part in (pair.cert, pair.key))]
    paths = [Path(pem) for pem in pems if not isinstance(pem, bytes)]
    seen = _stamps(paths)
    while True:
        await clock.sleep(seconds)
        now = _stamps(paths)
        if now == seen:
            continue
        try:
            context.reload(cert, key, client_ca, more)
        except (OSError, ssl.SSLError) as error:
            log.warning("the changed certificate files cannot be used, the old ones stay: %s", error)
            continue
        seen = now
        log.info("certificates were read again")


def _stamps(paths: Sequence[Path]) -> list[int]:
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]


def client_context(
    ca: Pem | None = None,
    cert: Pem | None = None,
    key: Pem | None = None,
    *,
    verify: bool = True,
) -> ssl.SSLContext:
    """A context for clients. ``ca`` None: the machine's authorities. ``verify`` False: any certificate is taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(HTTP1))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        _trust(context, ca)
    if cert is not None:
        load_pair(context, cert, key)
    return context


def _inner(cert: Pem | None, key: Pem | None, client_ca: Authorities, policy: TLSPolicy) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(context, cert, key, client_ca, policy)
    return context


def _set_up(
    context: ssl.SSLContext, cert: Pem | None, key: Pem | None, client_ca: Authorities, policy: TLSPolicy
) -> bool:
    """Make a server's context; whether it asks as ``Policy.asks`` wants it."""
    context.minimum_version = policy.minimum
    context.set_ciphers(policy.ciphers or DEFAULT)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0  # a session ticket would outlive a revoked certificate, and costs a record per handshake
    context.set_alpn_protocols(list(policy.alpn))
    if cert is not None:
        load_pair(context, cert, key)
    for ca in _each(client_ca):
        context.verify_mode = ssl.CERT_OPTIONAL
        _trust(context, ca)
    with contextlib.ExitStack() as stack:
        name_authorities(context, [stack.enter_context(_as_path(ca)) for ca in _each(client_ca)])
    return policy.asks and client_ca is not None and clientcerts.ask(context)


def _each(authorities: Authorities) -> tuple[Pem, ...]:
    if authorities is None:
        return ()
    return authorities if isinstance(authorities, tuple) else (authorities,)


def _trust(context: ssl.SSLContext, ca: Pem) -> None:
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go: each given certificate is an anchor
    if isinstance(ca, bytes):
        context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
    else:
        context.load_verify_locations(cafile=os.fspath(ca))


def load_pair(context: ssl.SSLContext, cert: Pem, key: Pem | None) -> None:
    """Let a context show a certificate from the next handshake on. Raises OSError or ssl.SSLError."""
    with _as_path(cert) as cert_path:
        if key is None:
            context.load_cert_chain(cert_path)
        else:
            with _as_path(key) as key_path:
                context.load_cert_chain(cert_path, key_path)


@contextlib.contextmanager
def _as_path(pem: Pem) -> Iterator[str]:
    """A path at which OpenSSL can read ``pem``; if it is only in memory, it never reaches a disk."""
    if not isinstance(pem, bytes):
        yield os.fspath(pem)
        return
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(pem)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as temporary:  # mode 0600
        temporary.write(pem)
        temporary.flush()
        yield temporary.name

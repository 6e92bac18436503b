"""How a component's port is set up, and the flags that say so: upstream's names and defaults, but loopback.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.runtime.component import CannotStart
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.wire.tls.ciphers import VERSIONS, openssl_list
from tiphys.wire.tls.contexts import HTTP1, HTTP2_AND_1, KeyPair, TLSPolicy
from tiphys.wire.tls.snipair import sni_pair

_HEADERS = {
    "username-headers": "x-remote-user",
    "uid-headers": "",
    "group-headers": "x-remote-group",
    "extra-headers-prefix": "x-remote-extra-",
}
ALWAYS_ALLOWED = ("/healthz", "/readyz", "/livez")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Proxies that authenticate callers and name them in headers."""

    ca: Path
    names: tuple[str, ...]
    """The common names of their certificates; none for any."""
    username_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delegation:
    """Who is asked about callers. Times in seconds."""

    authentication: Path | None = None
    """A kubeconfig: asked about tokens, and for the authority of client certificates; None: nobody is."""
    authorization: Path | None = None
    """A kubeconfig: asked what callers may do; None: nobody is, and no more is allowed than ``always_allowed``."""
    client_ca: Path | None = None
    proxy: Proxy | None = None
    """Who may say who the caller is; None: as the cluster publishes it."""
    skip_lookup: bool = False
    """Whether the authority of client certificates is not looked for in the cluster."""
    tolerate_lookup_failure: bool = False
    always_allowed: tuple[str, ...] = ALWAYS_ALLOWED
    """Paths for everybody; one that ends in ``*`` stands for all that begin so."""
    tokens_for: float = 10.0
    allowed_for: float = 10.0
    denied_for: float = 10.0


@dataclass(frozen=True, slots=True)
class PortSettings:
    host: str
    port: int
    name: str
    """The component's, which names the files of a certificate that is made."""
    pair: tuple[Path, Path] | None = None
    """Certificate and key; None: made on the spot."""
    folder: Path | None = None
    """Where a certificate that is made is kept; None: in memory."""
    more: tuple[KeyPair, ...] = ()
    policy: TLSPolicy = field(default_factory=lambda: TLSPolicy(asks=True))
    streams: int = 0
    shares_port: bool = False
    """Whether others may listen on the same port."""
    profiling: bool = True
    """Whether ``/debug/pprof/`` is served, to those whom the authorizer lets."""
    delegation: Delegation = field(default_factory=Delegation)
    flags: Mapping[str, object] = field(default_factory=dict)
    """What ``/flagz`` shows."""


def add_flags(parser: FlagParser, port: int, *, tolerate_lookup_failure: bool) -> None:
    """Add the flags of a component's port; ``port`` is the default, durations are in seconds."""
    add = parser.add_argument
    add("--bind-address", default="127.0.0.1", help="where to listen")
    add("--secure-port", type=int, default=port, help="the port of health, metrics and pages; 0 turns it off")
    add("--cert-dir", type=Path, help="where a certificate is made if none is given; in memory without it")
    add("--tls-cert-file", type=Path, help="the certificate, with its chain")
    add("--tls-private-key-file", type=Path, help="its key")
    add("--tls-sni-cert-key", action="append", default=[], help="CERT,KEY[:NAME,…]: another certificate, for names")
    add("--tls-min-version", default="VersionTLS12", choices=tuple(VERSIONS), help="the oldest TLS that is agreed to")
    add("--tls-cipher-suites", default="", help="suites for TLS 1.2, separated by commas")
    parser.add_bool("--disable-http2-serving", default=False, help="serve HTTP/1.1 only")
    add("--http2-max-streams-per-connection", type=int, default=0, help="requests at a time on one connection; 0: 250")
    parser.add_bool("--profiling", default=True, help="serve /debug/pprof/")
    parser.add_bool("--permit-port-sharing", default=False, help="listen with SO_REUSEPORT, beside others")
    parser.add_bool(
        "--permit-address-sharing", default=False, help="listen with SO_REUSEADDR; as upstream's, it always does"
    )
    add("--authentication-kubeconfig", type=Path, help="how to ask about tokens and client certificates")
    parser.add_bool("--authentication-skip-lookup", default=False, help="look for no authority in the cluster")
    parser.add_bool(
        "--authentication-tolerate-lookup-failure",
        default=tolerate_lookup_failure,
        help="start even if the authority cannot be looked for",
    )
    add("--authentication-token-webhook-cache-ttl", type=parse_duration, default=10.0, help="how long tokens are known")
    add("--client-ca-file", type=Path, help="the authority of client certificates")
    add("--requestheader-client-ca-file", type=Path, help="the authority of proxies that name their callers")
    add("--requestheader-allowed-names", default="", help="common names of such proxies; empty for any")
    for part, default in _HEADERS.items():
        add(f"--requestheader-{part}", default=default, help="headers in which they do")
    add("--authorization-kubeconfig", type=Path, help="how to ask what callers may do")
    add("--authorization-always-allow-paths", default=",".join(ALWAYS_ALLOWED), help="paths for everybody")
    for answer in ("authorized", "unauthorized"):
        name = f"--authorization-webhook-cache-{answer}-ttl"
        add(name, type=parse_duration, default=10.0, help="how long such an answer counts")


def port_settings(flags: argparse.Namespace, parser: FlagParser) -> PortSettings | None:
    """None if the port is turned off. Raises ``CannotStart``."""
    if not flags.secure_port:
        return None
    if (flags.tls_cert_file is None) != (flags.tls_private_key_file is None):
        raise CannotStart("--tls-cert-file and --tls-private-key-file belong together; give both or neither")
    try:
        ciphers = openssl_list(_words(flags.tls_cipher_suites))
        more = tuple(sni_pair(text) for text in flags.tls_sni_cert_key)
    except (ValueError, OSError, ssl.SSLError) as error:
        raise CannotStart(str(error)) from error
    return PortSettings(
        host=flags.bind_address,
        port=flags.secure_port,
        name=parser.prog,
        pair=None if flags.tls_cert_file is None else (flags.tls_cert_file, flags.tls_private_key_file),
        folder=flags.cert_dir,
        more=more,
        policy=TLSPolicy(
            VERSIONS[flags.tls_min_version], ciphers, HTTP1 if flags.disable_http2_serving else HTTP2_AND_1, asks=True
        ),
        streams=flags.http2_max_streams_per_connection,
        shares_port=flags.permit_port_sharing,
        profiling=flags.profiling,
        delegation=Delegation(
            authentication=flags.authentication_kubeconfig,
            authorization=flags.authorization_kubeconfig,
            client_ca=flags.client_ca_file,
            proxy=_proxy(flags),
            skip_lookup=flags.authentication_skip_lookup,
            tolerate_lookup_failure=flags.authentication_tolerate_lookup_failure,
            always_allowed=_words(flags.authorization_always_allow_paths),
            tokens_for=flags.authentication_token_webhook_cache_ttl,
            allowed_for=flags.authorization_webhook_cache_authorized_ttl,
            denied_for=flags.authorization_webhook_cache_unauthorized_ttl,
        ),
        flags=parser.values(flags),
    )


def _proxy(flags: argparse.Namespace) -> Proxy | None:
    if flags.requestheader_client_ca_file is None:
        return None

    def headers(text: str) -> tuple[str, ...]:
        return tuple(word.lower() for word in _words(text))

    return Proxy(
        flags.requestheader_client_ca_file,
        _words(flags.requestheader_allowed_names),
        headers(flags.requestheader_username_headers),
        headers(flags.requestheader_uid_headers),
        headers(flags.requestheader_group_headers),
        headers(flags.requestheader_extra_headers_prefix),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())

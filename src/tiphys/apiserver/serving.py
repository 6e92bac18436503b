"""How the server listens, as its flags say: certificates, TLS, HTTP/2, and the renewal of files.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tiphys.apiserver.config import Config
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import read_file
from tiphys.wire.server import Limits
from tiphys.wire.tls.ciphers import VERSIONS, openssl_list
from tiphys.wire.tls.contexts import HTTP1, HTTP2_AND_1, ServerContext, TLSPolicy, keep_renewed, server_context
from tiphys.wire.tls.snipair import sni_pair

_MOST_CHANCE = 0.02
SERVICE_NAMES = ("kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost")


@dataclass(frozen=True, slots=True)
class Serving:
    host: str
    port: int
    tls: ServerContext
    limits: Limits
    keep_renewed: Callable[[], Awaitable[None]]
    """Follows the files until it is cancelled."""


def serving(flags: argparse.Namespace, config: Config, clock: Clock) -> Serving:
    """How the flags want the port to be served. Raises OSError, ValueError, ssl.SSLError."""
    if (flags.tls_cert_file is None) != (flags.tls_private_key_file is None):
        raise ValueError("--tls-cert-file and --tls-private-key-file belong together; give both or neither")
    if flags.tls_cert_file is None:
        from tiphys.wire.tls.selfsigned import ensure_certificate

        certificate, key = ensure_certificate(flags.cert_dir, (*_addresses(flags, config), *SERVICE_NAMES))
    else:
        certificate, key = flags.tls_cert_file, flags.tls_private_key_file
        read_file(certificate, "--tls-cert-file")  # OpenSSL does not say which of them is missing
        read_file(key, "--tls-private-key-file")
    suites = [name.strip() for name in flags.tls_cipher_suites.split(",") if name.strip()]
    alpn = HTTP1 if flags.disable_http2_serving else HTTP2_AND_1
    policy = TLSPolicy(VERSIONS[flags.tls_min_version], openssl_list(suites), alpn, asks=True)
    more = tuple(sni_pair(text) for text in flags.tls_sni_cert_key)
    authorities = client_authorities(flags.client_ca_file, flags.requestheader_client_ca_file)
    tls = server_context(certificate, key, authorities, more=more, policy=policy)
    if not 0 <= flags.goaway_chance <= _MOST_CHANCE:
        raise ValueError("--goaway-chance can not be less than 0 or greater than 0.02")
    limits = Limits(goaway_chance=flags.goaway_chance)
    if streams := flags.http2_max_streams_per_connection:
        limits = replace(limits, streams=streams)

    keep = partial(keep_renewed, tls, certificate, key, authorities, more=more, clock=clock)
    return Serving(flags.bind_address, flags.secure_port, tls, limits, keep)


def _addresses(flags: argparse.Namespace, config: Config) -> tuple[str, ...]:
    """Those that a certificate of the server's own is for."""
    kubernetes = str(ipaddress.ip_network(config.service_cluster_ip_ranges[0])[1])
    bound = "127.0.0.1" if ipaddress.ip_address(flags.bind_address).is_unspecified else flags.bind_address
    return tuple(dict.fromkeys((config.advertise_address, kubernetes, bound)))


def client_authorities(*files: Path | None) -> tuple[Path, ...]:
    """Whose client certificates get through the handshake; which of them means what is the authenticators' matter."""
    return tuple(dict.fromkeys(path for path in files if path is not None))

"""``tiphys etcd``: the store alone, with etcd's flags, serving etcd's API.

Flags that concern other members have nothing to act on, as the store has one: those that say what is so anyway are
taken, and the log says so; those that ask for something else are refused.

Source: https://etcd.io/docs/v3.6/op-guide/configuration/
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import ssl
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tiphys.runtime import logs
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.component import Ready, launch, refusing, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.runtime.tasks import Runner
from tiphys.store import autocompact
from tiphys.store.backend import StoreError
from tiphys.store.etcdserver import VERSION
from tiphys.store.sqlite import SQLiteBackend
from tiphys.wire.tls.ciphers import openssl_list
from tiphys.wire.tls.contexts import ServerContext, TLSPolicy, keep_renewed, server_context

if TYPE_CHECKING:
    from tiphys.store.etcdserver.server import EtcdServer

log = logging.getLogger(__name__)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
DEFAULT_QUOTA = 2 * 1024**3
CERTIFICATE_CHECK_SECONDS = 10.0
_TLS_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_NO_EFFECT = {
    "listen-peer-urls": "",
    "peer-cert-file": "",
    "peer-key-file": "",
    "peer-trusted-ca-file": "",
    "snapshot-count": "",
    "heartbeat-interval": "",
    "election-timeout": "",
    "initial-cluster-state": "new",
    "initial-cluster-token": "",
    "strict-reconfig-check": "",
    "pre-vote": "",
    "peer-client-cert-auth": "",
    "logger": "zap",
    "metrics": "basic",
}
"""Flags about what a store of one member does not have, and the one value that is taken, if not all are."""
_UNSUPPORTED = """
wal-dir max-snapshots max-wals backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes
max-concurrent-streams discovery discovery-fallback discovery-proxy discovery-srv discovery-srv-name
discovery-endpoints discovery-token enable-v2 client-crl-file client-cert-allowed-hostname auto-tls
peer-auto-tls peer-crl-file peer-cert-allowed-cn peer-cert-allowed-hostname
tls-max-version cors host-whitelist auth-token bcrypt-cost auth-token-ttl enable-pprof log-outputs proxy
proxy-failure-wait proxy-refresh-interval proxy-dial-timeout proxy-write-timeout proxy-read-timeout
force-new-cluster enable-grpc-gateway enable-distributed-tracing corrupt-check-time listen-client-http-urls
experimental-corrupt-check-time experimental-enable-v2v3 experimental-backend-bbolt-freelist-type
experimental-enable-lease-checkpoint experimental-compaction-batch-limit feature-gates config-file
grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout unsafe-no-fsync
"""


def parser() -> FlagParser:
    """The parser of the flags of ``tiphys etcd``; intervals in seconds, sizes in bytes."""
    flags = FlagParser("tiphys etcd", "A store that serves etcd's API, of one member.", _UNSUPPORTED.split(),
                       release=f"etcd Version: {VERSION}")  # fmt: skip
    add = flags.add_argument
    add("--name", default="default", help="this member's name")
    add("--data-dir", default="", help="where the data is kept (default NAME.etcd)")
    flags.add_bool(
        "--accept-data-loss",
        default=False,
        help="open a damaged store with what is left of it (not a flag of upstream's)",
    )
    add("--listen-client-urls", default="http://localhost:2379", help="where to listen, separated by commas")
    add("--advertise-client-urls", default="http://localhost:2379", help="the URLs in the member list")
    add("--listen-metrics-urls", default="", help="where to serve /metrics and /health besides")
    add("--initial-advertise-peer-urls", default="http://localhost:2380", help="the peer URLs of the member list")
    add("--initial-cluster", default="", help="name=URL of the one member")
    add("--cert-file", type=Path, help="the server's certificate")
    add("--key-file", type=Path, help="the certificate's key")
    add("--trusted-ca-file", type=Path, help="the authority of client certificates")
    add("--cipher-suites", default="", help="suites for TLS 1.2, separated by commas; OpenSSL's choice without it")
    add("--tls-min-version", choices=list(_TLS_VERSIONS), default="TLS1.2", help="the oldest TLS that is agreed to")
    flags.add_bool("--client-cert-auth", default=False, help="turn clients away who show no certificate")
    add("--quota-backend-bytes", type=int, default=0, help="NOSPACE alarm above this size (0: 2 GiB, below 0: none)")
    add("--auto-compaction-mode", choices=["periodic", "revision"], default="periodic", help="what is kept")
    add("--auto-compaction-retention", default="0", help="how much is kept: 1h, 30m, hours or revisions; 0: no limit")
    for prefix in ("", "experimental-"):
        add(f"--{prefix}watch-progress-notify-interval", dest="progress", type=parse_duration, default=600.0)
        flags.add_bool(f"--{prefix}initial-corrupt-check", default=False, help="check the whole file before serving it")
    add("--log-level", choices=list(_LEVELS), default="info", help="what is logged")
    for name in _NO_EFFECT:
        add(f"--{name}", default=None, nargs="?", const="true", help=argparse.SUPPRESS)
    return flags


def environment() -> list[str]:
    """Flags from ``ETCD_…`` variables, as etcd takes them."""
    known = [option for action in parser()._actions for option in action.option_strings if option.startswith("--")]
    names = {option: "ETCD_" + option[2:].upper().replace("-", "_") for option in known}
    return [f"{option}={os.environ[name]}" for option, name in names.items() if os.environ.get(name)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tiphys etcd``; returns the exit status."""
    flags = parser()
    words = [*environment(), *(sys.argv[1:] if argv is None else argv)]
    return launch(flags, words, lambda options: _run(options, flags), set_up_logs=_set_up_logs)


def _set_up_logs(options: argparse.Namespace) -> None:
    logs.configure(2 if options.log_level == "debug" else 0, _LEVELS[options.log_level])


def _run(options: argparse.Namespace, flags: FlagParser) -> Coroutine[Any, Any, None]:
    _check(flags, options)
    return run(options, SystemClock())


def _check(flags: FlagParser, options: argparse.Namespace) -> None:
    """Refuse what cannot be done, and say what is of no effect."""
    for name, only in _NO_EFFECT.items():
        value = getattr(options, name.replace("-", "_"))
        if value is None:
            continue
        if only and value != only:
            flags.error(f"upstream's flag --{name} is supported with the value {only!r} only")
        log.info("--%s has no effect: this store has one member, and no separate log", name)
    members = [part.partition("=")[0] for part in options.initial_cluster.split(",") if part]
    if members not in ([], [options.name]):
        flags.error(
            f"--initial-cluster must name this member ({options.name}) alone: the embedded store has one member; "
            "for several, run etcd itself"
        )
    try:
        openssl_list(_names(options.cipher_suites))
    except ValueError as error:
        flags.error(f"--cipher-suites: {error}")
    if bool(options.cert_file) != bool(options.key_file):
        flags.error("--cert-file and --key-file belong together")
    if options.client_cert_auth and not options.trusted_ca_file:
        flags.error("--client-cert-auth needs --trusted-ca-file")
    for url in _urls(options.listen_client_urls) + _urls(options.listen_metrics_urls):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "unix"):
            flags.error(f"URL {url!r}: the scheme must be http, https or unix")
        if parts.scheme == "https" and not options.cert_file:
            flags.error(f"URL {url!r} needs --cert-file and --key-file")


def _urls(text: str) -> list[str]:
    return [url.strip() for url in text.split(",") if url.strip()]


async def run(options: argparse.Namespace, clock: Clock, ready: Ready = whenever) -> None:
    """Open the store and serve it until cancelled; ``ready`` is called once clients are answered."""
    async with contextlib.AsyncExitStack() as stack:
        with refusing(StoreError, OSError, ssl.SSLError):
            store = await _open(options, clock)
            stack.push_async_callback(store.close)
            runner = await stack.enter_async_context(Runner(clock, "etcd "))
            if (policy := _compaction(options)) is not None:
                runner.supervise(lambda: autocompact.run(store, policy, clock), "auto-compaction")
            server = _server(store, options)
            stack.push_async_callback(server.stop)
            await _listen_on_all(server, options, _tls(options, runner, clock))
        log.info("ready to serve client requests at %s, revision %d", options.listen_client_urls, store.hub.revision)
        ready()
        await asyncio.Event().wait()


async def _open(options: argparse.Namespace, clock: Clock) -> SQLiteBackend:
    directory = options.data_dir or f"{options.name}.etcd"
    store = await SQLiteBackend.open(directory, clock, _quota(options), accept_loss=options.accept_data_loss)
    store.progress_interval = options.progress
    if options.initial_corrupt_check or options.experimental_initial_corrupt_check:
        try:
            await store.check_file()
        except BaseException:
            await store.close()
            raise
    return store


def _quota(options: argparse.Namespace) -> int:
    """In bytes; 0 for no limit."""
    return DEFAULT_QUOTA if options.quota_backend_bytes == 0 else max(0, options.quota_backend_bytes)


def _server(store: SQLiteBackend, options: argparse.Namespace) -> EtcdServer:
    from tiphys.store.etcdserver.member import Member
    from tiphys.store.etcdserver.server import EtcdServer

    urls = _urls(options.advertise_client_urls), _urls(options.initial_advertise_peer_urls)
    return EtcdServer(Member(store, options.name, *urls), _quota(options))


def _tls(options: argparse.Namespace, runner: Runner, clock: Clock) -> ServerContext | None:
    """The server's certificate, which follows its files; None without one."""
    if not options.cert_file:
        return None
    policy = TLSPolicy(_TLS_VERSIONS[options.tls_min_version], openssl_list(_names(options.cipher_suites)))
    files = (options.cert_file, options.key_file, options.trusted_ca_file)
    tls = server_context(*files, policy=policy)
    renewed = partial(keep_renewed, tls, *files, clock=clock, seconds=CERTIFICATE_CHECK_SECONDS)
    runner.supervise(renewed, "certificates")
    return tls


async def _listen_on_all(server: EtcdServer, options: argparse.Namespace, tls: ServerContext | None) -> None:
    for url in _urls(options.listen_client_urls):
        await _listen(server, url, tls, need_certificate=options.client_cert_auth)
    for url in _urls(options.listen_metrics_urls):
        await _listen(server, url, tls, need_certificate=False)


async def _listen(server: EtcdServer, url: str, tls: ServerContext | None, *, need_certificate: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        await server.listen_unix(f"{parts.netloc}{parts.path}")
        return
    secure = tls if parts.scheme == "https" else None
    await server.listen(
        parts.hostname or "", parts.port or 2379, secure, need_certificate=need_certificate and secure is not None
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _compaction(options: argparse.Namespace) -> autocompact.Periodic | autocompact.RevisionWindow | None:
    text = options.auto_compaction_retention
    if options.auto_compaction_mode == "revision":
        return autocompact.RevisionWindow(int(text)) if int(text) else None
    retention = float(text) * 3600 if text.isdigit() else parse_duration(text)
    return autocompact.Periodic(retention) if retention else None

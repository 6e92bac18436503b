"""``tiphys etcd``: the store alone, with etcd's flags, serving etcd's API.

Flags that concern other members have nothing to act on, as the store has one: those that say what is so anyway are
taken, and the log says so; those that ask for something else are refused.

Source: https://etcd.io/docs/v3.6/op-guide/configuration/
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tiphys.runtime import logs
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.runtime.tasks import Runner
from tiphys.store import autocompact
from tiphys.store.backend import StoreError
from tiphys.store.etcdserver import VERSION
from tiphys.store.sqlite import SQLiteBackend
from tiphys.wire.ciphers import openssl_list
from tiphys.wire.tls import ServerContext, TLSPolicy, keep_renewed, server_context

if TYPE_CHECKING:
    from tiphys.store.etcdserver.server import EtcdServer

log = logging.getLogger(__name__)

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
    add("--log-level", choices=["debug", "info", "warn", "error"], default="info", help="what is logged")
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
    options = flags.parse([*environment(), *(sys.argv[1:] if argv is None else argv)])
    logs.configure(2 if options.log_level == "debug" else 0)
    if options.log_level in ("warn", "error"):
        logging.getLogger().setLevel(options.log_level.upper().replace("WARN", "WARNING"))
    _check(flags, options)
    import uvloop

    try:
        uvloop.run(serve(options, SystemClock()))
    except (StoreError, OSError, ssl.SSLError) as error:
        print(f"tiphys etcd: {error}", file=sys.stderr)
        return 1
    return 0


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


async def serve(options: argparse.Namespace, clock: Clock) -> None:
    """Open the store and serve it until the process gets SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    quota = DEFAULT_QUOTA if options.quota_backend_bytes == 0 else max(0, options.quota_backend_bytes)
    directory = options.data_dir or f"{options.name}.etcd"
    store = await SQLiteBackend.open(directory, clock, quota, accept_loss=options.accept_data_loss)
    try:
        store.progress_interval = options.progress
        if options.initial_corrupt_check or options.experimental_initial_corrupt_check:
            await store.check_file()
        async with Runner(clock, "etcd ") as runner:
            policy = _compaction(options)
            if policy is not None:
                runner.supervise(lambda: autocompact.run(store, policy, clock), "auto-compaction")
            await _serve_until(stop, store, options, quota, runner, clock)
    finally:
        await store.close()


async def _serve_until(
    stop: asyncio.Event, store: SQLiteBackend, options: argparse.Namespace, quota: int, runner: Runner, clock: Clock
) -> None:
    """Serve clients and metrics until ``stop`` is set."""
    from tiphys.store.etcdserver.member import Member
    from tiphys.store.etcdserver.server import EtcdServer

    member = Member(
        store,
        options.name,
        _urls(options.advertise_client_urls),
        _urls(options.initial_advertise_peer_urls),
    )
    server = EtcdServer(member, quota)
    tls = None
    if options.cert_file:
        ca = options.trusted_ca_file
        policy = TLSPolicy(_TLS_VERSIONS[options.tls_min_version], openssl_list(_names(options.cipher_suites)))
        tls = server_context(options.cert_file, options.key_file, ca, policy=policy)
        files = (tls, options.cert_file, options.key_file, ca)
        runner.supervise(lambda: keep_renewed(*files, clock=clock, seconds=CERTIFICATE_CHECK_SECONDS), "certificates")
    try:
        for url in _urls(options.listen_client_urls):
            await _listen(server, url, tls, need_certificate=options.client_cert_auth)
        for url in _urls(options.listen_metrics_urls):
            await _listen(server, url, tls, need_certificate=False)
        log.info("ready to serve client requests at %s, revision %d", options.listen_client_urls, store.hub.revision)
        await stop.wait()
        log.info("stopping")
    finally:
        await server.stop()


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

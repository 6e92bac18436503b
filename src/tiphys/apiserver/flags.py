"""The flags of kube-apiserver that steer something.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiphys.apiserver.audit import flags as audit
from tiphys.apiserver.authz.settings import MODES
from tiphys.apiserver.runtimeconfig import parse_runtime_config
from tiphys.apiserver.storage.leases import REUSE_SECONDS
from tiphys.runtime.flags import FlagParser, parse_bool, parse_duration
from tiphys.runtime.upstream import ONE_VERSION
from tiphys.wire.tls.ciphers import VERSIONS

_COORDINATED = "leadership is not coordinated by the server, which is an alpha feature"
_PEERS = "servers do not forward requests to one another, which is a beta feature that is off"
_WHY = {
    "coordinated-leadership-lease-duration": _COORDINATED,
    "coordinated-leadership-renew-deadline": _COORDINATED,
    "coordinated-leadership-retry-period": _COORDINATED,
    "egress-selector-config-file": "nodes, webhooks and etcd are reached directly",
    "emulation-forward-compatible": ONE_VERSION,
    "enable-garbage-collector": "objects whose owners are gone are always collected",
    "enable-logs-handler": "files of logs are not served",
    "etcd-db-metric-poll-interval": "the store shows its own size, when it is asked for it",
    "etcd-servers-overrides": "all resources are kept in one store",
    "max-connection-bytes-per-sec": "connections to pods are not slowed down",
    "peer-advertise-ip": _PEERS,
    "peer-advertise-port": _PEERS,
    "peer-ca-file": _PEERS,
    "runtime-config-emulation-forward-compatible": ONE_VERSION,
    "send-retry-after-while-not-ready-once": "the port is not open before the server is ready",
    "service-account-signing-endpoint": "tokens are signed with --service-account-signing-key-file",
    "storage-initialization-timeout": "a server is ready when its store is, and a cache is filled when it is asked",
    "tracing-config-file": "no spans are sent",
    "watch-cache": "there always are caches",
}
"""Why flags steer nothing."""
_SAME = {"emulated-version": ("1.36", "kube=1.36")}
"""What they may say beside upstream's default."""


def parser() -> FlagParser:
    flags = FlagParser("kube-apiserver", "Serves the Kubernetes API.", same=_SAME, why=_WHY)
    _add_store(flags)
    _add_serving(flags)
    _add_access(flags)
    _add_cluster(flags)
    audit.add_flags(flags)
    flags.add_feature_gates()
    flags.add_verbosity()
    flags.add_metrics()
    return flags


def _add_store(flags: FlagParser) -> None:
    """The flags about the store."""
    add = flags.add_argument
    add("--etcd-servers", default="", help="URLs of etcd, separated by commas; none for the embedded store")
    add("--etcd-cafile", type=Path, help="the authority of etcd's certificate")
    add("--etcd-certfile", type=Path, help="the client certificate for etcd")
    add("--etcd-keyfile", type=Path, help="its key")
    add("--etcd-prefix", default="/registry", help="where in the store the objects are")
    for check in ("health", "ready"):
        add(f"--etcd-{check}check-timeout", type=_some_time, default=2.0, help=f"how long the store may take: {check}")
    add(
        "--etcd-count-metric-poll-period",
        type=parse_duration,
        default=60.0,
        help="how old the numbers of objects among the metrics may be: they are of now; 0 for none",
    )
    add(
        "--watch-cache-sizes", type=_cache_sizes, default={}, help="RESOURCE#SIZE,…: as upstream, any but 0 is the same"
    )
    add("--etcd-compaction-interval", type=parse_duration, default=300.0, help="how much history is kept; 0 for all")
    add(
        "--lease-reuse-duration-seconds",
        type=_count,
        default=REUSE_SECONDS,
        help="how long objects that expire, such as events, share a lease of the store",
    )
    add("--storage-backend", default="etcd3", choices=("etcd3",), help="the protocol of the store")
    add(
        "--storage-media-type",
        default="application/json",
        choices=("application/json", "application/vnd.kubernetes.protobuf", ""),
        help="the form in which built-in kinds are kept; either is read",
    )
    add("--encryption-provider-config", type=Path, help="which resources are encrypted in the store, and how")
    flags.add_bool(
        "--encryption-provider-config-automatic-reload", default=False, help="read that file again when it changes"
    )
    add("--data-dir", type=Path, help="the folder of the embedded store (not a flag of upstream's)")
    flags.add_bool(
        "--accept-data-loss",
        default=False,
        help="open a damaged store with what is left of it (not a flag of upstream's)",
    )


def _add_serving(flags: FlagParser) -> None:
    """The flags about listening, TLS and limits."""
    add = flags.add_argument
    add("--bind-address", default="0.0.0.0", help="where to listen")
    add("--secure-port", type=int, default=6443, help="the port")
    add("--advertise-address", default="", help="the address that pods reach this server at")
    add("--workers", type=_count, default=1, help="processes that serve on the port (not a flag of upstream's)")
    add("--tls-cert-file", type=Path, help="the server's certificate, with its chain; made in --cert-dir without it")
    add("--tls-private-key-file", type=Path, help="its key")
    add(
        "--cert-dir",
        type=Path,
        default=Path("/var/run/kubernetes"),
        help="where a certificate is made where none is given",
    )
    add("--tls-sni-cert-key", action="append", default=[], help="CERT,KEY[:NAME,…]: another certificate, for names")
    add("--tls-min-version", default="VersionTLS12", choices=tuple(VERSIONS), help="the oldest TLS that is agreed to")
    add("--tls-cipher-suites", default="", help="suites for TLS 1.2, separated by commas")
    flags.add_bool("--disable-http2-serving", default=False, help="serve HTTP/1.1 only")
    add("--http2-max-streams-per-connection", type=int, default=0, help="requests at a time on one connection; 0: 250")
    add("--goaway-chance", type=float, default=0.0, help="for which part of requests by HTTP/2 clients are sent to"
        " another connection, at most 0.02")  # fmt: skip
    add(
        "--strict-transport-security-directives",
        default="",
        help="the header sent to browsers, such as max-age=31536000",
    )
    add("--cors-allowed-origins", default="", help="regular expressions of the origins whose pages may call")
    add("--external-hostname", default="", help="the name at which clients are to reach this server")
    flags.add_bool("--permit-port-sharing", default=False, help="listen with SO_REUSEPORT, beside others")
    flags.add_bool(
        "--permit-address-sharing", default=False, help="listen with SO_REUSEADDR; as upstream's, it always does"
    )
    flags.add_bool("--profiling", default=True, help="serve /debug/pprof/")
    add("--debug-socket-path", default="", help="a Unix socket that serves it to this machine's administrator")
    add("--request-timeout", type=parse_duration, default=60.0, help="how long a request may take")
    add("--min-request-timeout", type=int, default=1800, help="the shortest watch, in seconds")
    flags.add_bool(
        "--enable-priority-and-fairness", default=True, help="let flow schemas and levels decide which requests run"
    )
    add("--max-requests-inflight", type=int, default=400, help="reading requests at a time; 0 for no limit")
    add("--max-mutating-requests-inflight", type=int, default=200, help="the same for requests that write")
    add("--livez-grace-period", type=parse_duration, default=0.0, help="how long a start may take until /livez fails")
    add("--shutdown-delay-duration", type=parse_duration, default=0.0, help="continue to serve after SIGTERM")
    flags.add_bool(
        "--shutdown-send-retry-after",
        default=False,
        help="then turn new requests away, until those in flight have ended",
    )
    add("--shutdown-watch-termination-grace-period", type=parse_duration, default=0.0, help="over which watches end")


def _add_access(flags: FlagParser) -> None:
    """The flags about authentication and authorization."""
    add = flags.add_argument
    add("--client-ca-file", type=Path, help="the authority of client certificates")
    add("--token-auth-file", type=Path, help="static tokens")
    add("--requestheader-client-ca-file", type=Path, help="the authority of proxies that say who the caller is")
    add("--requestheader-allowed-names", default="", help="common names of such proxies; none for any")
    add("--requestheader-username-headers", default="", help="the headers with the caller's name")
    add("--requestheader-uid-headers", default="", help="those with the uid")
    add("--requestheader-group-headers", default="", help="those with the groups")
    add("--requestheader-extra-headers-prefix", default="", help="how those with further facts begin")
    add("--proxy-client-cert-file", type=Path, help="the certificate by which servers of aggregated APIs know this one")
    add("--proxy-client-key-file", type=Path, help="its key")
    flags.add_bool(
        "--enable-aggregator-routing", default=False, help="reach these servers at endpoints, not at cluster IPs"
    )
    flags.add_bool("--aggregator-reject-forwarding-redirect", default=True, help="let no such server redirect clients")
    flags.add_bool("--anonymous-auth", default=True, help="let callers without a credential through to authorization")
    flags.add_bool("--enable-bootstrap-token-auth", default=False, help="believe bootstrap tokens")
    add("--api-audiences", default="", help="audiences of tokens, separated by commas")
    add("--service-account-issuer", action="append", default=[], help="the issuer of tokens; further ones are believed")
    add("--service-account-jwks-uri", default="", help="where the keys of tokens are published; this server without it")
    add("--service-account-signing-key-file", type=Path, help="the private key that signs tokens")
    add("--service-account-key-file", type=Path, action="append", default=[], help="further keys that are believed")
    add("--service-account-lookup", type=parse_bool, nargs="?", const=True, default=True, choices=(True,),
        help="tokens of service accounts that are gone are refused; only true")  # fmt: skip
    add("--service-account-max-token-expiration", type=parse_duration, default=0.0, help="the longest life of a token")
    flags.add_bool(
        "--service-account-extend-token-expiration", default=True, help="let tokens of pods live longer than asked"
    )
    _add_tokens(flags)
    add("--authorization-mode", help=f"{', '.join(MODES)}, in order; AlwaysAllow without it")
    add("--authorization-policy-file", type=Path, help="the policies of the mode ABAC, one JSON object a line")
    add("--authorization-config", type=Path, help="a file that names the authorizers, in place of the flags")
    add("--authorization-webhook-config-file", type=Path, help="a kubeconfig that names the server to ask")
    add("--authorization-webhook-version", choices=("v1", "v1beta1"), help="of the reviews; v1beta1 without it")
    for name in ("authorized", "unauthorized"):
        add(f"--authorization-webhook-cache-{name}-ttl", type=parse_duration, help="how long such an answer is kept")
    add("--admission-control", default="", help="the only plugins; deprecated")
    add("--enable-admission-plugins", default="", help="plugins besides those that are on by default")
    add("--disable-admission-plugins", default="", help="plugins to leave out")
    add("--admission-control-config-file", type=Path, help="what admission plugins are set to")
    add("--admission-plugin", action="append", default=[], help="module:Class of a plugin of your own; may be repeated")
    for name in ("not-ready", "unreachable"):
        add(f"--default-{name}-toleration-seconds", type=int, default=300, help="how long pods stay")


def _add_tokens(flags: FlagParser) -> None:
    add = flags.add_argument
    add("--authentication-config", type=Path, help="a file with issuers of tokens, in place of the flags --oidc-*")
    add("--oidc-issuer-url", default="", help="an issuer of tokens: a URL of HTTPS")
    add("--oidc-client-id", default="", help="whom its tokens are for")
    add("--oidc-ca-file", type=Path, help="the authority of its certificate; the machine's without it")
    add("--oidc-username-claim", default="sub", help="the claim that is the user's name")
    add("--oidc-username-prefix", help="put before it; - for nothing; the issuer without it, unless the claim is email")
    add("--oidc-groups-claim", default="", help="the claim that holds the groups")
    add("--oidc-groups-prefix", default="", help="put before each")
    add("--oidc-signing-algs", default="RS256", help="algorithms that are believed, separated by commas")
    add("--oidc-required-claim", action="append", default=[], help="CLAIM=VALUE that tokens must have; repeatable")
    add("--authentication-token-webhook-config-file", type=Path, help="a kubeconfig: who says whose a token is")
    add("--authentication-token-webhook-version", default="v1beta1", choices=("v1", "v1beta1"), help="of the reviews")
    add("--authentication-token-webhook-cache-ttl", type=parse_duration, default=120.0, help="how long one is kept")


def _add_cluster(flags: FlagParser) -> None:
    add = flags.add_argument
    add("--runtime-config", type=parse_runtime_config, default={}, help="GROUP/VERSION=true of what is served")
    add("--service-cluster-ip-range", default="10.0.0.0/24", help="where cluster IPs come from; two for dual stack")
    add("--service-node-port-range", default="30000-32767", help="where node ports come from")
    add("--kubernetes-service-node-port", type=int, default=0, help="the service kubernetes gets this port of nodes")
    add("--delete-collection-workers", type=_count, default=1, help="how many objects of a collection go at a time")
    add("--event-ttl", type=parse_duration, default=3600.0, help="how long events are kept")
    add("--endpoint-reconciler-type", default="lease", choices=("lease", "none"), help="none: leave kubernetes alone")
    add("--kubelet-certificate-authority", type=Path, help="the authority of kubelets' certificates")
    add("--kubelet-client-certificate", type=Path, help="the client certificate for kubelets")
    add("--kubelet-client-key", type=Path, help="its key")
    add("--kubelet-timeout", type=parse_duration, default=5.0, help="of no effect, as in upstream's server")
    types = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    add("--kubelet-preferred-address-types", default=types, help="which of a node's addresses to use, best first")
    add("--insecure-port", type=int, choices=(0,), help="retired: 0, as manifests before v1.24 have it, and no other")
    flags.add_bool("--allow-privileged", default=False, help="allow privileged containers")


def _some_time(text: str) -> float:
    """A duration of more than nothing. Raises ``ValueError``."""
    if (seconds := parse_duration(text)) <= 0:
        raise ValueError(text)
    return seconds


def _cache_sizes(text: str) -> dict[str, int]:
    """``RESOURCE[.GROUP]#SIZE,…``. Raises ``ArgumentTypeError``."""
    sizes: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        resource, mark, size = part.partition("#")
        if not mark or not resource or not size.isdigit():
            raise argparse.ArgumentTypeError(f"invalid value of watch cache size: {part}")
        if int(size) == 0:
            raise argparse.ArgumentTypeError(f"{part}: a cache cannot be turned off in Tiphys")
        sizes[resource] = int(size)
    return sizes


def _count(text: str) -> int:
    """A positive number. Raises ``ValueError``."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_some_time.__name__ = "duration of more than nothing"
_count.__name__ = "positive number"  # as argparse calls it in its message

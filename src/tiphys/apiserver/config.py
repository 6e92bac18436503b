"""How an API server is set up. The defaults are those of kube-apiserver if it has any.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tiphys.apiserver.call import User
from tiphys.apiserver.storage.leases import REUSE_SECONDS

if TYPE_CHECKING:
    from tiphys.apiserver.audit.config import AuditConfig

ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """Proxies that authenticate callers and name them in headers."""

    ca: bytes
    """Who signs their certificates."""
    names: tuple[str, ...] = ("front-proxy-client",)
    """The common names of their certificates; none for any."""
    username_headers: tuple[str, ...] = ("X-Remote-User",)
    uid_headers: tuple[str, ...] = ("X-Remote-Uid",)
    group_headers: tuple[str, ...] = ("X-Remote-Group",)
    extra_prefixes: tuple[str, ...] = ("X-Remote-Extra-",)


class ProxyCertificate(NamedTuple):
    """By which servers behind the aggregator know this one: files of the certificate and its key, in PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TokenWebhook:
    """A webhook that says whose a token is."""

    kubeconfig: Path
    version: str = "v1"
    cache_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class OidcFlags:
    """The one issuer that flags describe. ``prefix`` None: the issuer's URL, unless the claim is ``email``."""

    url: str
    client_id: str
    authority: bytes | None = None
    username_claim: str = "sub"
    username_prefix: str | None = None
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: tuple[tuple[str, str], ...] = ()
    algorithms: tuple[str, ...] = ("RS256",)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """An authorization webhook. Times in seconds; an answer of 0 seconds is not kept. ``denies``: whether a failure is
    a no."""

    kubeconfig: Path
    version: str = "v1"
    timeout: float = 30.0
    authorized: float = 300.0
    unauthorized: float = 30.0
    denies: bool = False
    conditions: tuple[str, ...] = ()


@dataclass(slots=True)
class Config:
    """Keys and certificates are PEM texts; times are in seconds."""

    advertise_address: str = "192.0.2.1"
    """Where the endpoints of the service ``kubernetes`` point; must not be a loopback address, as pods use it. The
    default is an address of nobody (RFC 5737), for servers that are reached by calls only."""
    advertise_port: int = 6443
    hostname: str = "localhost"
    flags: Mapping[str, str] = field(default_factory=dict)
    """What ``/flagz`` shows."""
    """The name of the machine, by which the server's identity lease is called."""
    service_cluster_ip_ranges: tuple[str, ...] = ("10.96.0.0/16",)
    service_node_ports: tuple[int, int] = (30000, 32767)
    """The first and the last."""
    kubernetes_node_port: int = 0
    """Of the service ``kubernetes``; 0: none."""
    storage_root: str = "/registry"
    lease_reuse_seconds: int = REUSE_SECONDS
    """How long objects that expire share a lease of the store."""

    anonymous: bool = True
    """Whether callers without a credential are let through to authorization, which lets them see health and version."""
    tokens: Mapping[str, User] = field(default_factory=dict)
    """Static tokens."""
    bootstrap_tokens: bool = True
    service_account_signing_key: bytes | None = None
    """None: a key that is made when it is first needed and lives as long as the process."""
    service_account_keys: tuple[bytes, ...] = ()
    """Further keys whose tokens are believed."""
    service_account_issuers: tuple[str, ...] = (ISSUER,)
    service_account_jwks_uri: str = ""
    """Empty: where this server is reached."""
    api_audiences: tuple[str, ...] = ()
    """Empty: the issuers."""
    service_account_max_expiration: int = 0
    service_account_extend_expiration: bool = True
    client_ca: bytes | None = None
    """Published for extension servers, in the ConfigMap ``extension-apiserver-authentication``."""
    front_proxy: FrontProxy | None = None
    """Published there, too."""

    proxy_certificate: ProxyCertificate | None = None
    aggregator_routing: bool = False
    """Whether the services of aggregated APIs are reached at their endpoints, or at their cluster IP."""
    aggregator_redirects: bool = False
    """Whether these may redirect clients."""

    oidc: OidcFlags | None = None
    authentication_config: Path | None = None
    """The file that describes issuers of tokens and anonymous callers; it is read again when it changes."""
    token_webhook: TokenWebhook | None = None

    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    authorization_policy: Path | None = None
    """The file of ABAC's policies."""
    authorization_webhook: WebhookSettings | None = None
    authorization_config: Path | None = None
    """The file that names the authorizers, in place of the modes; it is read again when it changes."""
    not_ready_toleration_seconds: int = 300
    unreachable_toleration_seconds: int = 300
    kubelet_address_types: tuple[str, ...] = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")
    """Which of a node's addresses its kubelet is reached at, best first."""
    cors_allowed_origins: tuple[str, ...] = ()
    """Regular expressions."""
    strict_transport_security: tuple[str, ...] = ()
    """Directives of the header."""

    enable_admission_plugins: tuple[str, ...] = ("NodeRestriction",)
    disable_admission_plugins: tuple[str, ...] = ()
    external_admission_plugins: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Users' own plugins by name, all of them on; each is called with the ``Context`` of ``admission.plugins``."""

    admission_config: Mapping[str, Any] = field(default_factory=dict)
    """The documents that configure admission plugins, by the plugin's name."""

    storage_as_protobuf: bool = False
    """Whether built-in kinds are kept in the store as protobuf, upstream's default, or as JSON."""
    encryption_config: Path | None = None
    """The file that says which resources are encrypted in the store, and how; None: nothing is."""
    encryption_reload: bool = False
    """Whether that file is read again when it changes."""
    audit: AuditConfig | None = None
    """None: nothing is recorded."""

    request_timeout: float = 60.0
    min_request_timeout: float = 1800.0
    """The shortest that a watch lasts if its client does not say."""
    priority_and_fairness: bool = True
    """Whether flow schemas and priority levels decide which requests run; else the two limits that follow do.
    Their sum is the number of seats that the levels share."""
    processes: int = 1
    """How many serve this API on one port; each takes its part of the requests in flight."""
    max_requests_in_flight: int = 400
    max_mutating_requests_in_flight: int = 200
    max_body_bytes: int = 3 * 1024 * 1024
    event_ttl: int = 3600
    delete_collection_workers: int = 1
    shutdown_delay: float = 0.0
    """How long requests are answered after the server was asked to end."""
    shutdown_retry_after: bool = False
    """Whether new requests are then turned away, until those in flight have ended, or the port is closed at once."""
    watch_grace: float = 0.0
    """Over how many seconds watches end then."""
    livez_grace_period: float = 0.0
    """How long after its start a server is alive whether or not it has finished starting."""
    store_health_timeout: float = 2.0
    store_ready_timeout: float = 2.0
    """How long the store may take to answer the checks of health and of readiness."""
    external_hostname: str = ""
    """The name at which clients are to reach this server; empty: the address."""
    profiling: bool = True
    """Whether there is ``/debug/pprof/``."""
    profiling_socket: str = ""
    """A Unix socket that serves it to everybody who may open the file; empty: none."""
    counts_objects: bool = True
    """Whether metrics show how many objects there are."""
    endpoint_reconciler: bool = True
    """Whether this server keeps its address in the endpoints of the service ``kubernetes``."""
    service_repair_interval: float = 180.0
    compaction_interval: float = 300.0
    """How many seconds of history the store keeps; 0: all."""
    bookmark_interval: float = 60.0
    seed: int | None = None
    """Makes uids and generated names reproducible, for simulations; None: random."""

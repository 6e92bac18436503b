"""The configuration that the flags ask for, and what does not fit together among them.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.apiserver.admission import external
from tiphys.apiserver.admission.plugins import PLUGINS
from tiphys.apiserver.audit import flags as audit
from tiphys.apiserver.authn.tokenfile import read_users
from tiphys.apiserver.config import (
    ISSUER,
    Config,
    FrontProxy,
    OidcFlags,
    ProxyCertificate,
    TokenWebhook,
    WebhookSettings,
)
from tiphys.controlkit.serving.zpages import flag_values
from tiphys.runtime.flags import FlagParser, parse_map
from tiphys.wire.hostaddress import host_address
from tiphys.wire.tls.contexts import client_context

_LAST_PORT = 65535


def configuration(flags: argparse.Namespace, flags_parser: FlagParser) -> Config:
    """What the flags ask for. Exits if they do not fit together."""
    if not flags.etcd_servers and flags.data_dir is None:
        flags_parser.error("--etcd-servers or --data-dir says where the objects are kept; neither is given")
    _check_signing(flags, flags_parser)
    if flags.insecure_port is not None:
        flags_parser.warn("flag --insecure-port is retired: no port is served without TLS; remove the flag")
    first, _, last = flags.service_node_port_range.partition("-")
    if not (first.isdigit() and last.isdigit()):
        flags_parser.error(f"--service-node-port-range {flags.service_node_port_range!r} is not a range FIRST-LAST")
    for pattern in _words(flags.cors_allowed_origins):
        try:
            re.compile(pattern)
        except re.error as error:
            flags_parser.error(f"--cors-allowed-origins: {pattern!r} is not a regular expression: {error}")
    if flags.workers > 1 and not flags.secure_port:
        flags_parser.error("--secure-port=0 is one worker's alone; name the port on which all are to listen")
    if flags.workers > 1 and flags.audit_log_path not in (None, "", "-") and flags.audit_log_maxsize:
        flags_parser.error("--audit-log-maxsize: several workers cannot rotate one file; leave it to logrotate")
    issuers = tuple(flags.service_account_issuer) or (ISSUER,)
    _check_node_port(flags.kubernetes_service_node_port, int(first), int(last))
    enabled, disabled = _admission(flags, flags_parser)
    config = Config(
        flags=flag_values(flags_parser.values(flags)),
        advertise_port=flags.secure_port,
        hostname=socket.gethostname(),
        service_cluster_ip_ranges=_words(flags.service_cluster_ip_range),
        service_node_ports=(int(first), int(last)),
        storage_root=flags.etcd_prefix.rstrip("/"),
        lease_reuse_seconds=flags.lease_reuse_duration_seconds,
        anonymous=flags.anonymous_auth,
        tokens=read_users(flags.token_auth_file) if flags.token_auth_file else {},
        bootstrap_tokens=flags.enable_bootstrap_token_auth,
        service_account_signing_key=_text(flags.service_account_signing_key_file),
        service_account_keys=tuple(path.read_bytes() for path in flags.service_account_key_file),
        service_account_issuers=issuers,
        service_account_jwks_uri=flags.service_account_jwks_uri,
        api_audiences=_words(flags.api_audiences),
        service_account_max_expiration=int(flags.service_account_max_token_expiration),
        service_account_extend_expiration=flags.service_account_extend_token_expiration,
        client_ca=_text(flags.client_ca_file),
        front_proxy=_front_proxy(flags),
        proxy_certificate=_proxy_certificate(flags, flags_parser),
        aggregator_routing=flags.enable_aggregator_routing,
        aggregator_redirects=not flags.aggregator_reject_forwarding_redirect,
        oidc=_oidc(flags, flags_parser),
        authentication_config=flags.authentication_config,
        token_webhook=_token_webhook(flags),
        authorization_modes=_words(flags.authorization_mode or "AlwaysAllow"),
        authorization_policy=flags.authorization_policy_file,
        authorization_webhook=_authorization_webhook(flags),
        authorization_config=_authorization_config(flags, flags_parser),
        enable_admission_plugins=enabled,
        disable_admission_plugins=disabled,
        external_admission_plugins=external.load(flags.admission_plugin, enabled, (name for name, _ in PLUGINS)),
        admission_config=_admission_config(flags.admission_control_config_file),
        storage_as_protobuf=flags.storage_media_type == "application/vnd.kubernetes.protobuf",
        encryption_config=flags.encryption_provider_config,
        encryption_reload=flags.encryption_provider_config_automatic_reload,
        audit=audit.configuration(flags, flags_parser),
        not_ready_toleration_seconds=flags.default_not_ready_toleration_seconds,
        unreachable_toleration_seconds=flags.default_unreachable_toleration_seconds,
        kubelet_address_types=_words(flags.kubelet_preferred_address_types),
        cors_allowed_origins=_words(flags.cors_allowed_origins),
        strict_transport_security=_words(flags.strict_transport_security_directives),
        request_timeout=flags.request_timeout,
        min_request_timeout=float(flags.min_request_timeout),
        priority_and_fairness=flags.enable_priority_and_fairness,
        processes=flags.workers,
        max_requests_in_flight=flags.max_requests_inflight,
        max_mutating_requests_in_flight=flags.max_mutating_requests_inflight,
        event_ttl=int(flags.event_ttl),
        delete_collection_workers=flags.delete_collection_workers,
        kubernetes_node_port=flags.kubernetes_service_node_port,
        shutdown_delay=flags.shutdown_delay_duration,
        shutdown_retry_after=flags.shutdown_send_retry_after,
        watch_grace=flags.shutdown_watch_termination_grace_period,
        livez_grace_period=flags.livez_grace_period,
        store_health_timeout=flags.etcd_healthcheck_timeout,
        store_ready_timeout=flags.etcd_readycheck_timeout,
        external_hostname=flags.external_hostname,
        profiling=flags.profiling,
        profiling_socket=flags.debug_socket_path,
        counts_objects=flags.etcd_count_metric_poll_period > 0,
        endpoint_reconciler=flags.endpoint_reconciler_type != "none",
        compaction_interval=flags.etcd_compaction_interval,
    )
    if flags.advertise_address:
        config.advertise_address = flags.advertise_address
    else:
        config.advertise_address = _reachable(flags.bind_address, flags_parser)
    return config


def _admission(flags: argparse.Namespace, flags_parser: FlagParser) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The plugins to turn on, and those to turn off, beside what is so by default."""
    enabled, disabled = _words(flags.enable_admission_plugins), _words(flags.disable_admission_plugins)
    if not (only := _words(flags.admission_control)):
        return enabled, disabled
    if enabled or disabled:
        flags_parser.error(
            "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive"
        )
    flags_parser.warn("flag --admission-control is deprecated; use --enable-admission-plugins and its opposite")
    return only, tuple(name for name, _ in PLUGINS if name not in only)


def _reachable(bound: str, flags_parser: FlagParser) -> str:
    """The address that pods reach this server at: that of the machine if the server listens on all, or loopback."""
    address = ipaddress.ip_address(bound)
    if not (address.is_unspecified or address.is_loopback):
        return bound
    families = (socket.AF_INET6, socket.AF_INET) if address.version == 6 else (socket.AF_INET, socket.AF_INET6)
    reachable = next((candidate for family in families if (candidate := host_address(family))), None)
    if reachable is None:
        flags_parser.error("this machine has no address but loopback; name the one that pods use: --advertise-address")
    return reachable


def _check_signing(flags: argparse.Namespace, flags_parser: FlagParser) -> None:
    """Keys that are believed say that tokens are wanted: upstream has required since v1.20 that somebody signs them."""
    if not flags.service_account_key_file or flags.service_account_signing_key_file is not None:
        return
    key = flags.service_account_key_file[0].with_suffix(".key")
    missing = [f"--service-account-signing-key-file={key}"]
    if not flags.service_account_issuer:
        missing.insert(0, f"--service-account-issuer={ISSUER}")
    flags_parser.error(
        "--service-account-issuer and --service-account-signing-key-file are required flags; add "
        + " and ".join(missing)
    )


def _oidc(flags: argparse.Namespace, flags_parser: FlagParser) -> OidcFlags | None:
    if bool(flags.oidc_issuer_url) != bool(flags.oidc_client_id):
        flags_parser.error(
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        )
    if not flags.oidc_issuer_url:
        return None
    if flags.authentication_config is not None:
        flags_parser.error("authentication-config and oidc-* flags are mutually exclusive")
    claims = [claim for text in flags.oidc_required_claim for claim in parse_map(text).items()]
    return OidcFlags(
        url=flags.oidc_issuer_url,
        client_id=flags.oidc_client_id,
        authority=_text(flags.oidc_ca_file),
        username_claim=flags.oidc_username_claim,
        username_prefix=flags.oidc_username_prefix,
        groups_claim=flags.oidc_groups_claim,
        groups_prefix=flags.oidc_groups_prefix,
        required_claims=tuple(claims),
        algorithms=_words(flags.oidc_signing_algs),
    )


def _token_webhook(flags: argparse.Namespace) -> TokenWebhook | None:
    if flags.authentication_token_webhook_config_file is None:
        return None
    return TokenWebhook(
        flags.authentication_token_webhook_config_file,
        flags.authentication_token_webhook_version,
        flags.authentication_token_webhook_cache_ttl,
    )


def _authorization_webhook(flags: argparse.Namespace) -> WebhookSettings | None:
    if flags.authorization_webhook_config_file is None:
        return None
    authorized = flags.authorization_webhook_cache_authorized_ttl
    unauthorized = flags.authorization_webhook_cache_unauthorized_ttl
    return WebhookSettings(
        flags.authorization_webhook_config_file,
        flags.authorization_webhook_version or "v1beta1",
        authorized=300.0 if authorized is None else authorized,
        unauthorized=30.0 if unauthorized is None else unauthorized,
    )


def _authorization_config(flags: argparse.Namespace, flags_parser: FlagParser) -> Path | None:
    others = [name for name in vars(flags) if name == "authorization_mode" or name.startswith("authorization_webhook_")]
    if flags.authorization_config is not None and any(getattr(flags, name) is not None for name in others):
        flags_parser.error(
            "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags"
            " are defined"
        )
    path: Path | None = flags.authorization_config
    return path


def _admission_config(path: Path | None) -> Mapping[str, Any]:
    """The documents that configure admission plugins. Raises ``ConfigFileError``."""
    if path is None:
        return {}
    from tiphys.apiserver.admission.configuration import read_admission_configuration

    return read_admission_configuration(path)


def _proxy_certificate(flags: argparse.Namespace, flags_parser: FlagParser) -> ProxyCertificate | None:
    """Raises OSError or ssl.SSLError if the two cannot be used together."""
    cert, key = flags.proxy_client_cert_file, flags.proxy_client_key_file
    if (cert is None) != (key is None):
        flags_parser.error("--proxy-client-cert-file and --proxy-client-key-file are given together or not at all")
    if cert is None:
        return None
    client_context(None, cert, key, verify=False)
    return ProxyCertificate(cert, key)


def _front_proxy(flags: argparse.Namespace) -> FrontProxy | None:
    if flags.requestheader_client_ca_file is None:
        return None
    return FrontProxy(
        flags.requestheader_client_ca_file.read_bytes(),
        _words(flags.requestheader_allowed_names),
        _words(flags.requestheader_username_headers),
        _words(flags.requestheader_uid_headers),
        _words(flags.requestheader_group_headers),
        _words(flags.requestheader_extra_headers_prefix),
    )


def _check_node_port(port: int, first: int, last: int) -> None:
    """Raises ``ValueError``, in upstream's words."""
    if not 0 <= port <= _LAST_PORT:
        raise ValueError(
            f"--kubernetes-service-node-port {port} must be between 0 and 65535, inclusive. If 0, the Kubernetes master"
            " service will be of type ClusterIP"
        )
    if port and not first <= port <= last:
        raise ValueError(f"kubernetes service node port range {first}-{last} doesn't contain {port}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _text(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()

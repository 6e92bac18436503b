"""What flags say, as documents: a table of flags, and where each stands in a configuration. Pure.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.cluster.kubeadm.configuration.documents import Documents, complete
from tiphys.cluster.kubeadm.failures import ConfigurationError

INIT, CLUSTER, JOIN, RESET = (
    "InitConfiguration",
    "ClusterConfiguration",
    "JoinConfiguration",
    "ResetConfiguration",
)

INIT_FLAGS: dict[str, tuple[str, str]] = {
    "apiserver-advertise-address": (INIT, "localAPIEndpoint.advertiseAddress"),
    "apiserver-bind-port": (INIT, "localAPIEndpoint.bindPort"),
    "certificate-key": (INIT, "certificateKey"),
    "cri-socket": (INIT, "nodeRegistration.criSocket"),
    "node-name": (INIT, "nodeRegistration.name"),
    "patches": (INIT, "patches.directory"),
    "apiserver-cert-extra-sans": (CLUSTER, "apiServer.certSANs"),
    "cert-dir": (CLUSTER, "certificatesDir"),
    "control-plane-endpoint": (CLUSTER, "controlPlaneEndpoint"),
    "feature-gates": (CLUSTER, "featureGates"),
    "image-repository": (CLUSTER, "imageRepository"),
    "kubernetes-version": (CLUSTER, "kubernetesVersion"),
    "pod-network-cidr": (CLUSTER, "networking.podSubnet"),
    "service-cidr": (CLUSTER, "networking.serviceSubnet"),
    "service-dns-domain": (CLUSTER, "networking.dnsDomain"),
}
JOIN_FLAGS: dict[str, tuple[str, str]] = {
    "apiserver-advertise-address": (JOIN, "controlPlane.localAPIEndpoint.advertiseAddress"),
    "apiserver-bind-port": (JOIN, "controlPlane.localAPIEndpoint.bindPort"),
    "certificate-key": (JOIN, "controlPlane.certificateKey"),
    "cri-socket": (JOIN, "nodeRegistration.criSocket"),
    "discovery-file": (JOIN, "discovery.file.kubeConfigPath"),
    "discovery-token": (JOIN, "discovery.bootstrapToken.token"),
    "discovery-token-ca-cert-hash": (JOIN, "discovery.bootstrapToken.caCertHashes"),
    "discovery-token-unsafe-skip-ca-verification": (JOIN, "discovery.bootstrapToken.unsafeSkipCAVerification"),
    "node-name": (JOIN, "nodeRegistration.name"),
    "patches": (JOIN, "patches.directory"),
    "tls-bootstrap-token": (JOIN, "discovery.tlsBootstrapToken"),
}
RESET_FLAGS: dict[str, tuple[str, str]] = {
    "cert-dir": (RESET, "certificatesDir"),
    "cleanup-tmp-dir": (RESET, "cleanupTmpDir"),
    "cri-socket": (RESET, "criSocket"),
}
ALLOWED_WITH_CONFIG = frozenset(
    (
        "config",
        "ignore-preflight-errors",
        "dry-run",
        "kubeconfig",
        "node-name",
        "kubeconfig-dir",
        "upload-certs",
        "virtual-address",
    )
)
"""Flags that may stand beside --config, as do all that begin with --skip-. What else they say stands in the file."""


def refuse_mixture(given: Mapping[str, Any]) -> None:
    """Raises ``ConfigurationError`` for flags beside --config that the file ought to hold."""
    mixed = [
        name
        for name in sorted(given)
        if name not in ALLOWED_WITH_CONFIG and not name.startswith("skip-") and name not in ("rootfs", "v", "yes")
    ]
    if mixed:
        raise ConfigurationError(f"can not mix '--config' with arguments [{' '.join(mixed)}]")


def documents_of(given: Mapping[str, Any], table: Mapping[str, tuple[str, str]]) -> Documents:
    """The documents that the given flags make, with their defaults. Raises ``ConfigurationError``."""
    raw: Documents = {kind: {} for kind, _ in table.values()}
    for name, value in given.items():
        if name in table:
            kind, path = table[name]
            place(raw[kind], path, value)
    return {kind: complete(document, kind, "flags") for kind, document in raw.items()}


def place(document: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path; the objects on the way are made."""
    *parents, last = path.split(".")
    for name in parents:
        document = document.setdefault(name, {})
    document[last] = value

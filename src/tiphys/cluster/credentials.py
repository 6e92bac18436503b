"""Who the components of a cluster are to its API server: a kubeconfig for each, with a certificate by the authority.

Apart from ``kubeconfig``, as it brings with it what makes certificates.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tiphys.cluster import kubeconfig
from tiphys.cluster.pki import CLIENT, RENEW_BEFORE_DAYS, Authority, ensure_authority
from tiphys.cluster.settings import Settings, write_private

USERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", ("kubeadm:cluster-admins",)),
    "super-admin": ("kubernetes-super-admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
    "csi-local": ("system:csi-local", ()),
    "cloud-controller-manager": ("system:cloud-controller-manager", ()),
    "csi-cloud": ("system:csi-cloud", ()),
    "csi-cloud-node": ("system:csi-cloud-node", ()),
    "dns": ("system:serviceaccount:kube-system:coredns", ()),
    "autoscaler": ("system:serviceaccount:kube-system:tiphys-autoscaler", ()),
    "ingress": ("system:serviceaccount:kube-system:tiphys-ingress", ()),
    "metrics-server": ("system:serviceaccount:kube-system:metrics-server", ()),
}
"""Common name and organizations in each file's client certificate: who its holder is to the API server."""


def node_user(node_name: str) -> tuple[str, tuple[str, ...]]:
    return f"system:node:{node_name}", ("system:nodes",)


def ensure_kubeconfigs(settings: Settings, now: datetime | None = None) -> None:
    """Write each component's file if it is missing, is about to expire, or points elsewhere."""
    now = now or datetime.now(UTC)
    authority = ensure_authority(settings.pki, "ca", "kubernetes", now)
    for name, (user, groups) in {**USERS, "kubelet": node_user(settings.node_name)}.items():
        ensure_kubeconfig(settings, name, user, groups, authority, now)


def ensure_kubeconfig(
    settings: Settings,
    name: str,
    user: str,
    groups: tuple[str, ...],
    authority: Authority,
    now: datetime | None = None,
) -> None:
    """Write the file of one user, with a certificate by ``authority``, where the one that is there is no good."""
    now = now or datetime.now(UTC)
    path = settings.kubeconfig(name)
    if not _current(path, settings, authority, now):
        certificate, key = authority.issue(user, groups, (), usages=CLIENT, now=now)
        config = kubeconfig.make(
            settings.cluster_name, settings.server, settings.pki / "ca.crt", user, certificate, key
        )
        write_private(path, kubeconfig.dump(config))


def _current(path: Path, settings: Settings, authority: Authority, now: datetime) -> bool:
    try:
        server, _, certificate_pem, _ = kubeconfig.credentials(kubeconfig.load(path))
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(authority.certificate)
    except (OSError, KeyError, ValueError, TypeError, InvalidSignature):
        return False
    current = certificate.not_valid_before_utc <= now
    return server == settings.server and current and (certificate.not_valid_after_utc - now).days >= RENEW_BEFORE_DAYS

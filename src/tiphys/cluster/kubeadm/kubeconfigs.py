"""The kubeconfig files of a control plane: who is in which, and where it leads. Making and checking them.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/#configure-certificates-for-user-accounts
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm.certificates.disk import CertificateError
from tiphys.cluster.kubeadm.certificates.issue import Pair, Wanted
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.pki import CLIENT

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KubeconfigUser:
    """One row: the file's name without ``.conf``, its holder, and whether it leads to this node or to the endpoint."""

    name: str
    purpose: str
    common_name: str
    organizations: tuple[str, ...] = ()
    local: bool = False

    def wanted(self, configuration: Configuration) -> Wanted:
        return Wanted(self.common_name.format(node=configuration.name), self.organizations, (), CLIENT)

    def server(self, configuration: Configuration) -> str:
        return configuration.local_server if self.local else configuration.server


USERS: tuple[KubeconfigUser, ...] = (
    KubeconfigUser(
        "admin",
        "Generate a kubeconfig file for the admin to use and for kubeadm itself",
        "kubernetes-admin",
        ("kubeadm:cluster-admins",),
    ),
    KubeconfigUser(
        "super-admin",
        "Generate a kubeconfig file for the super-admin",
        "kubernetes-super-admin",
        ("system:masters",),
    ),
    KubeconfigUser(
        "kubelet",
        "Generate a kubeconfig file for the kubelet to use *only* for cluster bootstrapping purposes",
        "system:node:{node}",
        ("system:nodes",),
        local=True,
    ),
    KubeconfigUser(
        "controller-manager",
        "Generate a kubeconfig file for the controller manager to use",
        "system:kube-controller-manager",
        local=True,
    ),
    KubeconfigUser(
        "scheduler",
        "Generate a kubeconfig file for the scheduler to use",
        "system:kube-scheduler",
        local=True,
    ),
)
VIRTUAL_ADDRESS = KubeconfigUser(
    "virtual-address",
    "Generate a kubeconfig file for the holder of the virtual address",
    "tiphys:virtual-address",
    ("system:masters",),
    local=True,
)
"""It needs its Lease before anybody can give it a right to one: nobody reaches the API until it holds the address."""
BY_NAME = {user.name: user for user in USERS}


def with_certificate(cluster: str, server: str, authority: bytes, user: str, pair: Pair) -> Config:
    return _config(
        cluster,
        server,
        authority,
        user,
        {"client-certificate-data": _b64(pair.certificate_pem), "client-key-data": _b64(pair.key_pem)},
    )


def with_key(cluster: str, server: str, authority: bytes, user: str, key: bytes) -> Config:
    """Without a certificate yet: what an external CA's operator completes."""
    return _config(cluster, server, authority, user, {"client-key-data": _b64(key)})


def with_token(cluster: str, server: str, authority: bytes, user: str, token: str) -> Config:
    return _config(cluster, server, authority, user, {"token": token})


def cluster_only(server: str, authority: bytes) -> Config:
    """What may be public: where the API server is, and who signs for it."""
    entry = {"name": "", "cluster": {"certificate-authority-data": _b64(authority), "server": server}}
    return {
        "apiVersion": "v1",
        "clusters": [entry],
        "contexts": None,
        "current-context": "",
        "kind": "Config",
        "preferences": {},
        "users": None,
    }


def check(config: Config, server: str, authority: bytes, name: str) -> None:
    """Raises ``CertificateError`` if a file that is there trusts another authority or leads elsewhere."""
    try:
        theirs, trusted = files.server_and_authority(config)
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateError(f"{name} is not complete: {error}; move it away, and it is made again") from error
    if not _same_authority(trusted, authority):
        raise CertificateError(f'a kubeconfig file "{name}" exists already but has got the wrong CA cert; move it away')
    if theirs != server:
        raise CertificateError(
            f'a kubeconfig file "{name}" exists already but has an unexpected API Server URL: expected: {server}, got: '
            f"{theirs}; move it away"
        )


def _same_authority(left: bytes, right: bytes) -> bool:
    first, second = (x509.load_pem_x509_certificates(pem) for pem in (left, right))
    return bool(set(first) & set(second))


def _config(cluster: str, server: str, authority: bytes, user: str, credentials: dict[str, str]) -> Config:
    context = f"{user}@{cluster}"
    return {
        "apiVersion": "v1",
        "clusters": [
            {"cluster": {"certificate-authority-data": _b64(authority), "server": server}, "name": cluster},
        ],
        "contexts": [{"context": {"cluster": cluster, "user": user}, "name": context}],
        "current-context": context,
        "kind": "Config",
        "users": [{"name": user, "user": credentials}],
    }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()

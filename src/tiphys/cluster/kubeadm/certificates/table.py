"""Which certificates a control plane has: files, signers, subjects, usages, names. A table of facts.

Source: https://kubernetes.io/docs/setup/best-practices/certificates/#all-certificates
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.cluster.kubeadm.certificates.issue import Wanted, ordered_names
from tiphys.cluster.kubeadm.configuration.components import service_address
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.configuration.validate import split_host_port
from tiphys.cluster.pki import CLIENT, SERVER, Usages

Names = Callable[[Configuration], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Certificate:
    """One row: ``stem`` is the file's path below the certificates' folder, without its ending."""

    name: str
    stem: str
    purpose: str
    common_name: str = ""
    """Empty: the node's name."""
    authority: str = ""
    """The stem of its signer; empty for an authority."""
    usages: Usages = ()
    names: Names = lambda _: ()

    @property
    def of_etcd(self) -> bool:
        """Whether etcd elsewhere makes it superfluous."""
        return "etcd" in self.name

    def wanted(self, configuration: Configuration) -> Wanted:
        common_name = self.common_name or configuration.name
        return Wanted(common_name, (), self.names(configuration), self.usages)


def api_names(configuration: Configuration) -> tuple[str, ...]:
    """What the API server is called: by pods, by the node's name, by the endpoint, and as the user adds."""
    cluster = configuration.cluster
    domain = cluster["networking"]["dnsDomain"]
    services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain}"]
    dns, addresses = [configuration.name, *services], [service_address(cluster, 1), configuration.address]
    endpoint = cluster.get("controlPlaneEndpoint", "")
    extra = [split_host_port(endpoint)[0]] if endpoint else []
    return _with_extra(dns, addresses, [*extra, *cluster["apiServer"].get("certSANs", [])])


def etcd_server_names(configuration: Configuration) -> tuple[str, ...]:
    return _etcd_names(configuration, "serverCertSANs")


def etcd_peer_names(configuration: Configuration) -> tuple[str, ...]:
    return _etcd_names(configuration, "peerCertSANs")


def _etcd_names(configuration: Configuration, field: str) -> tuple[str, ...]:
    dns, addresses = [configuration.name, "localhost"], [configuration.address, "127.0.0.1", "::1"]
    return _with_extra(dns, addresses, (configuration.cluster["etcd"].get("local") or {}).get(field, []))


def _with_extra(dns: list[str], addresses: list[str], extra: list[str]) -> tuple[str, ...]:
    for name in extra:
        (addresses if _is_address(name) else dns).append(name)
    return ordered_names(dns, addresses)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


CERTIFICATES: tuple[Certificate, ...] = (
    Certificate(
        "ca", "ca", "self-signed Kubernetes CA to provision identities for other Kubernetes components", "kubernetes"
    ),
    Certificate(
        "apiserver",
        "apiserver",
        "certificate for serving the Kubernetes API",
        "kube-apiserver",
        "ca",
        SERVER,
        api_names,
    ),
    Certificate(
        "apiserver-kubelet-client",
        "apiserver-kubelet-client",
        "certificate for the API server to connect to kubelet",
        "kube-apiserver-kubelet-client",
        "ca",
        CLIENT,
    ),
    Certificate(
        "front-proxy-ca", "front-proxy-ca", "self-signed CA to provision identities for front proxy", "front-proxy-ca"
    ),
    Certificate(
        "front-proxy-client",
        "front-proxy-client",
        "certificate for the front proxy client",
        "front-proxy-client",
        "front-proxy-ca",
        CLIENT,
    ),
    Certificate("etcd-ca", "etcd/ca", "self-signed CA to provision identities for etcd", "etcd-ca"),
    Certificate(
        "etcd-server", "etcd/server", "certificate for serving etcd", "", "etcd/ca", SERVER + CLIENT, etcd_server_names
    ),
    Certificate(
        "etcd-peer",
        "etcd/peer",
        "certificate for etcd nodes to communicate with each other",
        "",
        "etcd/ca",
        SERVER + CLIENT,
        etcd_peer_names,
    ),
    Certificate(
        "etcd-healthcheck-client",
        "etcd/healthcheck-client",
        "certificate for liveness probes to healthcheck etcd",
        "kube-etcd-healthcheck-client",
        "etcd/ca",
        CLIENT,
    ),
    Certificate(
        "apiserver-etcd-client",
        "apiserver-etcd-client",
        "certificate the apiserver uses to access etcd",
        "kube-apiserver-etcd-client",
        "etcd/ca",
        CLIENT,
    ),
)
SHARED = ("ca", "front-proxy-ca", "etcd/ca", "sa")
"""What all control planes have in common: the stems of files that a further one has to be given."""


def needed(configuration: Configuration) -> tuple[Certificate, ...]:
    """Those that this cluster has: with etcd elsewhere, none of etcd's."""
    external = "external" in configuration.cluster["etcd"]
    return tuple(row for row in CERTIFICATES if not (external and row.of_etcd))

"""The static pod of a local etcd member. Pure.

Upstream's image has etcd 3.6, ours Debian's 3.4: two flags have other names there, and it answers ``/health`` alone,
which says that there is a leader. So liveness asks 3.4 for its metrics: a member without a leader is not to be killed.
Source: https://etcd.io/docs/v3.6/op-guide/configuration/ and https://etcd.io/docs/v3.4/op-guide/configuration/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tiphys.api.object import Object
from tiphys.cluster.kubeadm import images
from tiphys.cluster.kubeadm.configuration import arguments
from tiphys.cluster.kubeadm.configuration.dynamic import join_host_port
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.manifests import pods
from tiphys.cluster.kubeadm.manifests.pods import Endpoint, HostPath

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
ADVERTISED = "kubeadm.kubernetes.io/etcd.advertise-client-urls"


@dataclass(frozen=True, slots=True)
class Release:
    """What differs between releases of etcd."""

    flags: tuple[tuple[str, str], ...]
    live: str
    ready: str
    started: str


UPSTREAM = Release(
    (("feature-gates", "InitialCorruptCheck=true"), ("watch-progress-notify-interval", "5s")),
    "/livez",
    "/readyz",
    "/readyz",
)
DEBIAN = Release(
    (
        ("experimental-initial-corrupt-check", "true"),
        ("experimental-watch-progress-notify-interval", "5s"),
    ),
    "/metrics",
    "/health",
    "/metrics",
)


def etcd(configuration: Configuration, initial_cluster: Sequence[tuple[str, str]] = ()) -> Object:
    """``initial_cluster`` has name and peer URL of all members, of a member that joins others: itself included."""
    cluster = configuration.cluster
    local = cluster["etcd"]["local"]
    release = DEBIAN if images.etcd_is_ours(cluster) else UPSTREAM
    endpoint = probe_endpoint(configuration)
    made = pods.container(
        "etcd",
        images.etcd_image(cluster),
        arguments.command("etcd", flags(configuration, release, initial_cluster), local.get("extraArgs", [])),
        paths := [
            HostPath("etcd-data", local["dataDir"], read_only=False),
            HostPath("etcd-certs", f"{configuration.certificates}/etcd", read_only=False),
        ],
        {"cpu": "100m", "memory": "100Mi"},
        endpoint.port,
    )
    # In upstream's manifest the data stands before the certificates, unlike all other lists of volumes.
    made["volumeMounts"] = list(reversed(pods.mounts(paths)))
    timeout = configuration.node["timeouts"]["controlPlaneComponentHealthCheck"]
    made["livenessProbe"] = pods.liveness(endpoint, release.live)
    made["readinessProbe"] = pods.readiness(endpoint, release.ready)
    made["startupProbe"] = pods.startup(endpoint, release.started, timeout)
    if extra := local.get("extraEnvs"):
        made["env"] = extra
    return pods.static_pod(made, paths, {ADVERTISED: client_url(configuration.address)})


def flags(
    configuration: Configuration, release: Release, initial_cluster: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """Etcd's flags by name, before the user's own; without ``initial_cluster`` the member is the only one."""
    pki, address = f"{configuration.certificates}/etcd", configuration.address
    localhost = _localhost(configuration)
    members = initial_cluster or [(configuration.name, peer_url(address))]
    made = {
        "advertise-client-urls": client_url(address),
        "cert-file": f"{pki}/server.crt",
        "client-cert-auth": "true",
        "data-dir": configuration.cluster["etcd"]["local"]["dataDir"],
        "initial-advertise-peer-urls": peer_url(address),
        "initial-cluster": ",".join(f"{name}={url}" for name, url in members),
        "key-file": f"{pki}/server.key",
        "listen-client-urls": f"{client_url(localhost)},{client_url(address)}",
        "listen-metrics-urls": f"http://{join_host_port(localhost, METRICS_PORT)}",
        "listen-peer-urls": peer_url(address),
        "name": configuration.name,
        "peer-cert-file": f"{pki}/peer.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": f"{pki}/peer.key",
        "peer-trusted-ca-file": f"{pki}/ca.crt",
        "snapshot-count": "10000",
        "trusted-ca-file": f"{pki}/ca.crt",
        **dict(release.flags),
    }
    return {**made, "initial-cluster-state": "existing"} if initial_cluster else made


def client_url(address: str) -> str:
    return f"https://{join_host_port(address, CLIENT_PORT)}"


def peer_url(address: str) -> str:
    return f"https://{join_host_port(address, PEER_PORT)}"


def probe_endpoint(configuration: Configuration) -> Endpoint:
    """Where etcd serves its health: the first of the metrics' URLs, whose host is asked as it stands there."""
    given = arguments.value(configuration.cluster["etcd"]["local"].get("extraArgs", []), "listen-metrics-urls")
    try:
        url = urlsplit((given or "").split(",")[0])
        host, port = url.hostname or _localhost(configuration), url.port or METRICS_PORT
    except ValueError:
        return Endpoint(_localhost(configuration), METRICS_PORT, "HTTP")
    return Endpoint(host, port, "HTTPS" if url.scheme == "https" else "HTTP")


def _localhost(configuration: Configuration) -> str:
    return "::1" if ":" in configuration.address else "127.0.0.1"

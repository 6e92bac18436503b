"""What of a cluster belongs into its backup, beside the store: for each way in which a cluster is kept on a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.cluster.backup.archive import BackupError
from tiphys.cluster.settings import Settings
from tiphys.store.etcdchannel import ClientTLS

UP, KUBEADM = "up", "kubeadm"
"""The kinds: a cluster of `tiphys up`, and a control-plane node of `tiphys init` or kubeadm."""
_OF_UP = ("cluster.json", "*.conf", "pki/**/*", "registries/**/*")
_OF_KUBEADM = (
    "etc/kubernetes/*.conf",
    "etc/kubernetes/pki/**/*",
    "etc/kubernetes/manifests/*",
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/kubeadm-flags.env",
)


@dataclass(frozen=True, slots=True)
class SavedCluster:
    """A cluster as it is kept on this machine. ``files`` are paths below ``root``."""

    kind: str
    root: Path
    cluster: str
    node: str
    address: str
    files: Sequence[str]
    endpoint: str
    tls: ClientTLS
    data: Path
    """The store's data directory."""


def of_up(settings: Settings) -> SavedCluster:
    """A cluster of `tiphys up`."""
    pki = settings.pki / "etcd"
    return SavedCluster(
        kind=UP,
        root=settings.data_dir,
        cluster=settings.cluster_name,
        node=settings.node_name,
        address=settings.node_ip,
        files=_files(settings.data_dir, _OF_UP),
        endpoint=f"https://127.0.0.1:{settings.etcd_port}",
        tls=ClientTLS(pki / "ca.crt", pki / "healthcheck-client.crt", pki / "healthcheck-client.key"),
        data=settings.store,
    )


def of_kubeadm(root: Path, node: str, address: str, endpoint: str = "https://127.0.0.1:2379") -> SavedCluster:
    """A control-plane node with kubeadm's files below ``root`` (``/``)."""
    pki = root / "etc/kubernetes/pki/etcd"
    if not (pki / "ca.crt").exists():
        raise BackupError(f"{pki}/ca.crt does not exist: this is no control-plane node with etcd on it")
    return SavedCluster(
        kind=KUBEADM,
        root=root,
        cluster="kubernetes",
        node=node,
        address=address,
        files=_files(root, _OF_KUBEADM),
        endpoint=endpoint,
        tls=ClientTLS(pki / "ca.crt", pki / "healthcheck-client.crt", pki / "healthcheck-client.key"),
        data=root / "var/lib/etcd",
    )


def _files(root: Path, patterns: Sequence[str]) -> list[str]:
    return sorted({str(path.relative_to(root)) for pattern in patterns for path in _matching(root, pattern)})


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    return (path for path in root.glob(pattern) if path.is_file() and not path.is_symlink())

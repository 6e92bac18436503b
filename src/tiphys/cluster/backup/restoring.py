"""From a backup to a cluster on this machine, which may have another address: no file of a cluster may be here yet.

What is restored is what cannot be made again: the authorities and the key that signs tokens, the store, the settings.
What names the old address (the servers' certificates, the kubeconfigs) is made again at the next start.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiphys.cluster.backup import archive
from tiphys.cluster.backup.archive import STORE, About, BackupError
from tiphys.cluster.backup.sources import KUBEADM, UP
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.store.backend import StoreError
from tiphys.store.restore import restore as restore_store


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a cluster is restored to: ``data_dir`` and ``run_dir`` for `tiphys up`, ``root`` for kubeadm's layout, of
    whose member of etcd ``address`` is."""

    data_dir: Path
    run_dir: Path
    address: str
    root: Path = Path("/")


def restore(source: Path, target: Destination) -> About:
    """Restore a backup; returns what it says of itself. Raises ``BackupError``; then nothing of it is left."""
    # On the file system of the data directory, so that everything is moved there by its name alone.
    place = target.data_dir if target.data_dir.exists() else target.data_dir.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tiphys-restore-", dir=place) as folder:
        about = archive.read(source, Path(folder))
        if about.kind == UP:
            _restore_up(Path(folder), target)
        elif about.kind == KUBEADM:
            _restore_kubeadm(Path(folder), about, target)
        else:
            raise BackupError(f"{source} holds a cluster of the kind {about.kind!r}, which this Tiphys does not know")
    return about


def _restore_up(folder: Path, target: Destination) -> None:
    data = target.data_dir
    if any((data / name).exists() for name in ("cluster.json", "etcd", "pki")):
        raise BackupError(f"{data} holds a cluster already; `tiphys reset` removes it, --data-dir names another folder")
    made = folder / "files"
    made.chmod(0o700)
    _restore_store(folder / STORE, made / "etcd")
    _settings(made).changed(data_dir=data, run_dir=target.run_dir).save_in(made)
    if not data.exists():
        made.rename(data)
        return
    # cluster.json, which makes it a cluster, comes last
    for path in sorted(made.iterdir(), key=lambda path: path.name == "cluster.json"):
        path.rename(data / path.name)


def _settings(folder: Path) -> Settings:
    try:
        settings = Settings.load(folder)
    except SettingsError as error:
        raise BackupError(str(error)) from error
    if settings is None:
        raise BackupError("the backup has no cluster.json")
    return settings


def _restore_store(source: Path, directory: Path) -> None:
    try:
        restore_store(source, directory)
    except StoreError as error:
        raise BackupError(f"the store's snapshot cannot be used: {error}") from error


def _restore_kubeadm(folder: Path, about: About, target: Destination) -> None:
    files, data = folder / "files", target.root / "var/lib/etcd"
    if there := [str(path) for path in (data / "member", target.root / "etc/kubernetes/pki") if path.exists()]:
        raise BackupError(f"{there[0]} exists already; `tiphys reset` removes it")
    _restore_member(folder / STORE, data, about.node, target.address)
    for path in sorted(files.rglob("*")):
        if path.is_file() and _kept(path.relative_to(files)):
            place = target.root / path.relative_to(files)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def _kept(path: Path) -> bool:
    """Whether a file says nothing of the old address: authorities, and the key that signs tokens."""
    return path.name in ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub")


def _restore_member(source: Path, data: Path, name: str, address: str) -> None:
    """A data directory for one member of real etcd, by etcd's own tool."""
    tool = shutil.which("etcdutl") or shutil.which("etcdctl")
    if tool is None:
        raise BackupError("etcd's data directory is made by etcd's own tool; install the package etcd-client")
    peer = f"https://{f'[{address}]' if ':' in address else address}:2380"
    words = ["snapshot", "restore", str(source), f"--data-dir={data}", f"--name={name}"]
    words += [f"--initial-cluster={name}={peer}", f"--initial-advertise-peer-urls={peer}"]
    run([tool, *words])


def run(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "3"})
    if done.returncode != 0:
        raise BackupError(f"{Path(words[0]).name} failed: {done.stderr.strip()}")

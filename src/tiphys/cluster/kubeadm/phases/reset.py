"""The phases of ``reset``: this node leaves etcd, its pods end, and what init or join wrote is removed.

Each part is tried whatever became of the one before; what could not be done is said, and a second run tries again.
Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.object import Object
from tiphys.cluster.containerd import remove_portmap_chains
from tiphys.cluster.kubeadm import etcdmembers, layout
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Say, print_now
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.preflight import checks
from tiphys.cluster.kubeadm.preflight.run import run_checks
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.cluster.networking.network import remove_service_rules
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.runtime import durations, yamltext
from tiphys.runtime.system.folders import remove_tree
from tiphys.runtime.system.mounts import unmount_below

Document = dict[str, Any]

CONFS = (
    layout.ADMIN,
    layout.SUPER_ADMIN,
    layout.KUBELET_CONF,
    layout.BOOTSTRAP_CONF,
    layout.CONTROLLER_MANAGER_CONF,
    layout.SCHEDULER_CONF,
    layout.VIRTUAL_ADDRESS_CONF,
)


@dataclass(slots=True)
class Resetting:
    """One run of reset."""

    reset: Document
    places: HostRoot = field(default_factory=HostRoot)
    dry_run: bool = False
    ignored: frozenset[str] = frozenset()
    say: Say = print_now
    warn: Say = print_now


async def check(run: Resetting) -> None:
    run.say("[preflight] Running pre-flight checks")
    await run_checks([checks.privileged()], run.ignored, run.warn)


async def remove_etcd_member(run: Resetting) -> None:
    """Take this node's member out of etcd before its data goes, and the data after it."""
    flags = etcd_flags(run.places)
    if flags is None:
        run.say("[reset] No etcd config found. Assuming external etcd")
        run.say("[reset] Please, manually reset etcd to prevent further issues")
        return
    data = flags.get("data-dir", layout.ETCD_DATA)
    if run.dry_run:
        run.say("[dryrun] Would remove the etcd member on this node from the etcd cluster")
        run.say(f"[dryrun] Would delete contents of the etcd data directory: {data}")
        return
    try:
        await _leave_etcd(run, flags)
    except KubeadmError as error:
        run.warn(
            f"[reset] Failed to remove etcd member: {error}; if the other members live, remove it there: `etcdctl"
            f" member remove` the one with {flags.get('initial-advertise-peer-urls', 'its peer URL')}"
        )
    run.places.manifest("etcd").unlink(missing_ok=True)
    run.say(f"[reset] Deleted contents of the etcd data directory: {data}")


async def _leave_etcd(run: Resetting, flags: dict[str, str]) -> None:
    peer, client_url = flags["initial-advertise-peer-urls"], flags["advertise-client-urls"]
    configuration = Configuration({}, {"certificatesDir": run.reset["certificatesDir"]})
    seconds = min(durations.seconds(run.reset["timeouts"]["etcdAPICall"]), 30.0)
    async with etcdmembers.connected(
        [client_url, *_others(flags, peer)], configuration, run.places, seconds
    ) as members:
        if await members.remove(peer):
            run.say(f"[reset] Removed the etcd member {peer}")


def _others(flags: dict[str, str], peer: str) -> Iterator[str]:
    """Where the other members serve, by the ports of their peers' URLs."""
    for entry in flags.get("initial-cluster", "").split(","):
        url = entry.partition("=")[2]
        if url and url != peer:
            yield f"https://{urlsplit(url).netloc.rpartition(':')[0]}:2379"


def etcd_flags(places: HostRoot) -> dict[str, str] | None:
    """The flags in etcd's manifest; None if there is none."""
    try:
        pod: Object = yamltext.load(places.manifest("etcd").read_bytes())
        words = pod["spec"]["containers"][0]["command"][1:]
    except (OSError, yamltext.YAMLError, KeyError, IndexError, TypeError):
        return None
    pairs = [word.removeprefix("--").partition("=") for word in words]
    return {name: value for name, _, value in pairs}


async def cleanup_node(run: Resetting) -> None:
    """Stop the kubelet, end its pods, unmount, and remove files, interfaces and rules."""
    if run.dry_run:
        run.say("[dryrun] Would stop the kubelet service")
        run.say(f'[dryrun] Would unmount mounted directories in "{layout.KUBELET}"')
        run.say("[dryrun] Would remove Kubernetes-managed containers")
        run.say(f"[dryrun] Would delete contents of directories: [{' '.join(_folders(run))}]")
        run.say(f"[dryrun] Would delete files: [{' '.join(CONFS)}]")
        return
    run.say("[reset] Stopping the kubelet service")
    try:
        await asyncio.to_thread(kubelet_service(run.places).stop)
    except KubeadmError as error:
        run.warn(f"[reset] The kubelet service could not be stopped: {error}")
    await _remove_pods(run)
    run.say(f'[reset] Unmounting mounted directories in "{layout.KUBELET}"')
    for mount in await asyncio.to_thread(lambda: list(unmount_below(run.places.on_disk(layout.KUBELET)))):
        run.warn(f"[reset] cannot unmount {mount.path}: {mount.error.strerror}")
    await asyncio.to_thread(_remove_files, run)
    await asyncio.to_thread(_remove_network, run)


async def _remove_pods(run: Resetting) -> None:
    client = CRIClient(urlsplit(run.reset["criSocket"]).path)
    try:
        for sandbox in await client.list_sandboxes():
            await client.stop_sandbox(sandbox.id)
            await client.remove_sandbox(sandbox.id)
    except RuntimeFailure as error:
        run.warn(f"[reset] Failed to remove containers: {error}")
    finally:
        await client.close()


def _folders(run: Resetting) -> list[str]:
    flags = etcd_flags(run.places) or {}
    made = [layout.MANIFESTS, layout.KUBELET, run.reset["certificatesDir"], flags.get("data-dir", layout.ETCD_DATA)]
    if run.reset.get("cleanupTmpDir"):
        made.append(layout.TEMPORARY)
    return made


def _remove_files(run: Resetting) -> None:
    folders = _folders(run)
    run.say(f"[reset] Deleting contents of directories: [{' '.join(folders)}]")
    for folder in folders:
        for problem in _empty(run.places.on_disk(folder)):
            run.warn(f"[reset] Failed to delete contents of {problem}")
    run.say(f"[reset] Deleting files: [{' '.join(CONFS)}]")
    for path in CONFS:
        run.places.on_disk(path).unlink(missing_ok=True)


def _empty(folder: Path) -> Iterator[str]:
    """Remove what is in a folder, which stays; yields what could not be removed."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        try:
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink()
        except OSError as error:
            yield f'"{entry}": {error.strerror}'


def _remove_network(run: Resetting) -> None:
    """The bridge, the CNI configuration and the rules of our proxy and pod network; those of others are left."""
    if run.places.root != Path("/"):
        return
    run.say("[reset] Removing the rules of Services, the pods' bridge and its configuration")
    for problem in remove_service_rules(Settings(proxy_mode="iptables")):
        run.warn(f"[reset] {problem}")
    remove_portmap_chains()
    if shutil.which("ip"):
        subprocess.run(["ip", "link", "delete", "cni0"], capture_output=True, check=False)
    run.places.on_disk("/etc/cni/net.d/10-tiphys.conflist").unlink(missing_ok=True)


RESET: tuple[CommandPhase[Resetting], ...] = (
    CommandPhase("preflight", "Run reset pre-flight checks", check),
    CommandPhase("remove-etcd-member", "Remove a local etcd member.", remove_etcd_member),
    CommandPhase("cleanup-node", "Run cleanup node.", cleanup_node),
)

"""Removing everything that a cluster made: pods, mounts, namespaces, rules, interfaces, cgroups, files."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tiphys.cluster import kubeconfig, lifecycle, nodes, pods
from tiphys.cluster.containerd import ContainerdError, remove_leftovers, settings_for_node, systemd_is_init
from tiphys.cluster.networking import network, nodenetwork
from tiphys.cluster.processes import Traces, another_kubelet_runs, cgroups_of, traces
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.runtime.system.folders import remove_tree
from tiphys.runtime.system.mounts import unmount_below


def remove_everything(settings: Settings) -> list[str]:
    """Remove what is left of a cluster whose supervisor has ended; returns what could not be removed.

    Each part is tried whatever became of the one before, and a second call continues where one stopped.
    """
    problems: list[str] = []
    for node in nodes.further_nodes(settings).values():
        problems += remove_node(settings, node)
    ours = traces(settings.run_dir / "containerd", settings.kubelet_dir)
    if settings.containerd_root.exists():
        problems += _remove_pods(settings)
        problems += remove_leftovers(settings_for_node(settings), network.pod_network(settings), ours)
    problems += network.remove_service_rules(settings)
    problems += nodenetwork.remove_bridge(settings)
    problems += _unmount(settings.data_dir, settings.run_dir)
    problems += _detach_loops(settings.data_dir)
    _remove_cgroups(ours)
    _remove_context(settings, problems)
    for folder in (settings.data_dir, settings.run_dir):
        problems += _remove_folder(folder)
    return problems


def remove_node(cluster: Settings, node: Settings) -> list[str]:
    """Remove what is left of a further node whose supervisor has ended; returns what could not be removed."""
    problems: list[str] = []
    ours = traces(node.run_dir / "containerd", node.kubelet_dir)
    if node.containerd_root.exists():
        if nodenetwork.exists(cluster, node.node_name):
            problems += _remove_pods_within(cluster, node)
        problems += remove_leftovers(settings_for_node(node), None, ours)
    problems += nodenetwork.remove(cluster, node.node_name)
    problems += _unmount(node.data_dir, node.run_dir)
    problems += _detach_loops(node.data_dir)
    _remove_cgroup_tree(nodenetwork.cgroup_root(node))
    for folder in (node.run_dir, node.data_dir):
        problems += _remove_folder(folder)
    return problems


def _remove_pods_within(cluster: Settings, node: Settings) -> list[str]:
    """End a further node's pods by its containerd, which has to run in the node's network for that."""

    def end_pods() -> None:
        nodenetwork.enter(cluster, node.node_name)
        pods.remove_pods(node)

    try:
        with lifecycle.beside(end_pods):
            pass
    except lifecycle.Failed:
        return [f"the pods of node {node.node_name} could not be ended in order; their processes are killed"]
    return []


def _remove_pods(node: Settings) -> list[str]:
    try:
        pods.remove_pods(node)
    except (ContainerdError, RuntimeFailure, OSError) as error:
        return [f"the pods could not be ended in order ({error}); their processes are killed"]
    return []


def _unmount(*folders: Path) -> list[str]:
    """Unmount what is mounted under the folders: secrets, memory volumes and subPaths of pods."""
    left = (mount for folder in folders for mount in unmount_below(folder))
    return [f"cannot unmount {mount.path}: {mount.error.strerror}" for mount in left]


def _detach_loops(folder: Path) -> list[str]:
    """Free the loop devices of block volumes below the folder; those of file systems go with their mounts."""
    problems = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if entry.read_text().startswith(f"{folder}/"):
                device = f"/dev/{entry.parts[3]}"
                done = subprocess.run(["losetup", "--detach", device], capture_output=True, text=True, check=False)
                problems += [f"cannot free {device}: {done.stderr.strip()}"] if done.returncode else []
    return problems


def _remove_context(settings: Settings, problems: list[str]) -> None:
    try:
        kubeconfig.remove_from(kubeconfig.user_file(), settings.cluster_name)
    except (ValueError, OSError) as error:
        problems.append(f"the context could not be taken out of {kubeconfig.user_file()}: {error}")


def _remove_folder(folder: Path) -> list[str]:
    try:
        remove_tree(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"cannot remove {folder}: {error}"]
    return []


def _remove_cgroups(ours: Traces, mount: Path = Path("/sys/fs/cgroup")) -> None:
    """Remove our pods' cgroups, and those of all pods, as far as nothing is in them, if no other kubelet needs them.

    Another cluster makes and removes cgroups beside ours meanwhile: each may be gone when it is looked at.
    """
    folders = sorted(cgroups_of(ours.owners), key=lambda path: -len(path.parts))
    tops = [] if another_kubelet_runs() else list(_tops(mount))
    _stop_slices([*folders, *map(Path, tops)])
    for folder in folders:
        _remove_cgroup(folder)
    for top in tops:
        for name, _, _ in os.walk(top, topdown=False):
            _remove_cgroup(name)


def _stop_slices(folders: list[Path]) -> None:
    """Those that are units of systemd's are removed by it, which would otherwise go on to know of them."""
    slices = sorted({folder.name for folder in folders if folder.suffix == ".slice"})
    if slices and systemd_is_init():
        subprocess.run(["systemctl", "stop", *slices], capture_output=True, check=False)


def _remove_cgroup_tree(name: str, mount: Path = Path("/sys/fs/cgroup")) -> None:
    """Remove the cgroups of a further node, which nobody else has any below."""
    for top in list(_tops(mount, name.__eq__)):
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_cgroup(folder)


def _is_of_all_pods(name: str) -> bool:
    return name.startswith("kubepods")


def _tops(mount: Path, wanted: Callable[[str], bool] = _is_of_all_pods) -> Iterator[str]:
    """The cgroups of all pods: one in a unified hierarchy, one for each controller in the old ones."""
    for folder, inner, _ in os.walk(mount):
        yield from (os.path.join(folder, name) for name in inner if wanted(name))
        if folder != str(mount):
            inner.clear()


def _remove_cgroup(folder: Path | str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)

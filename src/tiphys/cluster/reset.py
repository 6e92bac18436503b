"""Removing everything that a cluster made: pods, mounts, namespaces, rules, interfaces, cgroups, files."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tiphys.cluster import kubeconfig, network, pods
from tiphys.cluster.containerd import ContainerdError, remove_leftovers, settings_for_machine
from tiphys.cluster.processes import traces
from tiphys.cluster.settings import Settings
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.volumes.mounts import unmount_below
from tiphys.runtime.folders import remove_tree


def remove_everything(settings: Settings) -> list[str]:
    """Remove what is left of a cluster whose supervisor has ended; returns what could not be removed.

    Each part is tried whatever became of the one before, and a second call goes on where one stopped.
    """
    problems: list[str] = []
    if settings.containerd_root.exists():
        config = settings_for_machine(settings.data_dir, settings.run_dir)
        ours = traces(config.state, settings.kubelet_dir)
        try:
            pods.remove_pods(settings)
        except (ContainerdError, RuntimeFailure, OSError) as error:
            problems.append(f"the pods could not be ended in order ({error}); their processes are killed")
        problems += remove_leftovers(config, network.pod_network(settings), ours)
    problems += network.remove_service_rules()
    problems += _unmount(settings.data_dir, settings.run_dir)
    _remove_cgroups()
    _remove_context(settings, problems)
    for folder in (settings.data_dir, settings.run_dir):
        problems += _remove_folder(folder)
    return problems


def _unmount(*folders: Path) -> list[str]:
    """Unmount what is mounted under the folders: secrets, memory volumes and subPaths of pods."""
    left = (mount for folder in folders for mount in unmount_below(folder))
    return [f"cannot unmount {mount.path}: {mount.error.strerror}" for mount in left]


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


def _remove_cgroups() -> None:
    """Remove the pods' cgroups, as far as nothing is in them: another kubelet on the machine keeps its own."""
    for top in [*Path("/sys/fs/cgroup").glob("kubepods*"), *Path("/sys/fs/cgroup").glob("*/kubepods*")]:
        for folder in sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()

"""What the kubelet's own process is given before it runs, and machines on which it does not.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ (failSwapOn, failCgroupV1, maxOpenFiles,
oomScoreAdj)
"""

from __future__ import annotations

import logging
import resource
from pathlib import Path

from tiphys.kubelet.cgroups.files import CgroupFiles
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime.component import CannotStart
from tiphys.runtime.system.oomscore import adjust_oom_score

log = logging.getLogger(__name__)

_SWAPS = Path("/proc/swaps")


def prepare(config: KubeletConfig, swaps: Path = _SWAPS, cgroups: CgroupFiles | None = None) -> None:
    """Raises ``CannotStart``."""
    if config.fail_cgroup_v1 and not (cgroups or CgroupFiles()).unified:
        raise CannotStart(
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be"
            " removed in a future release"
        )
    if config.fail_swap_on and swaps_on(swaps):
        raise CannotStart(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        )
    if config.max_open_files:
        _allow_files(config.max_open_files)
    if config.oom_score_adjust is not None:
        adjust_oom_score(config.oom_score_adjust)


def swaps_on(table: Path = _SWAPS) -> bool:
    """Whether the kernel's table names a file or device behind its heading."""
    try:
        return len(table.read_text().splitlines()) > 1
    except FileNotFoundError:  # a kernel without swap
        return False


def _allow_files(count: int) -> None:
    """Where so many may not be had, as many as may: upstream does not start then, but here few files are open."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    except (OSError, ValueError) as error:
        most = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        log.info("%d files may be open, and not %d: %s", most, count, error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

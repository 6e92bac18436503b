"""How gladly the kernel ends a process when memory runs out. A leaf.

Source: https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def adjust_oom_score(score: int, file: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Say how gladly the kernel kills this process when memory runs out; to be spared more takes a right."""
    try:
        file.write_text(str(score))
    except OSError as error:
        log.warning("cannot set the OOM score adjustment to %d: %s", score, error.strerror)

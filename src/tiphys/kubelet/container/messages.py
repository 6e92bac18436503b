"""The last words of a container: its termination message, or the end of its log.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

import os
from pathlib import Path

from tiphys.kubelet import labels
from tiphys.kubelet.container.logs import read_last_lines
from tiphys.kubelet.runtime.service import ContainerState, ContainerStatus
from tiphys.runtime.system.folders import open_regular

MAX_MESSAGE = 4096
MAX_LOG_MESSAGE = 2048
MAX_LOG_LINES = 80


def termination_message(status: ContainerStatus) -> str:
    """The text of the message file, or of the log's end; empty for a container that has not ended."""
    if status.state is not ContainerState.EXITED:
        return ""
    path = status.annotations.get(labels.TERMINATION_MESSAGE_PATH, "")
    policy = status.annotations.get(labels.TERMINATION_MESSAGE_POLICY, "")
    fall_back = policy == "FallbackToLogsOnError" and status.exit_code != 0 and status.reason != "ContainerCannotRun"
    text = ""
    for mount in status.mounts:
        if path and mount.container_path == path:
            try:
                text = _tail(mount.host_path, MAX_MESSAGE)
            except FileNotFoundError:
                text = ""
            except OSError as error:
                return f"Error on reading termination log {mount.host_path}: {error.strerror}"
            break
    if not text and fall_back and status.log_path:
        try:
            return read_last_lines(Path(status.log_path), MAX_LOG_LINES, MAX_LOG_MESSAGE)
        except OSError as error:
            return f"Error on reading termination message from logs: {error.strerror}"
    return text


def _tail(path: str, limit: int) -> str:
    """The end of a file that a container writes, and that it may have made a link or a pipe of. Raises ``OSError``."""
    with os.fdopen(open_regular(path), "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - limit))
        return stream.read(limit).decode("utf-8", "replace")

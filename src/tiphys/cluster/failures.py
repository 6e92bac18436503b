"""Why a cluster did not start: which components are to blame, and their last words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LAST_LINES = 10
_READ_BYTES = 16 * 1024


def guilty(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The components that kept the cluster from being ready, by what the supervisor says of them.

    Those that ended or do not become ready; what waits for those is not to blame. If all run, the kubelet is asked, as
    it says when the node is ready.
    """
    unready = [name for name, state in states.items() if state["state"] in ("starting", "backoff", "stopped")]
    ended = [name for name in unready if states[name]["lastExit"]]
    return ended or unready or ["kubelet"]


def last_words(logs: Path, names: Iterable[str], lines: int = LAST_LINES) -> list[str]:
    """The end of each component's log, under its path."""
    said: list[str] = []
    for name in names:
        path = logs / f"{name}.log"
        said += [f"The end of {path}:", *(f"  {line}" for line in _tail(path, lines))]
    return said


def _tail(path: Path, lines: int) -> Sequence[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return [f"({error.strerror})"]
    return text.splitlines()[-lines:] or ["(it is empty)"]

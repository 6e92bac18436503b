"""The shell of a component of which one works at a time: losing the Lease ends the program, and no traceback is shown.

Whoever supervises the process starts it again, and it waits for its turn as any other.
Source: https://kubernetes.io/docs/concepts/architecture/leases/#leader-election
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tiphys.controlkit.leaderelection import LostLease
from tiphys.runtime.component import launch
from tiphys.runtime.flags import FlagParser

log = logging.getLogger(__name__)


def launch_elected(
    parser: FlagParser, argv: Sequence[str], main: Callable[[argparse.Namespace], Coroutine[Any, Any, None]]
) -> int:
    """``launch`` for a component that may raise ``LostLease``; the exit status is then 1."""
    try:
        return launch(parser, argv, main)
    except LostLease as error:
        log.error("leaderelection lost: %s", error)
        return 1

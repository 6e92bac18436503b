"""Something else that acts between any two steps of a piece of work, as a racing container may."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable


def swap_before_step(number: int, work: Callable[[], object], swap: Callable[[], None]) -> bool:
    """Do ``work`` with ``swap`` right before its ``number``-th call of a C function; whether it got as far.

    An error of the work is an answer, not a fault: what counts is what it left behind.
    """
    steps = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal steps
        if event == "c_call":
            steps += 1
            if steps == number:
                sys.setprofile(None)
                swap()
                sys.setprofile(count)

    sys.setprofile(count)
    with contextlib.suppress(Exception):
        work()
    sys.setprofile(None)
    return steps >= number

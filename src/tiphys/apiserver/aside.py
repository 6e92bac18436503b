"""Work that takes long, beside the event loop.

What a request makes the server compute is bounded by its size and by the cost limits of expressions, but 3 MB or an
expression up to its limit take seconds, during which the loop would serve nobody. Such work runs in one of a few
threads: the interpreter gives the loop its turn five times in a millisecond. What is small, which is nearly everything,
runs where it is and pays nothing.

The work must be a pure function of what it is given: nothing else may use the objects until it is done, and it may
touch nothing that lives on the loop.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from tiphys.cel.patience import Lengthy, Patience, limited

T = TypeVar("T")

BIG = 16 * 1024
"""Bytes of JSON from which on work on an object goes aside: it takes at most some 0.1 s of the loop below."""
LARGE = 256 * 1024
"""Bytes of a request from which on its objects are so many that the garbage collector rests until they are gone."""
_THREADS = 2
"""More would not be faster, as they share one interpreter with the loop."""
_UNTRIED = 20
"""How many go aside at once before one is tried on the loop again, for up to 10 ms."""
_SWITCH_INTERVAL = 0.0002
"""Seconds after which a thread gives way; Python's own 5 ms would be added to each turn of the loop."""


async def aside(work: Callable[[], T]) -> T:
    """Do ``work`` in a thread. If the caller is cancelled, work that has begun ends unheard."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), _uncollected, work)


def _uncollected(work: Callable[[], T]) -> T:
    with uncollected():
        return work()


_resting = 0
_rest_lock = threading.Lock()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would hold the interpreter for as long as it looks at a million new objects.

    API objects have no cycles: they are freed when they are no longer used. A large request rests it until then, not
    only while a thread works, as the loop would collect in between.
    """
    global _resting
    with _rest_lock:
        _resting += 1
        gc.disable()
    try:
        yield
    finally:
        with _rest_lock:
            _resting -= 1
            if not _resting:
                gc.enable()


class Experience:
    """What work of one kind took before: after two in a row that were lengthy, the next ones are not tried here."""

    __slots__ = ("_lengthy", "_untried")

    def __init__(self) -> None:
        self._lengthy = self._untried = 0

    def expects_lengthy(self) -> bool:
        """Whether to go aside at once; some are tried here even so, as what is asked may have changed."""
        if self._untried:
            self._untried -= 1
            return True
        return False

    def note(self, *, lengthy: bool) -> None:
        self._lengthy = self._lengthy + 1 if lengthy else 0
        self._untried = _UNTRIED if self._lengthy > 1 else 0


async def patiently(patience: Patience, work: Callable[[], T], experience: Experience | None = None) -> T:
    """Do ``work``, which evaluates expressions and can be done twice, here if it is short, and else in a thread."""
    if patience.left > 0 and (experience is None or not experience.expects_lengthy()):
        try:
            with limited(patience):
                result = work()
        except Lengthy:
            if experience is not None:
                experience.note(lengthy=True)
        else:
            if experience is not None:
                experience.note(lengthy=False)
            return result
    return await aside(work)


@cache
def _threads() -> ThreadPoolExecutor:
    """Made when it is first needed: after the process has forked, and in few processes at all."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="aside")

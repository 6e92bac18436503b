"""A few equal processes, forked from one parent that has imported everything and then only waits.

The parent runs no event loop and no thread, as only a process of one thread forks safely. A child that ends is made
again, with back-off; a child dies with its parent.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.2, 30.0
STEADY_SECONDS = 60.0
STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))
_AWAITED = _ENDING | {signal.SIGCHLD}
_CANNOT_START = (1, 2)
"""Exit statuses of a component that cannot start with what it was given, and has said why."""
_FAULT = 70


@dataclass(slots=True)
class _Child:
    number: int
    pid: int = 0
    """0 while it does not run."""
    started: float = 0.0
    lives: int = 0
    delay: float = FIRST_DELAY
    due: float = 0.0


def keep_running(count: int, run: Callable[[int], int]) -> int:
    """Fork ``count`` children that run ``run(number)``, until SIGTERM or SIGINT; the exit status.

    If child 0 cannot start, in its first life, all end with its status.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    children = [_Child(number) for number in range(count)]
    try:
        while True:
            for child in children:
                if not child.pid and child.due <= time.monotonic():
                    _start(child, run)
            received = signal.sigtimedwait(_AWAITED, _until_next(children))
            if received is not None and received.si_signo in _ENDING:
                return 0
            for child, status in _reap(children):
                if child.number == 0 and child.lives == 1 and os.waitstatus_to_exitcode(status) in _CANNOT_START:
                    return os.waitstatus_to_exitcode(status)
                _schedule(child, status)
    finally:
        _stop(children)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)


def _until_next(children: Sequence[_Child]) -> float:
    dues = [child.due for child in children if not child.pid]
    return max(0.0, min(dues) - time.monotonic()) if dues else 3600.0


def _start(child: _Child, run: Callable[[int], int]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(child.number, run, parent)
    child.pid, child.started = pid, time.monotonic()
    child.lives += 1


def _become(number: int, run: Callable[[int], int], parent: int) -> NoReturn:
    """In the child: never return into the parent's code."""
    status = _FAULT
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        die_with_parent(parent)
        status = run(number)
    except SystemExit as error:
        status = exit_status(error)
    except BaseException:  # noqa: BLE001 - the end of a process: whatever ended it is shown
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap(children: Sequence[_Child]) -> list[tuple[_Child, int]]:
    """The children that have ended, with their wait statuses."""
    ended = []
    for child in children:
        if child.pid:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                child.pid = 0
                ended.append((child, status))
    return ended


def _schedule(child: _Child, status: int) -> None:
    now = time.monotonic()
    if now - child.started > STEADY_SECONDS:
        child.delay = FIRST_DELAY
    child.due = now + child.delay
    log.warning("worker %d ended (%s); again in %.1f s", child.number, describe_exit(status), child.delay)
    child.delay = min(child.delay * 2, LAST_DELAY)


def _stop(children: Sequence[_Child]) -> None:
    """End the children, the first one last, as others may need it; who does not end in time is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in reversed(children):
            if not child.pid:
                continue
            os.kill(child.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while child.pid and time.monotonic() < deadline:
                signal.sigtimedwait({signal.SIGCHLD}, 0.2)
                _reap([child])


def die_with_parent(parent: int, by: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel end this process when its parent is gone, also if that has happened already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("the supervisor is gone")


def exit_status(error: SystemExit) -> int:
    """The status of a process that ends with it; what it says goes to stderr."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1


def describe_exit(status: int) -> str:
    """A wait status in words: ``exit code 1``, ``killed by SIGKILL``."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"

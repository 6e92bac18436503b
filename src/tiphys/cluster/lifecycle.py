"""Starting and ending a cluster's supervisor: the lock that says it lives, becoming a daemon, ending in order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from tiphys.cluster.settings import Settings

log = logging.getLogger(__name__)


ON_TOP = "csi-local", "metrics-server"
"""Programs that start once there is a node, and are no part of it."""


class AlreadyRunning(Exception):
    """Another supervisor holds the lock."""


class StillRunning(Exception):
    """The supervisor did not end in time."""


def supervisor_pid(settings: Settings) -> int:
    """The process id of the supervisor that holds the lock; 0 if none does."""
    try:
        with settings.lock_file.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
    except FileNotFoundError:
        pass
    return 0


def hold_lock(settings: Settings) -> int:
    """Take the lock and write our process id into it; returns its descriptor, which holds it for as long as it is open.

    Raises ``AlreadyRunning``.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(settings.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


class Failed(Exception):
    """Work in its own process failed; it has said why on standard error."""


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do ``work`` in its own process beside the block, and await it at its end. Raises ``Failed``."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - the end of a process: whatever ended it is reported
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    try:
        yield
    finally:
        _, status = os.waitpid(pid, 0)
    if status:
        raise Failed


def start_daemon(settings: Settings, run: Callable[[], None]) -> int:
    """Run ``run`` as a daemon that holds the lock; returns its process id once it does. Raises ``AlreadyRunning``."""
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(reading)
        _become_daemon(settings, run, writing)
    os.close(writing)
    os.waitpid(first, 0)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    if not said:
        raise AlreadyRunning
    return int(said)


def _become_daemon(settings: Settings, run: Callable[[], None], writing: int) -> NoReturn:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    status = 1
    try:
        os.chdir("/")
        _close_inherited(writing)
        _redirect(settings.logs / "supervisor.log")
        hold_lock(settings)
        os.write(writing, str(os.getpid()).encode())
        os.close(writing)
        run()
        status = 0
    except AlreadyRunning:
        pass
    except BaseException:
        log.exception("the supervisor failed")
    finally:
        os._exit(status)


def _close_inherited(kept: int) -> None:
    """Close what whoever started the command had open: a lock or a pipe of theirs would be held by the daemon."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _redirect(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)


def stop(settings: Settings, timeout: float = 120) -> bool:
    """End the supervisor and its processes in order; returns whether one was running. Raises ``StillRunning``."""
    pid = supervisor_pid(settings)
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):  # if it died meanwhile, its children end by themselves
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while supervisor_pid(settings):
        if time.monotonic() > deadline:
            raise StillRunning(f"the supervisor (process {pid}) did not end within {timeout:.0f} s")
        time.sleep(0.05)
    settings.state_file.unlink(missing_ok=True)
    return True


def stop_all(wanted: Iterable[Settings]) -> None:
    """End several nodes side by side; raises ``StillRunning`` with all that did not end in time."""
    nodes = list(wanted)
    if not nodes:
        return

    def end(node: Settings) -> str:
        try:
            stop(node)
        except StillRunning as error:
            return f"{node.node_name}: {error}"
        return ""

    with ThreadPoolExecutor(len(nodes)) as pool:
        if left := [problem for problem in pool.map(end, nodes) if problem]:
            raise StillRunning("; ".join(left))


def component_states(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the supervisor last wrote of its processes, by name."""
    try:
        state: dict[str, Any] = json.loads(settings.state_file.read_text())
    except FileNotFoundError:
        return {}
    components: dict[str, dict[str, Any]] = state["components"]
    return components


def node_runs(states: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all runs that makes a node, by what ``component_states`` gives.

    What runs on top of one may still be starting for the first time.
    """
    return bool(states) and all(
        state["state"] == "running"
        or (name in ON_TOP and state["state"] in ("waiting", "starting") and not state["restarts"])
        for name, state in states.items()
    )

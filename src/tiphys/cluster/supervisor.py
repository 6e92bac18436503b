"""The supervisor: starts a node's processes in order, and starts again, with back-off, what dies.

One parent process imports everything once and forks each component, so that they share the memory of the code. The
parent runs no event loop and no thread, as only a process of one thread forks safely. It waits for signals and timers
in one place, and writes what it knows to a state file that ``tiphys status`` reads.

A component is ready when a byte is in its ready pipe; those that need it start then. It writes the byte itself, or, if
it is another executable, a prober does, which ends with that. A child dies with its parent (PR_SET_PDEATHSIG), so a
killed supervisor leaves no half of a cluster running; containers are not its children.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import select
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from tiphys.cluster.settings import write_private
from tiphys.runtime.system.forks import describe_exit, die_with_parent, exit_status

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
FIRST_DELAY, LAST_DELAY, LAST_DELAY_OF_THE_KILLED = 0.2, 30.0, 3.0
STEADY_SECONDS = 10.0
PROBE_MILLISECONDS = 20
LOG_LIMIT = 20 * 1024 * 1024

Ready = Callable[[], None]
"""What a component calls once, when it serves."""


class ProcessState(StrEnum):
    """The life of one process."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPED = "stopped"


TRANSITIONS: dict[tuple[ProcessState, str], ProcessState] = {
    (ProcessState.WAITING, "start"): ProcessState.STARTING,
    (ProcessState.STARTING, "ready"): ProcessState.RUNNING,
    (ProcessState.STARTING, "exit"): ProcessState.BACKOFF,
    (ProcessState.RUNNING, "exit"): ProcessState.BACKOFF,
    (ProcessState.BACKOFF, "start"): ProcessState.STARTING,
    (ProcessState.WAITING, "stop"): ProcessState.STOPPED,
    (ProcessState.BACKOFF, "stop"): ProcessState.STOPPED,
    (ProcessState.STARTING, "stopped"): ProcessState.STOPPED,
    (ProcessState.RUNNING, "stopped"): ProcessState.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running.

    ``run`` is its main function in a forked child; it is given the function to call when ready. ``needs`` names the
    programs that must have become ready before it first starts.
    """

    name: str
    run: Callable[[Ready], None]
    needs: tuple[str, ...] = ()
    probe: Callable[[], bool] | None = None
    """For a ``run`` that becomes another executable: whether that serves. Asked in its own process, until it does."""
    fragile_start: bool = False
    """Asked to end while it starts, it would undo what it finds running: it is killed instead, also with its parent."""
    before_start: Callable[[], None] | None = None
    """Run in the supervisor's process before the program starts for the first time: imports that it then shares."""
    before_stop: Callable[[], None] | None = None
    """Run to its end, in its own process, before the program gets SIGTERM; skipped if it is killed."""


@dataclass(slots=True)
class _Process:
    program: Program
    state: ProcessState = ProcessState.WAITING
    pid: int = 0
    restarts: int = 0
    was_ready: bool = False
    ready_at: float = float("inf")
    delay: float = 0.0
    due: float = 0.0
    last_exit: str = ""
    ready_fd: int = -1

    def move(self, event: str) -> None:
        self.state = TRANSITIONS[self.state, event]


def next_delay(last: float, served: float, *, killed: bool) -> float:
    """Seconds to wait before the next start. ``last`` were waited before this one, which was ready for ``served``.

    What ends by itself again and again, without having served for long, waits longer and longer. What was killed (by
    the kernel, for want of memory, or by somebody) is not at fault, is missed by others, and comes back soon.
    """
    if served > STEADY_SECONDS:
        return FIRST_DELAY
    return min(max(FIRST_DELAY, last * 2), LAST_DELAY_OF_THE_KILLED if killed else LAST_DELAY)


@dataclass(slots=True)
class Supervisor:
    """Runs ``programs``; ``run`` returns after SIGTERM or SIGINT, when all have ended."""

    programs: Sequence[Program]
    log_dir: Path
    state_file: Path
    meanwhile: Sequence[Callable[[], None]] = ()
    """Run one after another, in this process, once what needs nothing has been started: imports that the others then
    share. Between two of them, what has become due is started."""
    _processes: dict[str, _Process] = field(init=False, default_factory=dict)
    _selector: selectors.BaseSelector = field(init=False, default_factory=selectors.DefaultSelector)
    _stopping: bool = field(init=False, default=False)
    _written: str = field(init=False, default="")
    _next_rotation: float = field(init=False, default=0.0)

    def run(self) -> None:
        """Start the programs in order, restart what dies, and return after a signal has stopped them all."""
        self._processes = {p.name: _Process(p) for p in self.programs}
        self.log_dir.mkdir(parents=True, exist_ok=True)
        wakeup = self._listen_for_signals()
        meanwhile = iter(self.meanwhile)
        try:
            while not self._stopping:
                self._start_what_is_due()
                self._write_state()
                self._rotate_logs()
                if step := next(meanwhile, None):
                    step()
                self._wait(wakeup, 0 if step else self._until_next())
                self._reap()
            self._stop_all(wakeup)
        finally:
            self._write_state()
            self._selector.close()

    # Waiting: signals arrive as bytes in a pipe, readiness as a byte in a child's pipe.

    def _listen_for_signals(self) -> int:
        reading, writing = os.pipe()
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ)
        return reading

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _wait(self, wakeup: int, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.fd == wakeup:
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeup, 4096)
            else:
                self._hear(key.data)

    def _hear(self, process: _Process) -> None:
        said = os.read(process.ready_fd, 16)
        self._close_ready(process)
        if process.state is not ProcessState.STARTING:
            return
        if said:
            process.move("ready")
            process.was_ready, process.ready_at = True, time.monotonic()
        else:  # It has ended, or nobody is left who could say that it is ready.
            os.kill(process.pid, signal.SIGKILL)

    def _close_ready(self, process: _Process) -> None:
        if process.ready_fd >= 0:
            self._selector.unregister(process.ready_fd)
            os.close(process.ready_fd)
            process.ready_fd = -1

    def _until_next(self) -> float:
        due = [p.due for p in self._processes.values() if p.state is ProcessState.BACKOFF]
        return max(0.0, min([60.0, *(d - time.monotonic() for d in due)]))

    # Starting and ending.

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for process in self._processes.values():
            waiting = process.state is ProcessState.WAITING and self._needs_met(process)
            if waiting or (process.state is ProcessState.BACKOFF and process.due <= now):
                self._start(process)

    def _needs_met(self, process: _Process) -> bool:
        return all(self._processes[name].was_ready for name in process.program.needs)

    def _start(self, process: _Process) -> None:
        if process.state is ProcessState.WAITING and process.program.before_start is not None:
            process.program.before_start()
        program = process.program
        reading, writing = os.pipe()
        pid = self._fork(program, lambda: program.run(lambda: _say_ready(writing)))
        if program.probe is not None:
            self._fork_prober(program, pid, writing)
        os.close(writing)
        process.pid, process.ready_at, process.ready_fd = pid, float("inf"), reading
        process.move("start")
        self._selector.register(reading, selectors.EVENT_READ, process)
        log.info("%s started, pid %d", program.name, pid)

    def _fork_prober(self, program: Program, pid: int, writing: int) -> None:
        """A process that says ready for process ``pid``, and ends with it. It is not waited for by name."""
        alive = os.pidfd_open(pid)
        try:
            self._fork(program, lambda: _say_ready_when(program, alive, writing))
        finally:
            os.close(alive)

    def _fork(self, program: Program, work: Callable[[], None]) -> int:
        """The id of a child that does ``work`` and never returns into the supervisor's code."""
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            self._detach(program, parent)
            work()
            status = 0
        except SystemExit as error:
            status = exit_status(error)
        except BaseException:  # noqa: BLE001 - the end of a process: whatever ended it goes to its log
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _detach(self, program: Program, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(parent, signal.SIGKILL if program.fragile_start else signal.SIGTERM)
        self._selector.close()
        output = os.open(self.log_dir / f"{program.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.close(output)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        _set_title(f"tiphys: {program.name}")

    def _reap(self) -> None:
        by_pid = {p.pid: p for p in self._processes.values() if p.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if process := by_pid.get(pid):
                self._ended(process, status)

    def _ended(self, process: _Process, status: int) -> None:
        now = time.monotonic()
        self._close_ready(process)
        process.pid = 0
        process.last_exit = describe_exit(status)
        process.move("stopped" if self._stopping else "exit")
        if self._stopping:
            return
        process.delay = next_delay(process.delay, now - process.ready_at, killed=_was_killed(status))
        process.restarts += 1
        process.due = now + process.delay
        log.warning("%s ended (%s); again in %.1f s", process.program.name, process.last_exit, process.delay)

    def _stop_all(self, wakeup: int) -> None:
        """End the processes, those that need others first; one that does not end in time is killed."""
        for process in self._processes.values():
            if process.pid == 0:
                process.move("stop") if process.state is not ProcessState.STOPPED else None
        for process in self._stop_order():
            if process.pid:
                self._stop(process, wakeup)
                self._write_state()

    def _stop(self, process: _Process, wakeup: int) -> None:
        if process.program.before_stop is not None:
            self._run_before_stop(process.program)
        fragile = process.program.fragile_start and process.state is ProcessState.STARTING
        os.kill(process.pid, signal.SIGKILL if fragile else signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while process.pid and time.monotonic() < deadline:
            self._wait(wakeup, 0.2)
            self._reap()
        if process.pid:
            log.warning("%s did not end within %d s; killing it", process.program.name, STOP_SECONDS)
            os.kill(process.pid, signal.SIGKILL)
        while process.pid:
            self._wait(wakeup, 0.2)
            self._reap()

    def _run_before_stop(self, program: Program) -> None:
        assert program.before_stop is not None
        last_words = Program(f"{program.name}-stop", lambda _: None)
        _, status = os.waitpid(self._fork(last_words, program.before_stop), 0)
        if status:
            log.warning("%s: %s", last_words.name, describe_exit(status))

    def _stop_order(self) -> list[_Process]:
        """Those that were listed last, which need the others, first."""
        return list(reversed(self._processes.values()))

    # What others can see.

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "components": {
                name: {
                    "state": p.state.value,
                    "pid": p.pid,
                    "restarts": p.restarts,
                    "lastExit": p.last_exit,
                    "retryIn": round(max(0.0, p.due - time.monotonic()), 1) if p.state is ProcessState.BACKOFF else 0,
                }
                for name, p in self._processes.items()
            },
        }
        text = json.dumps(state)
        if text != self._written:
            write_private(self.state_file, text.encode())
            self._written = text

    def _rotate_logs(self) -> None:
        """Keep each log under its limit; the writers append, so the file is copied and cut."""
        now = time.monotonic()
        if now < self._next_rotation:
            return
        self._next_rotation = now + 60
        for path in self.log_dir.glob("*.log"):
            if path.stat().st_size > LOG_LIMIT:
                path.with_suffix(".log.1").write_bytes(path.read_bytes())
                os.truncate(path, 0)


def _was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def share_memory() -> None:
    """Children share the pages of what is there now for as long as nobody, a collector included, writes to them.

    Nothing is collected first: imports leave little behind, and the collector would cost every start its time.
    """
    gc.freeze()


def execute(argv: Sequence[str]) -> NoReturn:
    """Become another executable, which keeps this process's id, output and parent. Raises ``OSError``."""
    os.execvp(argv[0], list(argv))


def _say_ready_when(program: Program, alive: int, ready_fd: int) -> None:
    """Ask until the process of the descriptor ``alive`` serves, or has ended."""
    assert program.probe is not None
    ended = select.poll()
    ended.register(alive, select.POLLIN)
    while not program.probe():
        if ended.poll(PROBE_MILLISECONDS):
            return
    _say_ready(ready_fd)


def _say_ready(descriptor: int) -> None:
    try:
        os.write(descriptor, b"1")
        os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EBADF):
            raise


def _set_title(title: str) -> None:
    from setproctitle import setproctitle

    setproctitle(title)

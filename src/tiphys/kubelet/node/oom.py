"""Watches the kernel's log for processes that it killed as the whole machine ran out of memory: events SystemOOM.

What is killed at a cgroup's own limit is the container's affair, and in its status. Source:
https://kubernetes.io/docs/tasks/debug/debug-cluster/monitor-node-health/ and the kernel's
Documentation/ABI/testing/dev-kmsg
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiphys.kubelet.recorder import EventType

log = logging.getLogger(__name__)

KERNEL_LOG = Path("/dev/kmsg")
_LONGEST = 8192
"""Bytes of a message: the kernel gives no longer ones."""
_AT_ONCE = 200
_EVERYBODY = "/"

_BEGIN = re.compile(r"invoked oom-killer:")
_VICTIM = re.compile(
    r"oom-kill:constraint=(.*),nodemask=(.*),cpuset=(.*),mems_allowed=(.*),oom_memcg=(.*),task_memcg=(.*),task=(.*),"
    r"pid=(\d+),uid=(.*)"
)
_OLD_VICTIM = re.compile(r"Task in (.*) killed as a result of limit of (.*)")
_END = re.compile(r"Killed process ([0-9]+) \((.+)\)")


@dataclass(slots=True)
class Kill:
    """A process that the kernel has killed. ``limit`` is the cgroup whose limit was reached; ``/``: the machine."""

    limit: str = _EVERYBODY
    process: str = ""
    pid: int = 0

    @property
    def message(self) -> str:
        victim = f", victim process: {self.process}, pid: {self.pid}" if self.process and self.pid else ""
        return f"System OOM encountered{victim}"


class OomParser:
    """Follows the kernel's account of a kill, which is spread over many messages."""

    def __init__(self) -> None:
        self._kill: Kill | None = None

    def feed(self, message: str) -> Kill | None:
        """The next message, without its head; returns the kill if this is the end of its account."""
        if self._kill is None:
            if _BEGIN.search(message):
                self._kill = Kill()
            return None
        kill = self._kill
        if line := _VICTIM.search(message):
            kill.limit, kill.process, kill.pid = line[5], line[7], int(line[8])
        elif line := _END.search(message):
            kill.process, kill.pid = line[2], int(line[1])
        else:
            if line := _OLD_VICTIM.search(message):
                kill.limit = posixpath.join(_EVERYBODY, line[2])
            return None
        self._kill = None
        return kill


def text_of(record: bytes) -> str | None:
    """What a record ``priority,sequence,microseconds,flags;text`` says; None if it is none."""
    head, semicolon, text = record.decode(errors="replace").partition(";")
    numbers = head.split(",")[:3]
    if not semicolon or len(numbers) < 3 or not all(number.isdecimal() for number in numbers):
        return None
    return text


class OomWatcher:
    """``event`` is called with what happens to the node. As upstream's, it begins with what the log has already."""

    def __init__(self, event: Callable[[EventType, str, str], None], path: Path = KERNEL_LOG) -> None:
        self._event = event
        self._path = path
        self._parser = OomParser()

    async def run(self) -> None:
        """Without a kernel log nobody hears of such kills; the log says so."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            log.warning("the machine's running out of memory will not be reported: %s", error)
            await asyncio.Event().wait()
            return
        try:
            await self._follow(descriptor)
        except OSError as error:
            log.warning("the machine's running out of memory is no longer reported: %s: %s", self._path, error)
        finally:
            os.close(descriptor)
        await asyncio.Event().wait()

    async def _follow(self, descriptor: int) -> None:
        """Raises ``OSError``, also when the log ends, which a kernel's never does."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                if self._read_some(descriptor):
                    readable.set()
                await asyncio.sleep(0)
        finally:
            with contextlib.suppress(OSError, ValueError):
                loop.remove_reader(descriptor)

    def _read_some(self, descriptor: int) -> bool:
        """Read what is there, but no more than the loop has time for; whether there may be more."""
        for _ in range(_AT_ONCE):
            try:
                record = os.read(descriptor, _LONGEST)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.EPIPE:  # the kernel has overwritten what was next
                    continue
                raise
            if not record:
                raise OSError(errno.ENODATA, "it has ended")
            self._note(record)
        return True

    def _note(self, record: bytes) -> None:
        text = text_of(record)
        kill = self._parser.feed(text) if text is not None else None
        if kill is not None and kill.limit == _EVERYBODY:
            log.warning("%s", kill.message)
            self._event("Warning", "SystemOOM", kill.message)

"""Containers' logs in the runtime's format: ``<time> <stdout|stderr> <F|P> <text>``, one line a piece.

``F`` ends a line of the container's, ``P`` says that more of it follows. Source: the Kubernetes CRI logging design
(https://github.com/kubernetes/design-proposals-archive, kubelet-cri-logging.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tiphys.controlkit.objects import parse_time
from tiphys.runtime.clock import Clock
from tiphys.runtime.system.folders import Folder

_BLOCK = 64 * 1024
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class LogLine:
    time: bytes
    stream: bytes
    text: bytes
    partial: bool


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``tail`` lines from the end (None: all), ``since`` in Unix seconds, ``limit`` in bytes."""

    follow: bool = False
    tail: int | None = None
    since: float | None = None
    timestamps: bool = False
    limit: int | None = None
    stream: str = "All"


def parse_line(raw: bytes) -> LogLine | None:
    """One line of a log file, without its newline; None for a line that is not in the format."""
    parts = raw.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    partial = parts[2].split(b":")[0] == b"P"
    text = parts[3] if len(parts) > 3 else b""
    return LogLine(parts[0], parts[1], text if partial else text + b"\n", partial)


def log_folder_of(path: Path) -> Folder:
    """The folder of a container's logs, ``<root>/<pod>/<container>/<run>.log``. Raises ``OSError``.

    A pod may have the folder of all logs mounted: nothing below the root is followed that is a link.
    """
    with Folder.at(path.parents[2]) as root:
        return root.folder("/".join(path.parts[-3:-1]))


def open_links(folder: Path) -> Folder:
    """The folder of links to all logs, made if it is missing. One that is itself a link is refused: ``OSError``.

    Pods that collect logs have the folder above it mounted.
    """
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with Folder.at(folder.parent) as above:
        return above.make_folders(folder.name, 0o755)


def open_log(path: Path) -> BinaryIO:
    """A container's log, open for reading. What is no file, a link say, is refused with ``OSError``."""
    with log_folder_of(path) as folder:
        return os.fdopen(folder.open_regular(path.name), "rb")


def tail_offset(stream: BinaryIO, lines: int) -> int:
    """Where the last ``lines`` lines of a file begin."""
    position = stream.seek(0, os.SEEK_END)
    if lines <= 0 or position == 0:
        return position
    stream.seek(position - 1)
    wanted = lines + (stream.read(1) == b"\n")
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        stream.seek(position)
        block = stream.read(size)
        count = block.count(b"\n")
        if count >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return position + at + 1
        wanted -= count
    return 0


def read_last_lines(path: Path, lines: int, limit: int) -> str:
    """The end of a log as text: at most ``lines`` lines and ``limit`` bytes."""
    try:
        stream = open_log(path)
    except FileNotFoundError:
        return ""
    with stream:
        stream.seek(tail_offset(stream, lines))
        text = b"".join(line.text for raw in stream.read().split(b"\n") if raw and (line := parse_line(raw)))
    return text[-limit:].decode("utf-8", "replace")


class LogWriter:
    """Writes lines by the options: filters, adds times, and stops at the limit."""

    def __init__(self, options: LogOptions, write: Callable[[bytes], None]) -> None:
        self._options = options
        self._write = write
        self._left = options.limit
        self._inside = False

    @property
    def full(self) -> bool:
        return self._left is not None and self._left <= 0

    def line(self, raw: bytes) -> None:
        """Write one raw line, if the options select it; cut at the byte limit."""
        parsed = parse_line(raw)
        options = self._options
        if parsed is None or (options.stream != "All" and parsed.stream.decode() != options.stream.lower()):
            return
        if options.since is not None and (parse_time(_micros(parsed.time.decode())) or 0.0) < options.since:
            return
        text = parsed.text
        if options.timestamps and not self._inside:
            text = parsed.time + b" " + text
        self._inside = parsed.partial
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        self._write(text)


def _micros(stamp: str) -> str:
    """A time with nanoseconds, cut to what Python reads."""
    head, dot, rest = stamp.partition(".")
    if not dot:
        return stamp
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"


async def read_log(
    path: Path,
    options: LogOptions,
    write: Callable[[bytes], None],
    clock: Clock,
    running: Callable[[], bool],
    drain: Callable[[], object] | None = None,
) -> None:
    """Write a log; with ``follow``, until the container has ended (``running``), across rotations of the file."""
    writer = LogWriter(options, write)
    rest = b""
    stream = open_log(path)
    try:
        stream.seek(tail_offset(stream, options.tail) if options.tail is not None else 0)
        while not writer.full:
            alive = running()  # asked before reading: what was written by its end is then read
            block = stream.read(_BLOCK)
            if block:
                *lines, rest = (rest + block).split(b"\n")
                for raw in lines:
                    writer.line(raw)
                    if writer.full:
                        return
                if drain is not None:
                    result = drain()
                    if asyncio.iscoroutine(result):
                        await result
                continue
            if not options.follow:
                break
            if _rotated(path, stream.fileno()):
                stream.close()
                stream = open_log(path)
                continue
            if not alive:
                break
            await clock.sleep(_POLL)
        if rest and not writer.full:
            writer.line(rest)
    finally:
        stream.close()


def _rotated(path: Path, descriptor: int) -> bool:
    """Whether another file has taken the name of the one that is open."""
    try:
        return path.stat().st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False

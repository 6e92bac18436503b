"""What this process does, in the form of ``pprof``: a profile of processor time, and where every task stands.

A thread looks a hundred times a second at the stack of each thread, and adds the processor time that it has used since
to the functions on that stack; the other tools of ``go tool pprof`` then work on it. Source:
https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import FrameType

from tiphys.runtime.binary.varint import varint

HZ = 100
MOST_SECONDS = 300.0
_DEEPEST = 100
_PERIOD = 1_000_000_000 // HZ

Place = tuple[str, str, int, int]
"""Function, file, its first line, and the line that it is at."""
Stack = tuple[Place, ...]
"""Innermost first."""


def sample(seconds: float) -> dict[Stack, tuple[int, int]]:
    """Look on for so long; by stack, how often it was seen at work, and the nanoseconds of processor time that it took.

    Blocks its thread, which is not looked at.
    """
    seen: defaultdict[Stack, list[int]] = defaultdict(lambda: [0, 0])
    used: dict[int, int] = {}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        numbers = {thread.ident: thread.native_id for thread in threading.enumerate()}
        numbers[threading.main_thread().ident] = os.getpid()  # after a fork Python has the parent's number
        for thread, frame in sys._current_frames().items():
            now = _processor_time(numbers.get(thread))
            took = now - used.get(thread, now)
            used[thread] = now
            if took > 0 and thread != threading.get_ident():
                figures = seen[_stack(frame)]
                figures[0] += 1
                figures[1] += took
        time.sleep(min(left, 1 / HZ))
    return {stack: (count, nanoseconds) for stack, (count, nanoseconds) in seen.items()}


def _processor_time(thread: int | None) -> int:
    """Nanoseconds; 0 for a thread that has just ended."""
    try:
        with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[0])
    except OSError:
        return 0


def _stack(frame: FrameType | None) -> Stack:
    places: list[Place] = []
    while frame is not None and len(places) < _DEEPEST:
        code = frame.f_code
        places.append((code.co_qualname, code.co_filename, code.co_firstlineno, frame.f_lineno or 0))
        frame = frame.f_back
    return tuple(places)


def tasks() -> dict[Stack, int]:
    """How many tasks of the running loop wait at each place; without a loop none do."""
    waiting: defaultdict[Stack, int] = defaultdict(int)
    for task in _all_tasks():
        waiting[tuple(place for frame in reversed(task.get_stack()) for place in _stack(frame)[:1])] += 1
    return dict(waiting)


def _all_tasks() -> set[asyncio.Task[object]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return set()


def tasks_text() -> str:
    """Every task with its name and stack, and every thread, for people."""
    parts = []
    for task in sorted(_all_tasks(), key=lambda task: task.get_name()):
        lines = [line for frame in task.get_stack() for line in traceback.format_stack(frame, 1)]
        parts.append(f"task {task.get_name()}:\n{''.join(lines)}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


# -- the form


def processor_profile(seen: Mapping[Stack, tuple[int, int]], seconds: float) -> bytes:
    """A gzipped profile of what ``sample`` has seen."""
    types = (("samples", "count"), ("cpu", "nanoseconds"))
    return _Profile(types).of(seen.items(), ("cpu", "nanoseconds", _PERIOD), int(seconds * 1e9))


def task_profile(waiting: Mapping[Stack, int]) -> bytes:
    """A gzipped profile of what ``tasks`` gives, under the name that ``go tool pprof`` knows."""
    types = (("goroutine", "count"),)
    return _Profile(types).of(((stack, (count,)) for stack, count in waiting.items()), ("goroutine", "count", 1), 0)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _bytes(field, b"".join(map(varint, values)))


class _Profile:
    """One message: the tables of strings, functions and locations grow as stacks are added."""

    def __init__(self, types: Sequence[tuple[str, str]]) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Place, int] = {}
        self._parts = [_bytes(1, self._type(*type)) for type in types]

    def of(self, samples: Iterable[tuple[Stack, Sequence[int]]], period: tuple[str, str, int], duration: int) -> bytes:
        for stack, values in samples:
            locations = _packed(1, map(self._location, stack))
            self._parts.append(_bytes(2, locations + _packed(2, values)))
        unit, kind, length = period[1], period[0], period[2]
        self._parts.append(_bytes(11, self._type(kind, unit)))
        self._parts += [_number(9, time.time_ns()), _number(10, duration), _number(12, length)]
        self._parts += [_bytes(6, text.encode()) for text in self._strings]
        return gzip.compress(b"".join(self._parts))

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _type(self, kind: str, unit: str) -> bytes:
        return _number(1, self._string(kind)) + _number(2, self._string(unit))

    def _function(self, name: str, file: str, first_line: int) -> int:
        key = (name, file, first_line)
        if key not in self._functions:
            number = self._functions[key] = len(self._functions) + 1
            fields = (1, number), (2, self._string(name)), (3, self._string(name)), (4, self._string(file))
            self._parts.append(_bytes(5, b"".join(_number(*field) for field in (*fields, (5, first_line)))))
        return self._functions[key]

    def _location(self, place: Place) -> int:
        if place not in self._locations:
            number = self._locations[place] = len(self._locations) + 1
            name, file, first_line, line = place
            at = _number(1, self._function(name, file, first_line)) + _number(2, line)
            self._parts.append(_bytes(4, _number(1, number) + _bytes(4, at)))
        return self._locations[place]

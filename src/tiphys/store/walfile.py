"""What SQLite's write-ahead log holds behind the point at which SQLite stops reading it.

SQLite takes the first frame whose checksum is wrong for the end of the log, and says nothing: after a power cut that is
right, as the last transaction may have been written in part. A transaction is begun only when the one before it is on
disk, though. So if a commit follows, behind that point, and frames after the commit, that commit was durable, and
the log is damaged. (https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import closing
from enum import Enum
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_VALID_FRAMES = struct.Struct("=I")
_VALID_FRAMES_AT = 16
"""Where the head of the log's index (``-shm``) says how many frames are valid."""


class Frame(Enum):
    """A page in the log."""

    PART = "part of a transaction"
    COMMIT = "the last of a transaction"
    OTHER = "of an earlier generation, damaged, or empty room"


def frames(path: Path) -> list[Frame]:
    """The frames of the log, up to the last of its present generation; none without a log."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        if os.fstat(handle).st_size < _HEADER.size + _FRAME.size:
            return []
        with closing(mmap.mmap(handle, 0, access=mmap.ACCESS_READ)) as data:
            return _frames(data)
    finally:
        os.close(handle)


def _frames(data: mmap.mmap) -> list[Frame]:
    salts = _salts(data)
    if salts is None:
        # The head is on disk before the first commit is. Behind a lost one there was a commit, or there is nothing.
        return [Frame.COMMIT, Frame.PART] if data[_HEADER.size : _HEADER.size + _FRAME.size].strip(b"\0") else []
    page = _HEADER.unpack_from(data)[2]
    frames = []
    for at in range(_HEADER.size, len(data) - _FRAME.size - page + 1, _FRAME.size + page):
        _, pages, *own, _, _ = _FRAME.unpack_from(data, at)
        frames.append(Frame.OTHER if own != salts else Frame.COMMIT if pages else Frame.PART)
    while frames and frames[-1] is Frame.OTHER:
        frames.pop()
    return frames


def _salts(data: mmap.mmap) -> list[int] | None:
    """What marks the frames of the present generation; ``None`` when the head of the log is damaged."""
    *words, first, second = _HEADER.unpack_from(data)
    magic, _, page, _, *salts = words
    if magic & ~1 != _MAGIC or not 512 <= page <= 65536:
        return None
    s = t = 0
    summed = struct.unpack_from(">6I" if magic & 1 else "<6I", data)
    for a, b in zip(summed[::2], summed[1::2], strict=True):
        s = (s + a + t) & 0xFFFFFFFF
        t = (t + b + s) & 0xFFFFFFFF
    return salts if (s, t) == (first, second) else None


def lost(frames: list[Frame], valid: int) -> bool:
    """Whether a commit that was durable lies behind the ``valid`` frames."""
    behind = frames[valid:]
    return Frame.COMMIT in behind and any(
        frame is not Frame.OTHER for frame in behind[behind.index(Frame.COMMIT) + 1 :]
    )


def valid_frames(index: Path) -> int:
    """How many frames SQLite takes for valid. Something must have been read through SQLite before."""
    try:
        with index.open("rb") as file:
            head = file.read(_VALID_FRAMES_AT + _VALID_FRAMES.size)
    except FileNotFoundError:
        return 0
    if len(head) < _VALID_FRAMES_AT + _VALID_FRAMES.size:
        return 0
    return int(_VALID_FRAMES.unpack_from(head, _VALID_FRAMES_AT)[0])

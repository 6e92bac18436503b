"""How much memory the C library keeps of what was freed.

Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html and …/mallopt.3.html
"""

from __future__ import annotations

import ctypes
from functools import cache

_ARENA_MAX = -8


@cache
def _library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def share_one_heap() -> None:
    """Let all threads to come use one heap: each of their own would keep what it once needed. Does nothing where the C
    library is not GNU's."""
    if (library := _library()) is not None:
        library.mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the machine; takes some milliseconds."""
    if (library := _library()) is not None:
        library.malloc_trim(0)

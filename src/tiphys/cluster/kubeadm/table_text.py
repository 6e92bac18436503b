"""How tables show spans of time: one unit, as kubectl's ``AGE`` beyond two days. Pure."""

from __future__ import annotations

_UNITS = ((365 * 86400, "y"), (86400, "d"), (3600, "h"), (60, "m"))


def duration_words(seconds: float) -> str:
    """``9y``, ``364d``, ``5h``; ``<invalid>`` once it is over."""
    if seconds < 0:
        return "<invalid>"
    for size, unit in _UNITS:
        if seconds >= size * (2 if unit == "y" else 1):
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"

"""Sets of a job's indexes as text: ``1,3-5,7``.

Source: https://kubernetes.io/docs/tasks/job/indexed-parallel-processing-static/
"""

from __future__ import annotations

import re

from tiphys.api.gotext import quote

_NUMBER_RE = re.compile(r"[+-]?[0-9]{1,18}")


class IndexesError(ValueError):
    """The text is not a set of indexes; the message is the API's."""


def _number(text: str, completions: int) -> int:
    if not _NUMBER_RE.fullmatch(text):
        raise IndexesError(f"cannot convert string to integer for index: {quote(text)}")
    if int(text) >= completions:
        raise IndexesError(f"too large index: {quote(text)}")
    return int(text)


def interval(text: str, completions: int) -> tuple[int, int]:
    parts = text.split("-")
    if len(parts) > 2:
        raise IndexesError(
            f"the fragment {quote(text)} violates the requirement that an index interval can have at most two parts "
            "separated by '-'"
        )
    first = _number(parts[0], completions)
    if len(parts) == 1:
        return first, first
    last = _number(parts[1], completions)
    if first >= last:
        raise IndexesError(f"non-increasing order, previous: {first}, current: {last}")
    return first, last


def count_indexes(text: str, completions: int) -> int:
    """How many indexes; they must be in increasing order and below ``completions``."""
    if not text:
        return 0
    total, previous = 0, None
    for part in text.split(","):
        first, last = interval(part, completions)
        if previous is not None and previous >= first:
            raise IndexesError(f"non-increasing order, previous: {previous}, current: {first}")
        total, previous = total + last - first + 1, last
    return total


def overlap(completed: str, failed: str, completions: int) -> int | None:
    """The first index that is in both sets; what cannot be read is left out."""
    if not completed or not failed:
        return None
    done, wrong = _readable(completed, completions), _readable(failed, completions)
    i = j = 0
    while i < len(done) and j < len(wrong):
        (a, b), (c, d) = done[i], wrong[j]
        if a <= d and c <= b:
            return max(a, c)
        if a <= c:
            i += 1
        else:
            j += 1
    return None


def _readable(text: str, completions: int) -> list[tuple[int, int]]:
    intervals = []
    for part in text.split(","):
        try:
            intervals.append(interval(part, completions))
        except IndexesError:
            continue
    return intervals

"""Regular expressions as upstream's schemas use them: RE2 (https://github.com/google/re2/wiki/Syntax).

Errors in an expression are worded as in Go's package ``regexp/syntax``.
"""

from __future__ import annotations

from typing import Any

from tiphys.runtime.remembering import remembered

_WORDS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "no argument for repetition operator": "missing argument to repetition operator",
    "trailing \\": "trailing backslash at end of expression",
    "invalid named capture group": "invalid named capture",
}


class RegexpError(ValueError):
    """The message is upstream's."""


@remembered(512, longest=1024)
def compiled(pattern: str) -> Any:
    """Raises ``RegexpError``."""
    import re2  # type: ignore[import-untyped]  # native, and few servers need it

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise RegexpError(_told(error.args[0])) from None


def _told(reason: bytes | str) -> str:
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    kind, colon, what = text.partition(": ")
    if not colon:
        kind, what = text, ""
    return f"error parsing regexp: {_WORDS.get(kind, kind)}: `{what}`"


def matches(pattern: str, text: str) -> bool:
    """Whether the expression is found in the text. Raises ``RegexpError``."""
    return compiled(pattern).search(text) is not None


def problem(pattern: str) -> str:
    """What is wrong with an expression; empty if nothing is."""
    try:
        compiled(pattern)
    except RegexpError as error:
        return str(error)
    return ""

"""What no message, event or status may hold: text that only Python, or one of its libraries, would write."""

from __future__ import annotations

import re

_PYTHON = re.compile(
    r"\[SSL[:\]]"  # ssl.SSLError
    r"|<(?:class|function|module|coroutine|bound method) "
    r"|\bobject at 0x[0-9a-f]+"
    r"|\bTraceback \(most recent"
    r"|\bNoneType\b"
    r"|\b(?:Key|Type|Value|Attribute|Index|Assertion|Recursion|Runtime|Unicode\w*|OS|NotImplemented)Error\b"
    r"|\[Errno -?\d+\]"
    r"|: line \d+ column \d+ \(char \d+\)"  # json.JSONDecodeError
    r"|\{'\w+': "  # the repr of a dict
    r"|(?<![\w\])'\"])\['[^']*'(?:, '[^']*')*\](?!\[)"  # the repr of a list of texts
)


def python_in(text: str) -> str | None:
    """The first of it that is in a text."""
    found = _PYTHON.search(text)
    return None if found is None else found[0]

"""The ``Warning`` fields of an answer (RFC 7234, 5.5): one for each warning, and together no more than 4096 characters.

If they are more, each warning is cut to 256 characters, and those beyond the 4096 are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_MAX_TOTAL = 4096
_MAX_EACH = 256
_control = re.compile("[\x00-\x1f\x7f-\x9f]").search


def warning_fields(warnings: Sequence[str]) -> str:
    """The field's values, one a line. Warnings with control characters cannot be sent and are left out."""
    texts = [text for text in warnings if not _control(text)]
    return "\n".join(f"299 - {_quoted(text)}" for text in _limited(texts))


def _limited(texts: list[str]) -> list[str]:
    if sum(map(len, texts)) <= _MAX_TOTAL:
        return texts
    limited: list[str] = []
    written = 0
    for text in texts:
        if written >= _MAX_TOTAL:
            break
        limited.append(text[:_MAX_EACH])
        written += len(limited[-1])
    return limited


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

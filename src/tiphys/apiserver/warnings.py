"""The warnings of one answer: the header holds some 4,000 characters, so that no request collects more than these.

Source: KEP-1693
"""

from __future__ import annotations

MOST = 1000


def add_warning(warnings: list[str], text: str) -> None:
    """Each text once."""
    if len(warnings) < MOST and text not in warnings:
        warnings.append(text)

"""Every test that the page of promises names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "promises.md"


def test_the_files_that_hold_promises_exist() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE.read_text()))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (TESTS / name).is_file()] == []

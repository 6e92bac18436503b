"""What the tests of the ingress share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addons.test_ingress import CAN, Running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """The ingress' haproxy, with nothing to serve yet."""
    if not CAN:
        pytest.skip("needs root and Debian's haproxy")
    made = Running(tmp_path / "ingress")
    try:
        yield made
    finally:
        made.close()

"""The pytest plugin that ``pip install tiphys`` brings: the fixture ``tiphys_cluster``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tiphys.testing import Cluster


@pytest.fixture
def tiphys_cluster() -> Iterator[Cluster]:
    """A whole cluster in this process: empty, with one simulated node, on virtual time. See ``tiphys.testing``."""
    from tiphys.testing import Cluster

    with Cluster() as cluster:
        yield cluster

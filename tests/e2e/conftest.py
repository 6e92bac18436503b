"""A real cluster for the end-to-end tests: real containerd, containers, packets, kubectl, as `tiphys up` makes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The components' image is assembled once for all tests, and leaves nothing on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A machine that never saw the project: nothing runs on it yet."""
    if os.geteuid() != 0:
        pytest.skip("end-to-end tests start containers, and need root")
    if shutil.which("kubectl") is None:
        pytest.skip("end-to-end tests need kubectl")
    with new_machine("tiphys-e2e") as made:
        yield made


@pytest.fixture(scope="session")
def cluster(machine: Machine) -> Machine:
    """The machine with a running cluster on it."""
    machine.tiphys("up", timeout=180)
    wait_for(lambda: all(c["state"] == "running" for c in machine.components().values()), what="what runs on top")
    return machine

"""Another kind of host, in a virtual machine: systemd, cgroup v2, a real logind. It takes an hour without KVM."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.vm import run

PROGRAMS = ("qemu-system-x86_64", "mmdebstrap", "mke2fs")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_debian_with_systemd_and_cgroup_v2() -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)):
        pytest.skip(f"needs root, and {', '.join(PROGRAMS)}")
    assert run.main([]) == 0

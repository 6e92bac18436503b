"""What the doctor finds on hosts that have something, and on one that has everything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.cli.doctor import render
from tiphys.cluster import doctor
from tiphys.cluster.doctor import Examination, KernelView
from tiphys.cluster.machine import Problem

HEALTHY = {
    "proc/filesystems": "nodev\toverlay\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "proc/meminfo": "MemTotal:  4000000 kB\nMemFree: 1 kB\n",
    "proc/sys/net/ipv4/ip_forward": "1\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "proc/sys/fs/inotify/max_user_instances": "1024\n",
    "proc/sys/fs/inotify/max_user_watches": "524288\n",
    f"lib/modules/{os.uname().release}/modules.builtin": "kernel/net/nf_tables.ko\nkernel/net/bridge/bridge.ko\n",
    "sys/module/veth/refcnt": "0\n",
}


def host(root: Path, *, kept: bool = True, **changed: str) -> KernelView:
    """A host; ``changed`` are other texts, by the last part of the file's path."""
    for name, text in HEALTHY.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.name, text))
    return KernelView(root, lambda: kept)


def findings(of: KernelView) -> list[str]:
    checks = (doctor.modules, doctor.forwarding, doctor.swap, doctor.memory, doctor.clock, doctor.limits)
    return [problem.what for check in checks for problem in check(of)]


def test_a_host_that_has_everything(tmp_path: Path) -> None:
    assert findings(host(tmp_path)) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"swaps": "Filename\n/dev/sda2 partition 1 0 -2\n"}, "Swap is on (/dev/sda2)"),
        ({"ip_forward": "0\n"}, "net.ipv4.ip_forward is 0"),
        ({"filesystems": "ext4\n"}, "neither loaded nor built in: overlay"),
        ({"meminfo": "MemTotal:  500000 kB\n"}, "The host has 488 MB of memory"),
        ({"max_user_instances": "64\n"}, "fs.inotify.max_user_instances is 64"),
    ],
)
def test_each_fault_is_named(changed: dict[str, str], what: str, tmp_path: Path) -> None:
    (finding,) = findings(host(tmp_path, **changed))
    assert what in finding


def test_a_clock_that_nobody_keeps(tmp_path: Path) -> None:
    (finding,) = findings(host(tmp_path, kept=False))
    assert "Nobody keeps the clock" in finding


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.clock_is_set() in (True, False)
    full = os.statvfs_result((4096, 4096, 1000, 100, 100, 1000, 500, 40, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    space, inodes = doctor.disk(tmp_path / "not" / "there")
    assert "10% of the disk" in space.what
    assert "4% of the inodes" in inodes.what


def test_findings_stand_below_their_check_with_the_remedy() -> None:
    assert render(Examination("swap")) == "✓ swap"
    text = render(Examination("ports", errors=(Problem("Port 1 is taken.", "Stop it."),)))
    assert text == "✗ ports\n    Port 1 is taken.\n      Stop it."

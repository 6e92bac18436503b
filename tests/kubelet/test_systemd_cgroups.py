"""Slices of systemd's for pods: against the real systemd if this machine has one, otherwise a double on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dbus_fast import Message

from tests.kubelet.privatebus import PrivateBus
from tests.kubelet.systemd import Manager
from tiphys.kubelet.cgroups.files import CGROUPS, CgroupFiles
from tiphys.kubelet.cgroups.limits import CgroupLimits
from tiphys.kubelet.cgroups.names import Name, place, slice_of
from tiphys.kubelet.cgroups.systemd import MANAGER, SystemdFailure, SystemdSlices
from tiphys.kubelet.systembus import BUS, BUS_PATH, SystemBus

IS_REAL = Path("/run/systemd/system").is_dir() and os.geteuid() == 0 and (CGROUPS / "cgroup.controllers").exists()
TOP = f"tiphystest{os.getpid()}"
POD: Name = (TOP, "burstable", "pod1a-2b-3c")
LIMITED = CgroupLimits(shares=1024, quota=50_000, memory=64 << 20, pids=100)


@dataclass
class Host:
    mount: Path
    slices: SystemdSlices
    manager: Manager | None
    """None where systemd is the machine's own."""

    def file(self, name: Name, file: str) -> str:
        return (self.mount / place(slice_of(name)) / file).read_text().strip()

    def limits(self, name: Name) -> list[str]:
        return [self.file(name, file) for file in ("cpu.weight", "cpu.max", "memory.max", "pids.max")]


@contextlib.asynccontextmanager
async def host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    if IS_REAL:
        slices = SystemdSlices(CgroupFiles())
        try:
            yield Host(CGROUPS, slices, None)
        finally:
            await slices.remove((TOP,))
            await slices.close()
        return
    private, mount = PrivateBus(folder, monkeypatch), folder / "cgroup"
    await private.start()
    try:
        manager = Manager(mount)
        await manager.serve(await private.connect())
        slices = SystemdSlices(CgroupFiles(mount))
        yield Host(mount, slices, manager)
        await slices.close()
    finally:
        await private.stop()


def test_a_slice_has_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply((TOP,), CgroupLimits(shares=2048, memory=1 << 30))
            await machine.slices.apply(POD, LIMITED)
            assert machine.limits(POD) == ["39", "50000 100000", str(64 << 20), "100"]
            assert machine.limits((TOP,))[0] == "79"
            assert machine.limits((TOP,))[2] == str(1 << 30)

    asyncio.run(scene())


def test_a_resize_changes_the_limits_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply(POD, LIMITED)
            await machine.slices.apply(POD, CgroupLimits(shares=2048, quota=12_345, memory=32 << 20))
            # What is not mentioned stays, and systemd keeps quotas in whole percents.
            assert machine.limits(POD) == ["79", "13000 100000", str(32 << 20), "100"]

    asyncio.run(scene())


def test_systemd_is_not_asked_about_what_is_so_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    call = SystemBus.call

    async def counted(self: SystemBus, to: object, member: str, *more: object) -> object:
        calls.append(member)
        return await call(self, to, member, *more)  # type: ignore[arg-type]

    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply(POD, LIMITED)
            monkeypatch.setattr(SystemBus, "call", counted)
            await machine.slices.apply(POD, LIMITED)
            assert calls == []
            await machine.slices.apply(POD, CgroupLimits(shares=2))
            assert calls == ["SetUnitProperties"]

    asyncio.run(scene())


def test_another_kubelet_finds_the_slices_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply(POD, LIMITED)
            files = CgroupFiles(machine.mount)
            later = SystemdSlices(files)
            await later.apply(POD, CgroupLimits(shares=2048))
            assert machine.limits(POD)[0] == "79"
            await later.close()

    asyncio.run(scene())


def test_a_slice_that_is_removed_is_gone_with_what_ran_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply(POD, LIMITED)
            where = machine.mount / place(slice_of(POD))
            left = await asyncio.create_subprocess_exec("sleep", "1000")
            try:
                (where / "cgroup.procs").write_text(f"{left.pid}")
                await _removed(machine.slices, POD)
                assert await left.wait() == -9
            finally:
                with contextlib.suppress(ProcessLookupError):
                    left.kill()
            assert not where.exists()
            await machine.slices.remove(POD)
            await machine.slices.apply(POD, LIMITED)
            assert machine.limits(POD)[0] == "39"

    asyncio.run(scene())


async def _removed(slices: SystemdSlices, name: Name) -> None:
    while True:
        try:
            await slices.remove(name)
            return
        except OSError:  # its processes end
            await asyncio.sleep(0.05)


@pytest.mark.skipif(not IS_REAL, reason="asks the machine's own systemd")
def test_a_reload_of_systemds_units_keeps_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            await machine.slices.apply((TOP,), CgroupLimits(shares=2048, memory=1 << 30))
            await machine.slices.apply(POD, LIMITED)
            await machine.slices.apply(POD, CgroupLimits(shares=2048, quota=12_345))
            before = machine.limits(POD), machine.limits((TOP,))
            await asyncio.to_thread(subprocess.run, ["systemctl", "daemon-reload"], check=True)
            other: Name = (TOP, "burstable", "pod9")
            await machine.slices.apply(other, CgroupLimits(shares=1024))  # has systemd write to the whole tree
            assert (machine.limits(POD), machine.limits((TOP,))) == before

    asyncio.run(scene())


def test_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with host(tmp_path, monkeypatch) as machine:
            names: list[Name] = [(TOP, "besteffort", f"pod{number}") for number in range(30)]
            await asyncio.gather(*(machine.slices.apply(name, CgroupLimits(shares=2)) for name in names))
            assert {machine.limits(name)[0] for name in names} == {"1"}
            await asyncio.gather(*(machine.slices.remove(name) for name in names))
            assert not [name for name in names if (machine.mount / place(slice_of(name))).exists()]

    asyncio.run(scene())


@pytest.mark.skipif(IS_REAL, reason="the machine's own bus and systemd stay as they are")
class TestWhatFails:
    def test_a_bus_that_was_restarted_is_reached_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene() -> None:
            private, mount = PrivateBus(tmp_path, monkeypatch), tmp_path / "cgroup"
            manager = Manager(mount)
            slices = SystemdSlices(CgroupFiles(mount))
            try:
                for shares, weight in ((1024, "39"), (2048, "79")):
                    await private.start()
                    await manager.serve(await private.connect())
                    await slices.apply(POD, CgroupLimits(shares=shares))
                    assert (mount / place(slice_of(POD)) / "cpu.weight").read_text().strip() == weight
                    await private.stop()
            finally:
                await slices.close()

        asyncio.run(scene())

    def test_without_a_bus_it_says_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
        Manager(tmp_path / "cgroup")
        slices = SystemdSlices(CgroupFiles(tmp_path / "cgroup"))
        with pytest.raises(SystemdFailure, match="cannot reach the system's D-Bus"):
            asyncio.run(slices.apply(POD, LIMITED))

    def test_a_job_that_fails_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene() -> None:
            async with host(tmp_path, monkeypatch) as machine:
                assert machine.manager is not None
                machine.manager.result = "failed"
                with pytest.raises(SystemdFailure, match="systemd says failed"):
                    await machine.slices.apply(POD, LIMITED)
                assert machine.manager.asked[-1] == "ResetFailedUnit"

        asyncio.run(scene())

    def test_a_signal_of_somebody_else_ends_no_job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene() -> None:
            private, mount = PrivateBus(tmp_path, monkeypatch), tmp_path / "cgroup"
            await private.start()
            try:
                manager, liar = Manager(mount), await private.connect()
                await manager.serve(await private.connect())
                slices = SystemdSlices(CgroupFiles(mount))
                manager.holds = True
                making = asyncio.create_task(slices.apply(POD, LIMITED))
                while "StartTransientUnit" not in manager.asked:
                    await asyncio.sleep(0.01)
                body = [1, f"{MANAGER.path}/job/1", slice_of(POD), "failed"]
                lie = Message.new_signal(MANAGER.path, MANAGER.name, "JobRemoved", "uoss", body)
                [lie.destination] = manager.subscribed
                liar.send(lie)
                await liar.call(Message(BUS, BUS_PATH, "org.freedesktop.DBus.Peer", "Ping"))  # it has been passed on
                manager.tell()
                await making
                await slices.close()
            finally:
                await private.stop()

        asyncio.run(scene())

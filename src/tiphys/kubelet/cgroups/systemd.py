"""Cgroups by systemd: each is a slice, made as a transient unit over D-Bus, with its limits as properties.

systemd owns the tree then, and writes into it what its units say: at a reload of its units, and whenever a slice or
scope beside or below one is made. So it is asked first, and what it has no property for is written to the kernel's
files after that. It is asked only of what the files do not show already. Source: org.freedesktop.systemd1(5),
https://systemd.io/CONTROL_GROUP_INTERFACE/ and systemd.resource-control(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tiphys.kubelet.cgroups.files import CgroupFiles
from tiphys.kubelet.cgroups.limits import CgroupLimits, for_systemd, properties
from tiphys.kubelet.cgroups.names import Name, place, slice_of
from tiphys.kubelet.systembus import BusFailure, BusInterface, SystemBus

if TYPE_CHECKING:
    from dbus_fast import Message

log = logging.getLogger(__name__)

SERVICE = "org.freedesktop.systemd1"
MANAGER = BusInterface(SERVICE, "/org/freedesktop/systemd1", f"{SERVICE}.Manager")
UNIT_EXISTS, NO_SUCH_UNIT = f"{SERVICE}.UnitExists", f"{SERVICE}.NoSuchUnit"
_ACCOUNTING = ("MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting")
_JOB_SECONDS = 30.0
_DONE = "done"


class SystemdFailure(OSError):
    """systemd cannot be asked, or did not do it."""


class SystemdSlices:
    """The driver ``systemd``. Its connection is made when it is needed, and again after it has broken."""

    def __init__(self, files: CgroupFiles, *, connect: Callable[[], Awaitable[SystemBus]] = SystemBus.connect) -> None:
        self._files = files
        self._connect = connect
        self._bus: SystemBus | None = None
        self._connecting = asyncio.Lock()
        self._waiting: dict[str, list[asyncio.Queue[Message]]] = {}
        """By unit, for those who wait for a job: what is said of jobs that have ended."""

    async def apply(self, name: Name, limits: CgroupLimits) -> None:
        """Make the slice, if it is not there, and give it limits. Raises ``OSError``."""
        unit, limits = slice_of(name), for_systemd(limits)
        if self._files.has(place(unit), limits):
            return
        wanted = properties(limits, unified=self._files.unified)
        if self._files.exists(place(unit)):
            await self._change(unit, wanted)
        else:
            await self._start(unit, name, wanted)
        self._files.write(place(unit), limits)

    def has_cgroup(self, name: Name) -> bool:
        return self._files.exists(place(slice_of(name)))

    async def remove(self, name: Name) -> None:
        """End what is left in the slice, stop it, and have systemd forget it. Raises ``OSError`` until it is gone."""
        unit = slice_of(name)
        if not self._files.is_anywhere(place(unit)):
            return
        self._files.kill(place(unit))
        with self._finished_jobs(unit) as finished:
            try:
                job = await self._call("StopUnit", "ss", [unit, "replace"])
                result = await _result_of(job, finished)
                if result != _DONE:
                    log.warning("systemd says of stopping %s: %s", unit, result)
            except BusFailure as error:
                if error.name != NO_SUCH_UNIT:
                    raise SystemdFailure(f"cannot stop {unit}: {error}") from error
        await self._forget_failure(unit)
        self._files.remove_path(place(unit))  # what systemd does not know of: other hierarchies, cgroups below it

    async def close(self) -> None:
        if self._bus is not None:
            self._bus.close()

    async def _start(self, unit: str, name: Name, wanted: Sequence[tuple[str, str, int]]) -> None:
        above = slice_of(name[:-1]) if len(name) > 1 else "-.slice"
        described = [
            ("Description", "s", f"Pods of Kubernetes: {unit}"),
            ("Wants", "as", [above]),
            ("DefaultDependencies", "b", False),
            *((accounting, "b", True) for accounting in _ACCOUNTING),
            *wanted,
        ]
        with self._finished_jobs(unit) as finished:
            body = [unit, "replace", _variants(described), []]
            try:
                job = await self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
            except BusFailure as error:
                if error.name != UNIT_EXISTS:
                    raise SystemdFailure(f"cannot start {unit}: {error}") from error
                await self._change(unit, wanted)
                return
            result = await _result_of(job, finished)
        if result != _DONE:
            await self._forget_failure(unit)
            raise SystemdFailure(f"cannot start {unit}: systemd says {result}")

    async def _change(self, unit: str, wanted: Sequence[tuple[str, str, int]]) -> None:
        try:
            await self._call("SetUnitProperties", "sba(sv)", [unit, True, _variants(wanted)])
        except BusFailure as error:
            raise SystemdFailure(f"cannot set properties of {unit}: {error}") from error

    async def _forget_failure(self, unit: str) -> None:
        """A unit that has failed stays known until this is said of it; others are none any more."""
        with contextlib.suppress(BusFailure):
            await self._call("ResetFailedUnit", "s", [unit])

    @contextlib.contextmanager
    def _finished_jobs(self, unit: str) -> Iterator[asyncio.Queue[Message]]:
        """Jobs of a unit that end from now on: one may have ended before the answer with its name is read."""
        finished: asyncio.Queue[Message] = asyncio.Queue()
        self._waiting.setdefault(unit, []).append(finished)
        try:
            yield finished
        finally:
            self._waiting[unit].remove(finished)
            if not self._waiting[unit]:
                del self._waiting[unit]

    def _job_removed(self, message: Message) -> None:
        if message.signature == "uoss":
            for finished in self._waiting.get(message.body[2], ()):
                finished.put_nowait(message)

    async def _call(self, member: str, signature: str, body: Sequence[Any]) -> Message:
        """Once more if the connection broke meanwhile: what is asked here may be asked twice. ``BusFailure``."""
        try:
            return await (await self._connected()).call(MANAGER, member, signature, body)
        except BusFailure as error:
            if error.name or (self._bus is not None and self._bus.connected):
                raise
        return await (await self._connected()).call(MANAGER, member, signature, body)

    async def _connected(self) -> SystemBus:
        """Raises ``BusFailure``."""
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                bus = await self._connect()
                try:
                    await bus.follow(MANAGER, "JobRemoved", self._job_removed)
                    await bus.call(MANAGER, "Subscribe")  # without it systemd says nothing of jobs
                except BusFailure:
                    bus.close()
                    raise
                self._bus = bus
            return self._bus


async def _result_of(begun: Message, finished: asyncio.Queue[Message]) -> str:
    """What the job of an answer ended with. Only who gave that answer can say it: anybody may send anybody a signal.

    Raises ``SystemdFailure``.
    """
    job = begun.body[0]
    try:
        async with asyncio.timeout(_JOB_SECONDS):
            while True:
                said = await finished.get()
                if (said.sender, said.body[1]) == (begun.sender, job):
                    return str(said.body[3])
    except TimeoutError as error:
        raise SystemdFailure(f"systemd has not ended its job {job} within {_JOB_SECONDS:.0f} s") from error


def _variants(described: Sequence[tuple[str, str, Any]]) -> list[list[Any]]:
    from dbus_fast import Variant

    return [[name, Variant(signature, value)] for name, signature, value in described]

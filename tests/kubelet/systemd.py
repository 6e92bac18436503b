"""A systemd for tests, as far as its documented interface goes that a kubelet uses, on a real bus.

It keeps slices in a folder that looks as the kernel's second version of cgroups does. ``test_systemd_cgroups.py`` runs
against the real one where there is one, as in the machine of tests/vm. Source: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from tiphys.kubelet.cgroups.names import place
from tiphys.kubelet.cgroups.systemd import MANAGER, NO_SUCH_UNIT, SERVICE, UNIT_EXISTS

_CONTROLLERS = "cpuset cpu io memory hugetlb pids"
_FILES = {"cpu.weight": "100", "cpu.max": "max 100000", "memory.max": "max", "pids.max": "max", "cgroup.procs": ""}


def make_cgroup(folder: Path) -> None:
    """A folder with the files that the kernel puts into a cgroup."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup.controllers": _CONTROLLERS, "cgroup.subtree_control": _CONTROLLERS, **_FILES}.items():
        (folder / name).write_text(text)


class Manager:
    """org.freedesktop.systemd1.Manager. ``result`` is what its jobs end with."""

    def __init__(self, mount: Path) -> None:
        make_cgroup(mount)
        self._mount = mount
        self._jobs = 0
        self.subscribed: set[str | None] = set()
        self.holds = False
        """Whether nobody is told that a job has ended until ``tell`` is called."""
        self._untold: list[Message] = []
        self.result = "done"
        self.units: dict[str, dict[str, Any]] = {}
        """By unit, the properties that it has."""
        self.asked: list[str] = []

    async def serve(self, bus: MessageBus) -> None:
        self._bus = bus
        bus.add_message_handler(self._answer)
        await bus.request_name(SERVICE)

    def _answer(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != MANAGER.name:
            return None
        member = str(message.member)
        self.asked.append(member)
        match member:
            case "Subscribe":
                self.subscribed.add(message.sender)
                return Message.new_method_return(message)
            case "StartTransientUnit":
                name, _, properties, _ = message.body
                if name in self.units:
                    return Message.new_error(message, UNIT_EXISTS, f"Unit {name} was already loaded.")
                for parent in place(name).split("/"):  # systemd makes those above by itself
                    self.units.setdefault(parent, {})
                self._set(name, properties)
                return self._job(message, name)
            case "SetUnitProperties":
                name, _, properties = message.body
                self._set(name, properties)
                return Message.new_method_return(message)
            case "StopUnit":
                name = message.body[0]
                if name not in self.units:
                    return Message.new_error(message, NO_SUCH_UNIT, f"Unit {name} not loaded.")
                self.units = {unit: kept for unit, kept in self.units.items() if not _is_below(unit, name)}
                shutil.rmtree(self._mount / place(name), ignore_errors=True)
                return self._job(message, name)
            case "ResetFailedUnit":
                if message.body[0] not in self.units:
                    return Message.new_error(message, NO_SUCH_UNIT, "not loaded")
                return Message.new_method_return(message)
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", member)

    def _job(self, message: Message, unit: str) -> Message | None:
        """Answer with the job, and say at once that it has ended: the signal may be read before the answer."""
        self._jobs += 1
        job = f"{MANAGER.path}/job/{self._jobs}"
        self._bus.send(Message.new_method_return(message, "o", [job]))
        if self.subscribed:
            body = [self._jobs, job, unit, self.result]
            self._untold.append(Message.new_signal(MANAGER.path, MANAGER.name, "JobRemoved", "uoss", body))
            if not self.holds:
                self.tell()
        return None

    def tell(self) -> None:
        while self._untold:
            self._bus.send(self._untold.pop(0))

    def _set(self, unit: str, properties: list[Any]) -> None:
        """Keep the properties, and write those of the processor and of memory to the kernel's files."""
        known = self.units.setdefault(unit, {})
        known |= {name: variant.value for name, variant in properties}
        parts = place(unit).split("/")
        for count in range(1, len(parts) + 1):
            if not (folder := self._mount.joinpath(*parts[:count])).is_dir():
                make_cgroup(folder)
        values = {
            "cpu.weight": known.get("CPUWeight"),
            "cpu.max": f"{known['CPUQuotaPerSecUSec'] // 10} 100000" if "CPUQuotaPerSecUSec" in known else None,
            "memory.max": known["MemoryMax"] // 4096 * 4096 if "MemoryMax" in known else None,
            "pids.max": known.get("TasksMax"),
        }
        for name, value in values.items():
            if value is not None:
                (folder / name).write_text(f"{value}\n")


def _is_below(unit: str, top: str) -> bool:
    return unit == top or unit.startswith(top.removesuffix(".slice") + "-")

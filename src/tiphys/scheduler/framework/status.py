"""What a plugin answers. Success is ``None``, as it is by far the most common answer.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    ERROR = "Error"
    """Something broke; the pod is tried again."""
    UNSCHEDULABLE = "Unschedulable"
    """Not as things are; removing pods could help."""
    UNRESOLVABLE = "UnschedulableAndUnresolvable"
    """Not as things are, and removing pods would not help."""
    WAIT = "Wait"
    """Permit only: hold the pod until it is allowed or rejected."""
    SKIP = "Skip"
    """This plugin has nothing to do with this pod, or this binder leaves it to the next."""
    PENDING = "Pending"
    """Unschedulable until something outside the cluster's state happens."""


REJECTIONS = frozenset({Code.UNSCHEDULABLE, Code.UNRESOLVABLE, Code.PENDING})


@dataclass(frozen=True, slots=True)
class Status:
    code: Code
    reasons: tuple[str, ...] = ()
    plugin: str = ""

    @property
    def rejected(self) -> bool:
        return self.code in REJECTIONS

    @property
    def message(self) -> str:
        return ", ".join(self.reasons)

    def by(self, plugin: str) -> Status:
        """The same, in the name of the plugin that said it."""
        return self if self.plugin else Status(self.code, self.reasons, plugin)


SKIP = Status(Code.SKIP)


def unschedulable(*reasons: str) -> Status:
    return Status(Code.UNSCHEDULABLE, reasons)


def unresolvable(*reasons: str) -> Status:
    return Status(Code.UNRESOLVABLE, reasons)


def error(reason: str) -> Status:
    return Status(Code.ERROR, (reason,))

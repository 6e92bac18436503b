"""What goes wrong when a volume is made ready, with the words that events show."""

from __future__ import annotations


class MountFailure(Exception):
    """A volume cannot be made; the message is upstream's, and more attempts may succeed."""


class StepFailure(MountFailure):
    """One step for a volume has failed, and the message says which: the whole text of the event."""

    def __init__(self, step: str, volume: str, why: str) -> None:
        super().__init__(f'{step} failed for volume "{volume}" : {why}')


class AttachLimitReached(StepFailure):
    """The node can have no more volumes of the driver, though the scheduler believed otherwise: no attempt helps."""

"""Why a pod was not given what it needs on its node.

Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/#known-limitations
"""

from __future__ import annotations

UNEXPECTED = "UnexpectedAdmissionError"


class AssignmentFailure(Exception):
    """A container cannot be given its devices, processors or memory. ``reason`` is the pod's, if it is not admitted."""

    def __init__(self, message: str, reason: str = UNEXPECTED) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def rejection(self) -> str:
        """The message of a pod that is not admitted."""
        return f"Allocate failed due to {self}, which is unexpected" if self.reason == UNEXPECTED else str(self)

"""The conditions that report how far the deletion of a namespace is: pure.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/#NamespaceStatus
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.api.meta.conditions import set_condition
from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    timestamp,
)

_OK = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Progress:
    """What one pass over the namespace's content found."""

    discovery_failure: str = ""
    content_failures: list[str] = field(default_factory=list)
    remaining: dict[str, int] = field(default_factory=dict)
    """By ``plural.group`` how many are left."""
    finalizers: dict[str, int] = field(default_factory=dict)
    """By finalizer how many of what is left have it."""
    estimate: int = 0
    """Seconds until what is left may be gone."""


def _failures(progress: Progress, *, totals: bool) -> Mapping[str, tuple[str, str]]:
    failures = {}
    if progress.discovery_failure:
        failures["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", progress.discovery_failure)
    if progress.content_failures:
        count, what = len(progress.content_failures), ", ".join(sorted(progress.content_failures))
        message = f"Failed to delete all resource types, {count} remaining: {what}"
        failures["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if totals and progress.remaining:
        parts = sorted(f"{name} has {count} resource instances" for name, count in progress.remaining.items())
        failures["NamespaceContentRemaining"] = (
            "SomeResourcesRemain",
            f"Some resources are remaining: {', '.join(parts)}",
        )
    if totals and progress.finalizers:
        parts = sorted(f"{name} in {count} resource instances" for name, count in progress.finalizers.items())
        failures["NamespaceFinalizersRemaining"] = (
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {', '.join(parts)}",
        )
    return failures


def update_conditions(conditions: list[Object], progress: Progress, now: float, *, totals: bool = True) -> list[Object]:
    """The conditions after a pass. ``totals`` is off while only pods have been looked at."""
    failures = _failures(progress, totals=totals)
    result = [dict(condition) for condition in conditions]
    for type_, okay in _OK.items():
        status = "True" if type_ in failures else "False"
        reason, message = failures.get(type_, okay)
        set_condition(result, {"type": type_, "status": status, "reason": reason, "message": message}, timestamp(now))
    return result

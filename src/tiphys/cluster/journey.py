"""The path that a pod took, from what its watch and its events said and when: created, scheduled, bound, sandbox,
started, ready. Pure: it is given observations and gives steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiphys.api.object import Object

STEPS = ("created", "scheduled", "bound", "sandbox", "started", "ready")


@dataclass(frozen=True, slots=True)
class Observation:
    """One version of a pod, and when the watch brought it, in seconds since any origin."""

    seconds: float
    pod: Object


@dataclass(frozen=True, slots=True)
class Step:
    """A step and when it was seen, in seconds after the pod was created."""

    name: str
    seconds: float


def journey(observations: Sequence[Observation], scheduled: float | None) -> list[Step]:
    """The steps that were seen, in order of time.

    ``scheduled`` is the time in the scheduler's event; it is written when the binding is done, so the choice was made
    at the binding at the latest.
    """
    seen: dict[str, float] = {}
    for observation in observations:
        for step in _reached(observation.pod):
            seen.setdefault(step, observation.seconds)
    if scheduled is not None and "created" in seen:
        seen["scheduled"] = max(min(scheduled, seen.get("bound", scheduled)), seen["created"])
    origin = seen.get("created", 0.0)
    steps = [Step(name, seen[name] - origin) for name in STEPS if name in seen]
    return sorted(steps, key=lambda step: (step.seconds, STEPS.index(step.name)))


def _reached(pod: Object) -> list[str]:
    status = pod.get("status", {})
    conditions = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
    containers = status.get("containerStatuses") or []
    facts = {
        "created": True,
        "bound": bool(pod["spec"].get("nodeName")),
        "sandbox": bool(status.get("podIP")) or "PodReadyToStartContainers" in conditions,
        "started": bool(containers) and all("running" in c.get("state", {}) for c in containers),
        "ready": "Ready" in conditions,
    }
    return [name for name, reached in facts.items() if reached]


def render(name: str, steps: Sequence[Step]) -> str:
    """One line a step: its time after creation, and what it took since the step before."""
    lines, before = [f"The path of pod {name}:"], 0.0
    for step in steps:
        lines.append(f"  {step.name:<10} {step.seconds * 1000:6.0f} ms   (+{(step.seconds - before) * 1000:.0f} ms)")
        before = step.seconds
    return "\n".join(lines)

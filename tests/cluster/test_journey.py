"""The path of a pod, from observations."""

from __future__ import annotations

from typing import Any

from tiphys.cluster.journey import Observation, journey, render


def pod(node: str = "", *, ready_to_start: bool = False, running: bool = False, ready: bool = False) -> dict[str, Any]:
    conditions = [("PodReadyToStartContainers", ready_to_start), ("Ready", ready)]
    return {
        "spec": {"nodeName": node} if node else {},
        "status": {
            "conditions": [{"type": t, "status": "True" if on else "False"} for t, on in conditions],
            "containerStatuses": [{"state": {"running": {}} if running else {"waiting": {}}}],
        },
    }


SEEN = [
    Observation(100.0, pod()),
    Observation(100.02, pod("n1")),
    Observation(100.2, pod("n1", ready_to_start=True)),
    Observation(100.3, pod("n1", ready_to_start=True, running=True, ready=True)),
]


def test_each_step_counts_from_creation_at_its_first_sight() -> None:
    steps = journey(SEEN, 100.01)
    assert [s.name for s in steps] == ["created", "scheduled", "bound", "sandbox", "started", "ready"]
    assert [round(s.seconds, 2) for s in steps] == [0.0, 0.01, 0.02, 0.2, 0.3, 0.3]


def test_a_step_that_was_not_seen_is_left_out() -> None:
    assert [s.name for s in journey(SEEN[:2], None)] == ["created", "bound"]


def test_a_line_a_step_with_what_it_took() -> None:
    assert "  sandbox       200 ms   (+180 ms)" in render("web-1", journey(SEEN, None))

"""A pod's status from what the runtime shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubelet.test_actions import EXITED, observed, run, sandbox
from tests.kubelet.world import container, pod
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.kubelet.status.containers import Reason
from tiphys.kubelet.status.generate import StatusContext, generate_status
from tiphys.kubelet.status.manager import status_patch
from tiphys.kubelet.status.messages import shortened

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:10:00Z"


def generate(wanted: dict[str, Any], seen: Any, **context: Any) -> dict[str, Any]:
    before = context.pop("before", {})
    return generate_status(wanted, seen, StatusContext(before=before, now=context.pop("now", NOW), **context))


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == type_)


def test_a_pod_before_its_sandbox() -> None:
    status = generate(pod("web"), observed(sandboxes=()))
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert condition(status, "PodReadyToStartContainers")["status"] == "False"
    ready = condition(status, "Ready")
    assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [main]")
    assert condition(status, "PodScheduled")["status"] == "True"


def test_times_of_conditions_stay_until_the_status_changes() -> None:
    first = generate(pod("web"), observed(run("main")))
    second = generate(pod("web"), observed(run("main")), before=first, now=LATER)
    assert condition(second, "Ready")["lastTransitionTime"] == NOW
    third = generate(pod("web"), observed(run("main", EXITED, 1)), before=second, now=LATER)
    assert condition(third, "Ready")["lastTransitionTime"] == LATER
    assert condition(third, "PodScheduled")["lastTransitionTime"] == NOW


@pytest.mark.parametrize(
    ("policy", "containers", "terminal", "phase"),
    [
        ("Always", [run("a"), run("b")], False, "Running"),
        ("Always", [run("a"), run("b", EXITED, 1)], False, "Running"),
        ("Always", [run("a", EXITED), run("b", EXITED)], False, "Running"),
        ("Always", [run("a", EXITED), run("b", EXITED)], True, "Succeeded"),
        ("OnFailure", [run("a", EXITED), run("b", EXITED, 1)], False, "Running"),
        ("OnFailure", [run("a", EXITED), run("b", EXITED)], False, "Succeeded"),
        ("Never", [run("a", EXITED), run("b", EXITED, 1)], False, "Failed"),
        ("Never", [run("a", EXITED), run("b")], False, "Running"),
        ("Never", [run("a")], False, "Pending"),
    ],
)
def test_phase(policy: str, containers: list[Any], terminal: bool, phase: str) -> None:
    wanted = pod("web", container("a"), container("b"), restartPolicy=policy)
    assert generate(wanted, observed(*containers), terminal=terminal)["phase"] == phase


def test_init_containers_keep_the_pod_pending() -> None:
    wanted = pod("web", initContainers=[container("i1")])
    status = generate(wanted, observed(run("i1")))
    assert status["phase"] == "Pending"
    initialized = condition(status, "Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [i1]"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    status = generate(wanted, observed(run("i1", EXITED), run("main")))
    assert (status["phase"], condition(status, "Initialized")["status"]) == ("Running", "True")


def test_a_container_that_waits_says_why_and_how_it_ended() -> None:
    reasons = {"main": Reason("CrashLoopBackOff", "back-off 10s")}
    status = generate(pod("web"), observed(run("main", EXITED, 2, reason="Error")), reasons=reasons)
    main = status["containerStatuses"][0]
    assert main["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert main["lastState"]["terminated"]["exitCode"] == 2


def test_a_container_that_has_vanished_counts_as_failed() -> None:
    before = generate(pod("web"), observed(run("main")))
    after = generate(pod("web"), observed(), before=before)
    main = after["containerStatuses"][0]
    assert main["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert (main["restartCount"], after["phase"]) == (1, "Running")


def test_readiness_gates() -> None:
    wanted = pod("web", readinessGates=[{"conditionType": "example.com/live"}])
    status = generate(wanted, observed(run("main")))
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    assert condition(status, "ContainersReady")["status"] == "True"
    wanted["status"] = {"conditions": [{"type": "example.com/live", "status": "True"}]}
    status = generate(wanted, observed(run("main")))
    assert condition(status, "Ready")["status"] == "True"
    assert status["conditions"][0]["type"] == "example.com/live"


def test_a_terminal_phase_is_never_left() -> None:
    wanted = pod("web", restartPolicy="Never")
    ended = generate(wanted, observed(run("main", EXITED, 1)))
    again = generate(wanted, observed(run("main")), before=ended)
    assert again["phase"] == "Failed"
    assert condition(again, "Ready")["reason"] == "PodFailed"


def test_a_pod_that_ended_keeps_its_address() -> None:
    from tiphys.kubelet.pod.observed import PodStatus

    alive = PodStatus("uid-web", ips=("10.0.0.1",), sandboxes=(sandbox(),), containers=(run("main"),))
    before = generate(pod("web"), alive)
    dead = PodStatus("uid-web", sandboxes=(sandbox(ready=False),), containers=(run("main", EXITED),))
    assert generate(pod("web"), dead, before=before)["podIP"] == "10.0.0.1"


def test_a_container_created_and_not_started_waits() -> None:
    status = generate(pod("web"), observed(run("main", ContainerState.CREATED)))
    assert status["containerStatuses"][0]["state"] == {"waiting": {}}


def test_the_patch_says_only_what_is_new() -> None:
    shown = pod("web")
    status = generate(shown, observed(run("main")))
    patch = status_patch(shown, status, could_run=True)
    assert patch is not None
    assert patch["metadata"] == {"uid": "uid-web"}
    assert {c["type"] for c in patch["status"]["conditions"]} == {c["type"] for c in status["conditions"]}
    shown["status"] = status
    assert status_patch(shown, status, could_run=True) is None
    later = generate(shown, observed(run("main", EXITED, 1)), before=status, now=LATER)
    patch = status_patch(shown, later, could_run=True)
    assert patch is not None
    assert {c["type"] for c in patch["status"]["conditions"]} == {"Ready", "ContainersReady"}


def test_a_pod_that_may_still_run_is_not_reported_as_ended() -> None:
    shown = pod("web", restartPolicy="Never")
    shown["status"] = generate(shown, observed(run("main")))
    ended = generate(shown, observed(run("main", EXITED)), before=shown["status"])
    held = status_patch(shown, ended, could_run=True)
    assert held is not None
    assert "phase" not in held["status"]
    sent = status_patch(shown, ended, could_run=False)
    assert sent is not None
    assert sent["status"]["phase"] == "Succeeded"


def test_conditions_of_others_are_left_alone() -> None:
    shown = pod("web")
    foreign = {"type": "example.com/live", "status": "True"}
    shown["status"] = {**generate(shown, observed(run("main"))), "conditions": [foreign]}
    patch = status_patch(shown, generate(shown, observed(run("main"))), could_run=True)
    assert patch is not None
    assert foreign not in patch["status"]["conditions"]
    assert not any("$patch" in c for c in patch["status"]["conditions"])


@pytest.mark.parametrize(
    ("containers", "sent", "kept"), [(48, 8192, 256), (3, 4097, 4096), (3, 4096, 4096), (1, 9000, 9000)]
)
def test_termination_messages_share_what_a_pod_may_say(containers: int, sent: int, kept: int) -> None:
    wanted = pod("web", *(container(f"c{i}") for i in range(containers)))
    ended = {"terminated": {"exitCode": 1, "message": "x" * sent}}
    given = {"containerStatuses": [{"name": f"c{i}", "state": ended, "lastState": ended} for i in range(containers)]}
    found = shortened(wanted, given)
    for one in found["containerStatuses"]:
        assert {len(one[state]["terminated"]["message"]) for state in ("state", "lastState")} == {kept}
        assert one["state"]["terminated"]["exitCode"] == 1
    assert (found is given) == (sent == kept)


def test_a_message_is_cut_by_bytes_and_all_kinds_of_containers_count() -> None:
    wanted = pod("web", container("a"), initContainers=[container("i")], ephemeralContainers=[container("e")])
    ended = {"terminated": {"exitCode": 1, "message": "é" * 3000}}
    given = {"initContainerStatuses": [{"name": "i", "state": {"waiting": {}}, "lastState": ended}], "phase": "Failed"}
    found = shortened(wanted, given)
    assert found["initContainerStatuses"][0]["lastState"]["terminated"]["message"] == "é" * 2048
    assert (found["initContainerStatuses"][0]["state"], found["phase"]) == ({"waiting": {}}, "Failed")
    assert shortened(wanted, {}) == {}

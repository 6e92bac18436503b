"""What the torture looks for: each fault is found in a state that has it."""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.kubelet.runtime.service import Container, ContainerState, Sandbox
from tiphys.testing.torture import inspection
from tiphys.testing.torture.identity import Identities
from tiphys.testing.torture.ledger import differences


def pod(uid: str, app: str = "deployment", phase: str = "Running", *, ready: bool = True) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    metadata = {"uid": uid, "name": f"pod-{uid}", "labels": {"app": app}}
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


def sandbox(uid: str, number: int = 1, *, ready: bool = True) -> Sandbox:
    return Sandbox(f"{uid}-{number}", f"pod-{uid}", "n", uid, 0, ready, 0.0)


def container(uid: str, number: int = 1, state: ContainerState = ContainerState.RUNNING) -> Container:
    return Container(f"c-{uid}-{number}", f"{uid}-{number}", "c", 0, state, 0.0)


def test_writes_that_are_lost_or_undone() -> None:
    assert differences({"a": "1", "b": None}, {"a": "1", "unanswered": "9"}) == []
    assert differences({"a": "2", "b": None, "c": "3"}, {"a": "1", "b": "1"}) == [
        "a was acknowledged as 2, and is 1",
        "b was acknowledged as deleted, and is 1",
        "c was acknowledged as 3, and is not there",
    ]


def test_workloads() -> None:
    workload: Object = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 2}}
    assert inspection.workload_faults(workload, "Deployment", [pod("1"), pod("2"), pod("3", "other")]) == []
    assert inspection.workload_faults(workload, "Deployment", [pod("1", ready=False)]) == [
        "deployment has 1 pods instead of 2",
        "pod pod-1 is not ready",
    ]
    workload["status"] = {"observedGeneration": 1}
    assert inspection.workload_faults(workload, "DaemonSet", [pod("1", "daemonset")]) == [
        "the status of daemonset is old"
    ]


def test_jobs() -> None:
    job: Object = {"metadata": {"name": "j"}, "status": {"completionTime": "t", "succeeded": 2}}
    assert inspection.job_faults(job) == []
    job["status"]["succeeded"] = 3
    assert inspection.job_faults(job) == ["j counts 3 completions instead of 2"]
    assert inspection.job_faults({"metadata": {"name": "j"}}) == ["j is not complete"]


def test_pods_that_run_twice_or_are_left_behind() -> None:
    whole = [pod("1"), pod("2", phase="Succeeded")]
    exited = container("2", state=ContainerState.EXITED)
    assert inspection.container_faults(whole, [sandbox("1"), sandbox("2")], [container("1"), exited]) == []
    assert inspection.container_faults(
        whole,
        [sandbox("1"), sandbox("1", 2), sandbox("2"), sandbox("gone")],
        [container("1"), container("1", 2), container("2")],
    ) == [
        "a sandbox of pod-gone is left behind",
        "pod pod-1 has 2 sandboxes",
        "pod pod-1 has 2 running containers",
        "pod pod-2 has ended and a container of it runs",
    ]
    assert inspection.container_faults([pod("1")], [sandbox("1", ready=False)], []) == [
        "pod pod-1 has 0 sandboxes",
        "pod pod-1 has 0 running containers",
    ]


def running(uid: str, identity: str, restarts: int = 0, **last: Any) -> Object:
    status = {
        "containerID": identity,
        "state": {"running": {}},
        "restartCount": restarts,
        "lastState": {"terminated": last} if last else {},
    }
    return {"metadata": {"uid": uid, "name": f"pod-{uid}"}, "status": {"containerStatuses": [status]}}


def test_containers_that_were_restarted_without_cause() -> None:
    identities = Identities()
    assert identities.faults([running("1", "a"), {"metadata": {"uid": "2", "name": "pod-2"}}]) == []
    identities.note([running("1", "a")])
    assert identities.faults([running("1", "a"), running("3", "c")]) == []
    assert identities.faults([running("1", "b")]) == ["pod pod-1 has another container than before"]
    never_ran = running("3", "d", 1, reason="StartError", exitCode=128)
    assert identities.faults([never_ran]) == []
    assert identities.faults([running("3", "d", 1, reason="Error", exitCode=137, startedAt="t")]) == [
        "the container of pod pod-3 was restarted; it had ended: Error, exit code 137"
    ]
    assert identities.seen == {"1", "2", "3"}

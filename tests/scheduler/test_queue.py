"""Which pod is next, and when one that failed is tried again."""

from __future__ import annotations

from typing import Any

from tests.scheduler.world import pod
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.podinfo import PodInfo, QueuedPod
from tiphys.scheduler.framework.status import Status, unresolvable
from tiphys.scheduler.plugins.priority_sort import PrioritySort
from tiphys.scheduler.plugins.scheduling_gates import SchedulingGates
from tiphys.scheduler.queue import QueuePlace, SchedulingQueue

NODE_ADDED = ClusterEvent(Resource.NODE, Action.ADD)
POD_DELETED = ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE)
GATES_GONE = ClusterEvent(Resource.POD, Action.GATES_GONE)


def gates(pod: PodInfo) -> Status | None:
    status = SchedulingGates().pre_enqueue(pod)
    return status.by("SchedulingGates") if status is not None else None


def make(hint: Any = lambda pod, old, new: True) -> SchedulingQueue:
    registrations = {
        "Fit": (Registration(POD_DELETED, hint),),
        "Taints": (Registration(NODE_ADDED),),
        "SchedulingGates": (Registration(GATES_GONE),),
    }
    return SchedulingQueue(PrioritySort().key, gates, registrations)


def info(name: str, **spec: Any) -> PodInfo:
    return PodInfo(pod(name, **spec))


def rejected(queue: SchedulingQueue, now: float, *plugins: str) -> QueuedPod:
    """Pop the next pod, and put it back as rejected by these plugins."""
    queued = queue.pop(now)
    assert queued is not None
    queued.unschedulable_plugins = set(plugins)
    queue.add_unschedulable(queued, now)
    return queued


def test_priority_then_age() -> None:
    queue = make()
    for at, name, priority in ((0, "old", 0), (1, "new", 0), (2, "vip", 5)):
        queue.add(info(name, priority=priority), at)
    assert [queue.pop(3).pod.name for _ in range(3)] == ["vip", "old", "new"]  # type: ignore[union-attr]
    assert queue.pop(3) is None


def test_only_events_that_help_bring_a_pod_back() -> None:
    queue = make()
    queue.add(info("p"), 0)
    rejected(queue, 0, "Fit")
    assert not queue.happened(NODE_ADDED, None, None, 5)
    assert queue.size(QueuePlace.UNSCHEDULABLE) == 1
    assert queue.happened(POD_DELETED, None, None, 5)
    assert queue.pop(5) is not None


def test_hints_are_asked() -> None:
    seen = []
    queue = make(lambda pod, old, new: seen.append((pod.name, old, new)) or False)
    queue.add(info("p"), 0)
    rejected(queue, 0, "Fit")
    assert not queue.happened(POD_DELETED, "old", None, 5)
    assert seen == [("p", "old", None)]


def test_back_off_doubles_up_to_ten_seconds() -> None:
    queue, now, waits = make(), 0.0, []
    queue.add(info("busy", priority=9), 0)
    queue.add(info("p"), 0)
    rejected(queue, 0, "Taints")
    for _ in range(6):
        queued = rejected(queue, now, "Fit")
        assert queued.pod.name == "p"
        queue.happened(POD_DELETED, None, None, now)
        assert queue.size(QueuePlace.BACKOFF) == 1
        wakeup = queue._backoff_ends(queued)
        waits.append(wakeup - now)
        now = wakeup
        queue.flush(now)
        assert queue.size(QueuePlace.ACTIVE) == 1
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_pod_that_backs_off_is_tried_where_nothing_else_is_to_do() -> None:
    queue = make()
    queue.add(info("p"), 0)
    rejected(queue, 0, "Fit")
    queue.happened(POD_DELETED, None, None, 0)
    assert queue.size(QueuePlace.BACKOFF) == 1
    queue.add(info("other"), 0)
    assert [queue.pop(0).pod.name for _ in range(2)] == ["other", "p"]  # type: ignore[union-attr]


def test_errors_back_off_without_waiting_for_events_but_are_not_hurried() -> None:
    queue = make()
    queue.add(info("p"), 0)
    rejected(queue, 0)
    assert queue.size(QueuePlace.BACKOFF) == 1
    assert queue.pop(0.5) is None
    assert queue.next_wakeup() == 1
    queue.flush(1)
    assert queue.pop(1) is not None


def test_after_five_minutes_it_is_tried_in_any_case() -> None:
    queue = make()
    queue.add(info("p"), 0)
    queue.flush(0)
    rejected(queue, 0, "Fit")
    queue.flush(299)
    assert queue.size(QueuePlace.UNSCHEDULABLE) == 1
    queue.flush(330)
    assert queue.pop(330) is not None


def test_gated_pods_stay_out_until_the_gates_go() -> None:
    queue = make()
    queue.add(info("p", schedulingGates=[{"name": "wait"}]), 0)
    assert queue.pop(0) is None
    assert not queue.happened(POD_DELETED, None, None, 1)
    queue.flush(1000)
    assert queue.pop(1000) is None
    queue.update(info("p"), [GATES_GONE], 1001)
    assert queue.pop(1001) is not None


def test_an_update_that_does_not_help_only_replaces_the_pod() -> None:
    queue = make()
    queue.add(info("p"), 0)
    rejected(queue, 0, "Fit")
    queue.update(info("p", labels={"a": "b"}), [ClusterEvent(Resource.POD, Action.UPDATE_LABEL)], 5)
    assert queue.size(QueuePlace.UNSCHEDULABLE) == 1
    queue.happened(POD_DELETED, None, None, 5)
    popped = queue.pop(5)
    assert popped is not None
    assert popped.pod.labels == {"a": "b"}


def test_deleted_pods_are_gone_from_everywhere() -> None:
    queue = make()
    for name in ("a", "b", "c"):
        queue.add(info(name), 0)
    rejected(queue, 0, "Fit")
    rejected(queue, 0)
    for name in ("a", "b", "c"):
        queue.delete(f"uid-{name}")
    queue.flush(1000)
    assert queue.pop(1000) is None
    assert len(queue) == 0
    assert [queue.size(place) for place in QueuePlace] == [0, 0, 0]


def test_pre_enqueue_is_asked_again_for_pods_that_come_back() -> None:
    closed = False

    def pre_enqueue(pod: PodInfo) -> Status | None:
        return unresolvable("closed").by("Gate") if closed else None

    queue = SchedulingQueue(PrioritySort().key, pre_enqueue, {"Fit": (Registration(POD_DELETED),)})
    queue.add(info("p"), 0)
    rejected(queue, 0, "Fit")
    closed = True
    queue.happened(POD_DELETED, None, None, 60)
    assert queue.pop(60) is None

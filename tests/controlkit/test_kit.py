"""Expectations, adoption, correlation of events, order of deletion: the pure parts of the kit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claim, claim
from tiphys.controlkit.eventcorrelation import Correlator, Happening
from tiphys.controlkit.expectations import Expectations
from tiphys.controlkit.objects import equal, key_of, split_key
from tiphys.controlkit.podcontrol import slow_start

NOW = 1_767_225_600.0


class FixedClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


def stamp(ago: float) -> str:
    from tiphys.controlkit.objects import timestamp

    return timestamp(NOW - ago)


# Keys and equality


def test_keys_go_both_ways() -> None:
    assert key_of({"metadata": {"namespace": "a", "name": "b"}}) == "a/b"
    assert key_of({"metadata": {"name": "b"}}) == "b"
    assert split_key("a/b") == ("a", "b")
    assert split_key("b") == ("", "b")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({}, {"a": None}, True),
        ({"a": []}, {}, True),
        ({"labels": {}}, {}, True),
        ({"emptyDir": {}}, {}, False),
        ({"a": [{"b": 1, "c": None}]}, {"a": [{"b": 1}]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": "1"}, {"a": 1}, False),
    ],
)
def test_absent_null_and_empty_are_one(left: Object, right: Object, same: bool) -> None:
    assert equal(left, right) is same
    assert equal(right, left) is same


# Expectations


def test_expectations_are_fulfilled_by_what_is_observed() -> None:
    expectations = Expectations(FixedClock())
    assert expectations.satisfied("k")
    expectations.expect("k", 2, ["a/x"])
    assert not expectations.satisfied("k")
    expectations.creation_observed("k")
    expectations.creation_observed("k")
    assert not expectations.satisfied("k")
    expectations.deletion_observed("k", "a/other")
    assert not expectations.satisfied("k")
    expectations.deletion_observed("k", "a/x")
    assert expectations.satisfied("k")


def test_expectations_time_out_after_five_minutes() -> None:
    clock = FixedClock()
    expectations = Expectations(clock)
    expectations.expect_creations("k", 1)
    clock.time += 299
    assert not expectations.satisfied("k")
    clock.time += 2
    assert expectations.satisfied("k")


# Adoption


def obj(uid: str = "", owner: str = "", namespace: str = "ns", *, deleting: bool = False) -> Object:
    meta: Object = {"name": uid, "namespace": namespace, "uid": uid}
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True, "kind": "K", "name": owner}]
    if deleting:
        meta["deletionTimestamp"] = stamp(0)
    return {"metadata": meta}


@pytest.mark.parametrize(
    ("owner", "found", "matching", "decision"),
    [
        (obj("me"), obj("x", owner="me"), True, Claim.KEEP),
        (obj("me"), obj("x", owner="me"), False, Claim.RELEASE),
        (obj("me", deleting=True), obj("x", owner="me"), False, Claim.IGNORE),
        (obj("me"), obj("x", owner="other"), True, Claim.IGNORE),
        (obj("me"), obj("x"), True, Claim.ADOPT),
        (obj("me"), obj("x"), False, Claim.IGNORE),
        (obj("me"), obj("x", deleting=True), True, Claim.IGNORE),
        (obj("me", deleting=True), obj("x"), True, Claim.IGNORE),
        (obj("me"), obj("x", namespace="elsewhere"), True, Claim.IGNORE),
    ],
)
def test_claim(owner: Object, found: Object, matching: bool, decision: Claim) -> None:
    assert claim(owner, found, matches=matching) is decision


# Events


def happening(message: str = "m", reason: str = "R", at: float = NOW, name: str = "pod.1") -> Happening:
    involved = {"kind": "Pod", "namespace": "ns", "name": "pod", "uid": "u", "apiVersion": "v1"}
    return Happening("c", "h", involved, "Normal", reason, message, at, name)


def test_a_repeated_event_is_counted_under_its_first_name() -> None:
    correlator = Correlator()
    first = correlator.correlate(happening(name="pod.1"))
    second = correlator.correlate(happening(name="pod.2", at=NOW + 5))
    assert first is not None
    assert second is not None
    assert (first.count, second.count) == (1, 2)
    assert second.happening.name == "pod.1"
    assert second.first == NOW


def test_the_tenth_similar_event_is_combined() -> None:
    correlator = Correlator()
    records = [correlator.correlate(happening(f"message {n}", name=f"pod.{n}")) for n in range(12)]
    assert all(record is not None and record.count == 1 for record in records[:9])
    combined = records[9]
    assert combined is not None
    assert combined.happening.message == "(combined from similar events): message 9"
    assert records[11] is not None
    assert records[11].count == 3
    assert records[11].happening.name == combined.happening.name


def test_similar_events_far_apart_are_not_combined() -> None:
    correlator = Correlator()
    for n in range(9):
        correlator.correlate(happening(f"message {n}"))
    late = correlator.correlate(happening("late", at=NOW + 601))
    assert late is not None
    assert late.happening.message == "late"


def test_after_25_events_about_one_object_the_rest_is_dropped_until_five_minutes_passed() -> None:
    correlator = Correlator()
    kept = [correlator.correlate(happening("m", reason=f"R{n}")) for n in range(30)]
    assert [record is not None for record in kept] == [True] * 25 + [False] * 5
    assert correlator.correlate(happening("m", reason="later", at=NOW + 299)) is None
    assert correlator.correlate(happening("m", reason="latest", at=NOW + 601)) is not None


# Pods


def pod(name: str, **fields: Any) -> Object:
    conditions = []
    ready = fields.get("ready")
    if ready is not None:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": stamp(ready)})
    status: Object = {"phase": fields.get("phase", "Running"), "conditions": conditions}
    if "restarts" in fields:
        status["containerStatuses"] = [{"name": "c", "restartCount": fields["restarts"]}]
    meta: Object = {"name": name, "uid": name, "namespace": "ns", "creationTimestamp": stamp(fields.get("age", 100))}
    if "cost" in fields:
        meta["annotations"] = {podkit.DELETION_COST: fields["cost"]}
    return {"metadata": meta, "spec": {"nodeName": fields.get("node", "n")}, "status": status}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("b", node=""), pod("a", ready=10)),
        (pod("b", phase="Pending"), pod("a", phase="Unknown")),
        (pod("b", phase="Unknown"), pod("a", phase="Running")),
        (pod("b"), pod("a", ready=10)),
        (pod("b", ready=500, cost="-5"), pod("a", ready=1)),
        (pod("b", ready=500), pod("a", ready=1, cost="3")),
        (pod("b", ready=1), pod("a", ready=10_000)),
        (pod("b", restarts=3), pod("a", restarts=1)),
        (pod("b", age=1), pod("a", age=10_000)),
    ],
)
def test_which_pod_is_deleted_first(first: Object, second: Object) -> None:
    for pods in ([first, second], [second, first]):
        assert podkit.sort_for_deletion(pods, [], NOW)[0] is first


def test_pods_ready_about_equally_long_are_chosen_by_uid() -> None:
    pods = [pod("b", ready=1000), pod("a", ready=1023)]
    assert [p["metadata"]["name"] for p in podkit.sort_for_deletion(pods, [], NOW)] == ["a", "b"]


def test_on_a_crowded_node_pods_go_first() -> None:
    crowd = [pod("x", node="full"), pod("y", node="full")]
    pods = [pod("a", node="n", ready=5), pod("b", node="full", ready=5000)]
    assert podkit.sort_for_deletion(pods, [*crowd, *pods], NOW)[0]["metadata"]["name"] == "b"


@pytest.mark.parametrize(
    ("text", "cost"), [("5", 5), ("-5", -5), ("+5", 0), ("05", 0), ("0", 0), ("x", 0), ("99999999999", 0), ("", 0)]
)
def test_deletion_cost(text: str, cost: int) -> None:
    assert podkit.deletion_cost({"metadata": {"annotations": {podkit.DELETION_COST: text}}}) == cost


def test_availability_waits_for_min_ready_seconds() -> None:
    ready = pod("a", ready=10)
    assert podkit.is_available(ready, 0, NOW)
    assert podkit.is_available(ready, 10, NOW)
    assert not podkit.is_available(ready, 11, NOW)
    assert podkit.next_availability_check([ready, pod("b")], 30, NOW) == 20
    assert podkit.next_availability_check([ready], 5, NOW) is None


def test_slow_start_stops_after_the_batch_that_fails() -> None:
    started: list[int] = []

    async def action(number: int) -> None:
        started.append(number)
        if number >= 4:
            raise ValueError(number)

    succeeded, failure = asyncio.run(slow_start(50, action))
    assert sorted(started) == list(range(7))  # 1 + 2 + 4
    assert succeeded == 4
    assert isinstance(failure, ValueError)

"""Decisions of the other controllers, one by one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api.object import Object
from tiphys.api.pods.claimquota import SPECIAL_CLAIM, DeviceNames
from tiphys.controlkit.objects import timestamp
from tiphys.controllers import podgc
from tiphys.controllers.command import configuration, parser
from tiphys.controllers.cronjob import times
from tiphys.controllers.cronjob.schedule import parse
from tiphys.controllers.job.indexes import Indexes
from tiphys.controllers.job.policies import Backoff, judge_failure
from tiphys.controllers.manager import UnknownController, select
from tiphys.controllers.network import endpoints, servicecidrs
from tiphys.controllers.network.endpointslice.plan import plan
from tiphys.controllers.nodes import ttl as nodettl
from tiphys.controllers.nodes.ipam import CIDRSet, NoFreeCIDR
from tiphys.controllers.nodes.lifecycle import health
from tiphys.controllers.nodes.lifecycle.health import ZoneState
from tiphys.controllers.nodes.lifecycle.tainter import ZoneQueue
from tiphys.controllers.nodes.taints import eviction_delay
from tiphys.controllers.registry import CONTROLLERS
from tiphys.controllers.resourcequota import calculate, kinds_of
from tiphys.controllers.statefulset import claims
from tiphys.runtime.component import CannotStart

NOW = 1_767_225_600.0  # Thursday, 2026-01-01T00:00:00Z


# Jobs: indexes, back-off, failure policy


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(0, 20), st.integers(1, 61))
def test_indexes_are_a_set(left: set[int], right: set[int], count: int, limit: int) -> None:
    indexes = Indexes().add(left)
    assert indexes.total() == len(left)
    assert {n for n in range(61) if n in indexes} == left
    assert Indexes.parse(str(indexes), 61) == indexes
    assert Indexes.parse(str(indexes), limit).total() == len([n for n in left if n < limit])
    other = Indexes().add(right)
    assert indexes.merge(other) == Indexes().add(left | right)
    assert indexes.common(other) == len(left & right)
    assert indexes.first_missing(count, limit) == [n for n in range(limit) if n not in left][:count]


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((1,), "1"), ((1, 2), "1,2"), ((1, 2, 3), "1-3"), ((0, 2, 3, 4, 9), "0,2-4,9")]
)
def test_indexes_are_written_as_intervals(numbers: tuple[int, ...], text: str) -> None:
    assert str(Indexes().add(numbers)) == text


@pytest.mark.parametrize(
    ("failures", "ago", "remaining"), [(0, 0, 0), (1, 0, 10), (1, 4, 6), (2, 0, 20), (3, 50, 0), (30, 0, 600)]
)
def test_job_back_off(failures: int, ago: float, remaining: float) -> None:
    assert Backoff(failures, NOW - ago).remaining(NOW) == remaining


def failed(code: int = 1, container: str = "main", **condition: str) -> Object:
    status: Object = {"containerStatuses": [{"name": container, "state": {"terminated": {"exitCode": code}}}]}
    if condition:
        status["conditions"] = [condition]
    return {"metadata": {"name": "p", "namespace": "ns"}, "status": status}


@pytest.mark.parametrize(
    ("rule", "pod", "counts", "action", "message"),
    [
        (
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [5, 42]}},
            failed(42),
            True,
            "FailJob",
            "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 0",
        ),
        ({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [5]}}, failed(42), True, None, ""),
        ({"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [5]}}, failed(42), False, "Ignore", ""),
        (
            {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [5], "containerName": "x"}},
            failed(42),
            True,
            None,
            "",
        ),
        (
            {"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            failed(type="DisruptionTarget", status="True"),
            True,
            "FailIndex",
            "",
        ),
    ],
)
def test_pod_failure_policy(rule: Object, pod: Object, counts: bool, action: str | None, message: str) -> None:
    verdict = judge_failure({"rules": [rule]}, pod)
    assert (verdict.counts, verdict.action, verdict.message) == (counts, action, message)


# Cron


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "following"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("* * * * *", "2026-01-01T00:00:59", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:00:00"),
        ("0 2 29 2 *", "2026-01-01T00:00:00", "2028-02-29T02:00:00"),
        ("30 3 * * mon-fri", "2026-01-02T04:00:00", "2026-01-05T03:30:00"),
        ("0 0 1 * 0", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),  # both restricted: either
        ("0 0 ? * SUN", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("59 23 31 dec *", "2026-12-31T23:59:00", "2027-12-31T23:59:00"),
        ("10-20/5,40 6 * * *", "2026-01-01T06:16:00", "2026-01-01T06:20:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("@every 90s", "2026-01-01T00:00:10", "2026-01-01T00:01:40"),
        ("TZ=Asia/Kolkata 0 6 * * *", "2026-01-01T00:00:00", "2026-01-01T00:30:00"),
    ],
)
def test_next_time(schedule: str, after: str, following: str) -> None:
    assert parse(schedule).next(utc(after)) == utc(following)


def test_a_day_that_never_comes() -> None:
    assert parse("0 0 30 2 *").next(NOW) is None


def test_daylight_saving() -> None:
    berlin = parse("30 2 * * *", "Europe/Berlin")  # 02:30 does not exist on 2026-03-29
    assert berlin.next(utc("2026-03-28T01:31:00")) != utc("2026-03-29T01:30:00")
    assert parse("0 12 * * *", "Europe/Berlin").next(utc("2026-03-28T11:30:00")) == utc("2026-03-29T10:00:00")


@pytest.mark.parametrize(
    ("created", "last", "deadline", "due", "missed"),
    [
        (NOW - 30, None, None, NOW, 0),
        (NOW - 90, None, None, NOW, 2),
        (NOW - 7200, NOW - 60, None, NOW, 0),
        (NOW - 100 * 60 - 30, None, None, NOW, 101),
        (NOW - 7200, None, 90, NOW, 2),
    ],
)
def test_what_is_due(created: float, last: float | None, deadline: int | None, due: float, missed: int) -> None:
    spec = {"startingDeadlineSeconds": deadline}
    status = {"lastScheduleTime": timestamp(last)} if last else {}
    job = {"metadata": {"creationTimestamp": timestamp(created)}, "spec": spec, "status": status}
    found = times.most_recent(job, parse("* * * * *"), NOW, with_deadline=True)
    assert (found.time, found.missed) == (due, missed)


# Nodes


def node(ready: str | None = "True", beat: float = 0, **spec: Any) -> Object:
    conditions = []
    if ready is not None:
        heard = timestamp(NOW - beat)
        conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": heard, "lastTransitionTime": heard}]
    return {
        "metadata": {"name": "n", "creationTimestamp": timestamp(NOW)},
        "spec": spec,
        "status": {"conditions": conditions},
    }


def lease(ago: float) -> Object:
    return {"spec": {"renewTime": timestamp(NOW - ago)}}


def test_a_node_is_unknown_after_the_grace_period_without_heartbeat() -> None:
    first = health.judge(None, node(), None, NOW, 50, 60)
    assert (first.observed, first.current, first.status) == ("True", "True", None)
    still = health.judge(first.health, node(), None, NOW + 50, 50, 60)
    assert still.status is None
    late = health.judge(still.health, node(), None, NOW + 51, 50, 60)
    assert late.current == "Unknown"
    assert late.status is not None
    found = {c["type"]: (c["status"], c["reason"]) for c in late.status["conditions"]}
    assert found["Ready"] == ("Unknown", "NodeStatusUnknown")
    assert found["MemoryPressure"] == ("Unknown", "NodeStatusNeverUpdated")


def test_a_renewed_lease_keeps_the_node_alive() -> None:
    known = health.judge(None, node(), lease(0), NOW, 50, 60).health
    renewed = health.judge(known, node(), lease(-40), NOW + 45, 50, 60)
    assert renewed.status is None
    assert health.judge(renewed.health, node(), lease(-40), NOW + 90, 50, 60).status is None
    assert health.judge(renewed.health, node(), lease(-40), NOW + 96, 50, 60).status is not None


def test_a_new_node_has_the_startup_grace_period() -> None:
    first = health.judge(None, node(None), None, NOW + 60, 50, 60)
    assert (first.current, first.status) == (None, None)
    late = health.judge(first.health, node(None), None, NOW + 61, 50, 60)
    assert late.status is not None
    assert {c["reason"] for c in late.status["conditions"]} == {"NodeStatusNeverUpdated"}


@pytest.mark.parametrize(
    ("found", "add", "remove"),
    [
        (node("True"), [], []),
        (node("False"), ["not-ready"], []),
        (node("Unknown"), ["unreachable"], []),
        (node("True", unschedulable=True), ["unschedulable"], []),
        (node("True", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]), [], ["not-ready"]),
        (node("True", taints=[{"key": "mine", "effect": "NoSchedule"}]), [], []),
        (node("False", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), ["not-ready"], []),
    ],
)
def test_no_schedule_taints(found: Object, add: list[str], remove: list[str]) -> None:
    wanted, stale = health.no_schedule_changes(found)
    assert [key for key, _ in wanted] == [f"node.kubernetes.io/{key}" for key in add]
    assert [key for key, _ in stale] == [f"node.kubernetes.io/{key}" for key in remove]


@pytest.mark.parametrize(
    ("ready", "state"),
    [
        ([], ZoneState.NORMAL),
        ([True, False], ZoneState.NORMAL),
        ([False], ZoneState.FULL),
        ([False, False, True], ZoneState.NORMAL),  # too few to tell
        ([False, False, False, True, True], ZoneState.PARTIAL),
        ([False, False, False, True, True, True], ZoneState.NORMAL),
    ],
)
def test_zone_state(ready: list[bool], state: ZoneState) -> None:
    assert health.zone_state(ready, 0.55) is state


def test_nodes_are_tainted_at_the_zones_rate() -> None:
    queue = ZoneQueue(0.1, 0)
    assert [queue.add(name) for name in ("a", "b", "a")] == [True, True, False]
    assert queue.take(0) == "a"
    assert queue.take(5) is None
    assert queue.delay(5) == pytest.approx(5)
    assert queue.take(10) == "b"
    assert not queue.add("a")
    assert queue.remove("a")
    assert queue.add("a")
    queue.set_rate(0, 30)
    assert queue.take(100) is None


NO_EXECUTE = {"key": "k", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("tolerations", "delay"),
    [
        ([], 0),
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 300}], 300),
        ([{"key": "k", "value": "v", "tolerationSeconds": 0}], 0),
        ([{"key": "k", "value": "v", "tolerationSeconds": -5}], 0),
    ],
)
def test_eviction_delay(tolerations: list[Object], delay: float | None) -> None:
    assert eviction_delay([NO_EXECUTE], tolerations) == delay


# Node addresses


def test_blocks_are_given_out_in_turn_and_come_back() -> None:
    import ipaddress

    blocks = CIDRSet(ipaddress.ip_network("10.244.0.0/22"), 24)
    blocks.occupy(ipaddress.ip_network("10.244.1.0/25"))
    assert [str(blocks.allocate()) for _ in range(3)] == ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"]
    with pytest.raises(NoFreeCIDR):
        blocks.allocate()
    blocks.release(ipaddress.ip_network("10.244.2.0/24"))
    assert str(blocks.allocate()) == "10.244.2.0/24"
    with pytest.raises(ValueError, match="wider"):
        CIDRSet(ipaddress.ip_network("10.0.0.0/24"), 16)


# Endpoints and slices


def service(**spec: Any) -> Object:
    base = {"clusterIP": "10.96.0.5", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "http"}]}
    return {"metadata": {"name": "web", "namespace": "ns", "uid": "svc"}, "spec": base | spec}


def pod(name: str, ip: str, port: int = 8080, *, ready: bool = True, **meta: Any) -> Object:
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    status |= {"conditions": [{"type": "Ready", "status": str(ready)}]}  # type: ignore[dict-item]
    containers = [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, **meta},
        "spec": {"nodeName": "n", "containers": containers},
        "status": status,
    }


def test_addresses_with_the_same_ports_share_a_subset() -> None:
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False), pod("c", "10.0.0.3", port=9090)]
    subsets = endpoints.subsets_for(service(), pods)
    found = [
        (
            [address["ip"] for address in subset.get("addresses", ())],
            [address["ip"] for address in subset.get("notReadyAddresses", ())],
            [port["port"] for port in subset["ports"]],
        )
        for subset in subsets
    ]
    assert sorted(found) == [(["10.0.0.1"], ["10.0.0.2"], [8080]), (["10.0.0.3"], [], [9090])]
    both = service(ports=[{"name": "x", "port": 1, "targetPort": 1}, {"name": "y", "port": 2, "targetPort": 2}])
    (subset,) = endpoints.subsets_for(both, pods[:1])
    assert [port["port"] for port in subset["ports"]] == [1, 2]


def test_too_many_addresses_are_cut_ready_ones_first() -> None:
    subsets = [
        {"addresses": [{"ip": str(n)} for n in range(6)], "notReadyAddresses": [{"ip": f"u{n}"} for n in range(6)]},
        {"addresses": [{"ip": f"b{n}"} for n in range(2)]},
    ]
    assert endpoints.truncate(subsets, 10)
    assert [len(subset["addresses"]) for subset in subsets] == [6, 2]
    assert len(subsets[0]["notReadyAddresses"]) == 2
    assert not endpoints.truncate(subsets, 10)


NODE = {"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}


def make_plan(svc: Object, pods: list[Object], existing: list[Object], per_slice: int = 3) -> Any:
    planned, skipped = plan(svc, pods, existing, lambda name: NODE if name == "n" else None, per_slice)
    assert not skipped
    return planned


def settle(planned: Any, existing: list[Object]) -> list[Object]:
    """The slices after a plan was carried out."""
    changed = {found["metadata"]["name"]: found for found in planned.update}
    doomed = {found["metadata"]["name"] for found in planned.delete}
    kept = [changed.get(f["metadata"]["name"], f) for f in existing if f["metadata"]["name"] not in doomed]
    for made in planned.create:
        number = len(kept) + 100 * len(existing)
        kept.append({**made, "metadata": {**made["metadata"], "name": f"web-{number}"}})
    return kept


def test_a_service_without_pods_has_one_empty_slice() -> None:
    planned = make_plan(service(), [], [])
    (made,) = planned.create
    assert made["endpoints"] == []
    slices = settle(planned, [])
    again = make_plan(service(), [], slices)
    assert (again.create, again.update, again.delete) == ([], [], [])


def test_slices_are_filled_and_changed_as_little_as_possible() -> None:
    pods = [pod(f"p{n}", f"10.0.0.{n}") for n in range(7)]
    slices = settle(make_plan(service(), pods, []), [])
    assert sorted(len(found["endpoints"]) for found in slices) == [1, 3, 3]
    more = make_plan(service(), [*pods, pod("p7", "10.0.0.7")], slices)
    assert (len(more.create), len(more.update), len(more.delete)) == (0, 1, 0)
    slices = settle(more, slices)
    unready = [*pods[:3], pod("p3", "10.0.0.3", ready=False), *pods[4:], pod("p7", "10.0.0.7")]
    changed = make_plan(service(), unready, slices)
    assert (len(changed.create), len(changed.update), len(changed.delete)) == (0, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=25))
def test_slices_always_hold_exactly_the_pods(changes: list[tuple[int, bool]]) -> None:
    slices: list[Object] = []
    present: dict[int, Object] = {}
    for number, there in changes:
        if there:
            present[number] = pod(f"p{number}", f"10.0.0.{number}")
        else:
            present.pop(number, None)
        slices = settle(make_plan(service(), list(present.values()), slices), slices)
        addresses = [e["addresses"][0] for found in slices for e in found["endpoints"]]
        assert sorted(addresses) == sorted(found["status"]["podIP"] for found in present.values())
        assert all(len(found["endpoints"]) <= 3 for found in slices)


def test_a_service_may_publish_pods_that_are_not_ready() -> None:
    unready = pod("a", "10.0.0.1", ready=False)
    for publish in (False, True):
        planned = make_plan(service(publishNotReadyAddresses=publish), [unready], [])
        ((described,),) = [slice_["endpoints"] for slice_ in planned.create]
        assert described["conditions"] == {"ready": publish, "serving": False, "terminating": False}


def test_conditions_of_a_terminating_pod() -> None:
    leaving = pod("a", "10.0.0.1", deletionTimestamp=timestamp(NOW))
    (made,) = make_plan(service(), [leaving], []).create
    assert made["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert made["endpoints"][0]["zone"] == "z"
    close = make_plan(service(trafficDistribution="PreferClose"), [pod("a", "10.0.0.1")], []).create[0]
    assert close["endpoints"][0]["hints"] == {"forZones": [{"name": "z"}]}


# The rest


def finished(name: str, age: float, **status: Any) -> Object:
    meta = {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": timestamp(NOW - age)}
    return {"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Failed", **status}}


def test_the_oldest_finished_pods_go_and_evicted_ones_first() -> None:
    pods = [finished("a", 30), finished("b", 20), finished("c", 10, reason="Evicted")]
    assert [v.pod["metadata"]["name"] for v in podgc.surplus_terminated(pods, 1)] == ["c", "a"]
    assert podgc.surplus_terminated(pods, 0) == []


@pytest.mark.parametrize(
    ("step", "nodes", "expected"), [(0, 100, 0), (0, 101, 1), (1, 95, 1), (1, 89, 0), (0, 5000, 4)]
)
def test_ttl_steps_overlap(step: int, nodes: int, expected: int) -> None:
    assert nodettl.next_step(step, nodes) == expected


@pytest.mark.parametrize(
    ("constraint", "kinds"),
    [
        ("pods", {("", "pods")}),
        ("requests.cpu", {("", "pods")}),
        ("requests.example.com/gpu", {("", "pods"), ("resource.k8s.io", "resourceclaims")}),
        ("gpu.deviceclass.resource.k8s.io/devices", {("resource.k8s.io", "resourceclaims")}),
        ("count/deployments.apps", {("apps", "deployments")}),
        ("count/secrets", {("", "secrets")}),
        ("services.nodeports", {("", "services")}),
        ("requests.storage", {("", "persistentvolumeclaims")}),
        ("gold.storageclass.storage.k8s.io/requests.storage", {("", "persistentvolumeclaims")}),
        ("nonsense", set()),
    ],
)
def test_what_a_constraint_is_about(constraint: str, kinds: set[tuple[str, str]]) -> None:
    assert kinds_of(constraint) == kinds


def test_quota_counts_devices_of_claims_and_of_pods_once() -> None:
    requests = [{"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}]
    meta = {"name": "c", "namespace": "ns"}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    special = {"annotations": {SPECIAL_CLAIM: "true"}, "ownerReferences": [owner], "name": "s", "namespace": "ns"}
    claims: list[Object] = [{"metadata": m, "spec": {"devices": {"requests": requests}}} for m in (meta, special)]
    asked = {"requests": {"example.com/gpu": "2"}, "limits": {"example.com/gpu": "2"}}
    pod: Object = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": asked}]},
    }
    hard = dict.fromkeys(
        ("gpu.deviceclass.resource.k8s.io/devices", "requests.example.com/gpu", "requests.x.com/y"), "9"
    )
    objects = {("", "pods"): [pod], ("resource.k8s.io", "resourceclaims"): claims}
    devices = DeviceNames({"gpu": "example.com/gpu"}, lambda *_: pod, lambda *_: claims[1:])
    used = calculate({"spec": {"hard": hard}}, objects, NOW, devices)
    assert used == {
        "gpu.deviceclass.resource.k8s.io/devices": "4",
        "requests.example.com/gpu": "4",
        "requests.x.com/y": "0",
    }


def test_quota_usage_adds_up_what_is_in_scope() -> None:
    def asking(cpu: str, phase: str = "Running") -> Object:
        resources = {"requests": {"cpu": cpu}}
        spec = {"containers": [{"name": "c", "resources": resources}]}
        return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec, "status": {"phase": phase}}

    quota = {"spec": {"hard": {"pods": "5", "requests.cpu": "2", "count/pods": "9"}}}
    pods = [asking("500m"), asking("1"), asking("3", "Succeeded")]
    used = calculate(quota, {("", "pods"): pods}, NOW)
    assert used == {"pods": "2", "requests.cpu": "1500m", "count/pods": "3"}
    quota["spec"]["scopes"] = ["BestEffort"]  # type: ignore[assignment]
    assert calculate(quota, {("", "pods"): pods}, NOW) == {"pods": "0", "requests.cpu": "0", "count/pods": "0"}


@pytest.mark.parametrize(
    ("deleted", "scaled", "ordinal", "owners"),
    [
        ("Retain", "Retain", 0, []),
        ("Delete", "Retain", 0, ["StatefulSet"]),
        ("Retain", "Delete", 0, []),
        ("Retain", "Delete", 5, ["Pod"]),
        ("Delete", "Delete", 0, ["StatefulSet"]),
        ("Delete", "Delete", 5, ["Pod"]),
    ],
)
def test_claim_owners_follow_the_retention_policy(deleted: str, scaled: str, ordinal: int, owners: list[str]) -> None:
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    owner = {
        "metadata": {"name": "db", "namespace": "ns", "uid": "set"},
        "spec": {"replicas": 3, "persistentVolumeClaimRetentionPolicy": policy},
    }
    member = {"metadata": {"name": f"db-{ordinal}", "namespace": "ns", "uid": "pod"}}
    claim: Object = {"metadata": {"name": f"data-db-{ordinal}", "namespace": "ns"}}
    wanted = claims.with_owners(claim, owner, member)
    assert [reference["kind"] for reference in wanted["metadata"]["ownerReferences"]] == owners
    assert claims.is_current(wanted, owner, member)
    assert claims.is_current(claim, owner, member) is (not owners)


def test_a_service_cidr_may_go_when_no_address_is_left_alone() -> None:
    def cidr(name: str, text: str) -> Object:
        return {"metadata": {"name": name}, "spec": {"cidrs": [text]}}

    labels = {servicecidrs.MANAGED_BY: servicecidrs.ALLOCATOR}
    address = {"metadata": {"name": "10.1.0.5", "labels": labels}}
    small, large = cidr("small", "10.1.0.0/24"), cidr("large", "10.0.0.0/8")
    assert servicecidrs.may_go(small, [small, large], [address])
    assert not servicecidrs.may_go(small, [small], [address])
    assert servicecidrs.may_go(small, [small], [])


# The manager and its flags


def test_choosing_controllers() -> None:
    known = ["a", "b", "c"]
    assert select(["*"], known, ["c"]) == ["a", "b"]
    assert select(["*", "-a"], known, ["c"]) == ["b"]
    assert select(["*", "c"], known, ["c"]) == ["a", "b", "c"]
    assert select(["b"], known, []) == ["b"]
    missing = "storageversion-garbage-collector-controller"
    assert select(["*", f"-{missing}"], known, []) == ["a", "b", "c"]
    with pytest.raises(UnknownController, match=f"upstream's {missing} is not supported"):
        select(["*", missing], known, [])
    with pytest.raises(UnknownController, match='"x" is not in the list of known controllers'):
        select(["x"], known, [])


@pytest.mark.parametrize(
    ("cluster", "authority"),
    [
        ({"certificate-authority-data": "cGVt"}, b"pem"),
        ({"certificate-authority": "ca.crt"}, b"from the file"),
        ({"insecure-skip-tls-verify": True}, b""),
    ],
)
def test_pods_trust_whom_the_kubeconfig_trusts(tmp_path: Any, cluster: dict[str, Any], authority: bytes) -> None:
    (tmp_path / "ca.crt").write_bytes(b"from the file")
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1", **cluster}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    config = configuration(parser().parse([f"--kubeconfig={tmp_path}/kubeconfig", "--leader-elect=false"]), parser())
    assert config.root_ca == authority
    assert CONTROLLERS["root-ca-certificate-publisher-controller"].needed(config)


def test_flags(tmp_path: Any) -> None:
    (tmp_path / "ca.crt").write_bytes(b"pem")
    words = ["--kubeconfig=k", "--concurrent-gc-syncs=3", "--node-monitor-grace-period=1m10s", "--leader-elect=false"]
    words += [f"--root-ca-file={tmp_path}/ca.crt", "--controllers=*,-job-controller"]
    config = configuration(parser().parse(words), parser())
    assert config.concurrent_gc_syncs == 3
    assert config.node_monitor_grace_period == 70
    assert config.leader_election is None
    assert config.root_ca == b"pem"
    assert config.controllers == ("*", "-job-controller")
    with pytest.raises(CannotStart, match="--cluster-cidr"):
        configuration(parser().parse(["--kubeconfig=k", "--allocate-node-cidrs"]), parser())
    with pytest.raises(CannotStart, match="belong together"):
        configuration(parser().parse(["--kubeconfig=k", "--tls-cert-file=/k"]), parser())
    with pytest.raises(SystemExit, match="unrecognized feature gate: A"):
        parser().parse(["--feature-gates=A=true"])
    assert parser().parse(["--feature-gates=", "--kube-api-content-type="]).feature_gates == {}
    with pytest.raises(SystemExit, match="kube-api-content-type"):
        parser().parse(["--kube-api-content-type=application/cbor"])

"""Which devices claims get: upstream's cases, by what they mean, and pods with claims against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.scheduler.apicluster import ApiCluster, run
from tests.scheduler.world import node as plain_node
from tests.scheduler.world import pod
from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.client.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from tiphys.scheduler.devices.allocator import Allocator, Budget, NoAllocation, OutOfSteps
from tiphys.scheduler.devices.matching import Matches
from tiphys.scheduler.devices.pools import SliceIndex
from tiphys.scheduler.devices.requests import AllocationError
from tiphys.scheduler.devices.state import Known, Results

DRIVER = "gpu.example.com"


@dataclass
class Node:
    name: str = "n1"
    labels: Mapping[str, str] = field(default_factory=lambda: {"zone": "a"})


def device(name: str, capacity: Mapping[str, Any] | None = None, **more: Any) -> Object:
    attributes = {key: more.pop(key) for key in list(more) if isinstance(more[key], dict) and len(more[key]) == 1}
    made: Object = {"name": name, **more}
    if attributes:
        made["attributes"] = attributes
    if capacity:
        made["capacity"] = {k: v if isinstance(v, dict) else {"value": v} for k, v in capacity.items()}
    return made


def slice_of(
    name: str,
    *devices: Object,
    pool: str = "p",
    count: int = 1,
    generation: int = 1,
    driver: str = DRIVER,
    **place: Any,
) -> Object:
    spec: Object = {
        "driver": driver,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
        **(place or {"nodeName": "n1"}),
    }
    if devices:
        spec["devices"] = list(devices)
    return {"metadata": {"name": name}, "spec": spec}


def exactly(name: str = "r", count: int | None = None, **more: Any) -> Object:
    spec: Object = {"deviceClassName": "gpu", "allocationMode": "ExactCount", **more}
    if count is not None:
        spec["count"] = count
    if cel := spec.pop("cel", None):
        spec["selectors"] = [{"cel": {"expression": cel}}]
    return {"name": name, "exactly": spec}


def every(name: str = "r", **more: Any) -> Object:
    return exactly(name, allocationMode="All", **more)


def first(name: str, *alternatives: Object) -> Object:
    return {"name": name, "firstAvailable": [{"name": a["name"], **a["exactly"]} for a in alternatives]}


def claim(*requests: Object, name: str = "c", **devices: Any) -> Object:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"metadata": meta, "spec": {"devices": {"requests": list(requests), **devices}}}


def zone(name: str) -> Object:
    return {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [name]}]}]}


CLASSES: dict[str, Object] = {
    "gpu": {"metadata": {"name": "gpu"}, "spec": {}},
    "big": {
        "metadata": {"name": "big"},
        "spec": {
            "selectors": [{"cel": {"expression": f'device.attributes["{DRIVER}"].size > 10'}}],
            "config": [{"opaque": {"driver": DRIVER, "parameters": {"speed": 1}}}],
        },
    },
}


def results(*taken: str, pool: str = "p", **more: Any) -> list[Object]:
    return [{"driver": DRIVER, "pool": pool, "device": name, **more} for name in taken]


def allocate(
    slices: Sequence[Object],
    *claims: Object,
    taken: Sequence[Object] = (),
    node: Node | None = None,
    steps: int = 10_000,
) -> list[Object] | None:
    store = Store()
    for one in slices:
        store.put(one)
    budget = Budget(steps)
    allocator = Allocator(
        index=SliceIndex(store),
        given=Results(taken),
        device_class=CLASSES.get,
        new_id=lambda: "share",
        budget=budget,
        known_matches=Matches(),
    )
    return allocator.allocate(node or Node(), claims)


def given(*args: Any, **options: Any) -> list[list[str]] | None:
    """Names of the devices of each claim."""
    allocations = allocate(*args, **options)
    return None if allocations is None else [[r["device"] for r in a["devices"]["results"]] for a in allocations]


AB = [slice_of("s", device("a"), device("b"))]
SIZED = [slice_of("s", device("a", size={"int": 5}), device("b", size={"int": 50}))]
NUMAS = [slice_of("s", *(device(f"{n}{i}", numa={"int": n}, model={"string": "x"}) for n in (0, 1) for i in "ab"))]
SAME_NUMA = {"matchAttribute": f"{DRIVER}/numa"}
OTHER_NUMA = {"distinctAttribute": f"{DRIVER}/numa"}
BROKEN = {"key": "broken", "value": "yes", "effect": "NoSchedule"}
TOLERATED = {"key": "broken", "operator": "Exists"}
TAINTED = [slice_of("s", device("a", taints=[BROKEN]), device("b"))]
LIMITED = [
    slice_of(
        "counters", count=2, nodeName="n1", sharedCounters=[{"name": "m", "counters": {"mem": {"value": "10Gi"}}}]
    ),
    slice_of(
        "devices",
        *(
            device(n, consumesCounters=[{"counterSet": "m", "counters": {"mem": {"value": v}}}])
            for n, v in (("whole", "10Gi"), ("half-1", "5Gi"), ("half-2", "5Gi"), ("tiny", "1Gi"))
        ),
        count=2,
    ),
]
SHARED = [slice_of("s", device("a", {"mem": "10Gi"}, allowMultipleAllocations=True), device("b", {"mem": "2Gi"}))]


@pytest.mark.parametrize(
    ("slices", "claims", "wanted"),
    [
        ([], [claim(exactly())], None),
        (AB, [claim(exactly())], [["a"]]),
        (AB, [claim(exactly(count=2))], [["a", "b"]]),
        (AB, [claim(exactly(count=3))], None),
        (AB, [claim(exactly("x"), exactly("y"))], [["a", "b"]]),
        (AB, [claim(exactly(), name="one"), claim(exactly(), name="two")], [["a"], ["b"]]),
        (AB, [claim(exactly(count=2), name="one"), claim(exactly(), name="two")], None),
        (AB, [claim()], [[]]),
        (AB, [claim(every())], [["a", "b"]]),
        (AB, [claim(every("x"), exactly("y"))], None),
        ([], [claim(every())], None),
        (SIZED, [claim(exactly(cel='device.attributes["gpu.example.com"].size > 10'))], [["b"]]),
        (SIZED, [claim(exactly(deviceClassName="big"))], [["b"]]),
        (SIZED, [claim(exactly("any"), exactly("big", deviceClassName="big"))], [["a", "b"]]),
        (SIZED, [claim(exactly("big", deviceClassName="big"), exactly("any"))], [["b", "a"]]),
        (SIZED, [claim(every(cel='device.attributes["other"].missing == 1 || true'))], [["a", "b"]]),
        (SIZED, [claim(exactly("first", cel="true"), exactly("second", cel='"x" in device.attributes'))], None),
        # constraints
        (NUMAS, [claim(exactly(count=2), constraints=[SAME_NUMA])], [["0a", "0b"]]),
        (NUMAS, [claim(exactly(count=3), constraints=[SAME_NUMA])], None),
        (NUMAS, [claim(exactly(count=2), constraints=[OTHER_NUMA])], [["0a", "1a"]]),
        (NUMAS, [claim(exactly(count=3), constraints=[OTHER_NUMA])], None),
        (
            NUMAS,
            [claim(exactly("x"), exactly("y"), constraints=[{**OTHER_NUMA, "requests": ["x", "y"]}])],
            [["0a", "1a"]],
        ),
        (
            NUMAS,
            [claim(exactly("x", 2), exactly("y"), constraints=[{**SAME_NUMA, "requests": ["x"]}])],
            [["0a", "0b", "1a"]],
        ),
        (
            NUMAS,
            [claim(exactly(count=4), constraints=[{"matchAttribute": f"{DRIVER}/model"}])],
            [["0a", "0b", "1a", "1b"]],
        ),
        (NUMAS, [claim(exactly(count=2), constraints=[{"matchAttribute": "other/model"}])], None),
        # alternatives
        (SIZED, [claim(first("r", exactly("big", deviceClassName="big"), exactly("any")))], [["b"]]),
        (SIZED, [claim(first("r", exactly("two-big", 2, deviceClassName="big"), exactly("any")))], [["a"]]),
        (AB, [claim(first("r", exactly("three", 3), exactly("two", 2), exactly("one")))], [["a", "b"]]),
        (AB, [claim(first("r", exactly("two", 2), exactly("one"))), claim(exactly(), name="d")], [["a"], ["b"]]),
        (AB, [claim(first("r", exactly("many", 33), exactly("one")))], [["a"]]),
        # taints
        (TAINTED, [claim(exactly())], [["b"]]),
        (TAINTED, [claim(exactly(count=2))], None),
        (TAINTED, [claim(exactly(count=2, tolerations=[TOLERATED]))], [["a", "b"]]),
        (TAINTED, [claim(every())], None),
        ([slice_of("s", device("a", taints=[{**BROKEN, "effect": "None"}]))], [claim(exactly())], [["a"]]),
        # counters that devices of a pool share
        (LIMITED, [claim(exactly())], [["whole"]]),
        (LIMITED, [claim(exactly(count=2))], [["half-1", "half-2"]]),
        (LIMITED, [claim(exactly(count=3))], None),
        (LIMITED[1:], [claim(exactly())], None),
        # capacity that claims share
        (SHARED, [claim(exactly("x", capacity={"requests": {"mem": "6Gi"}}))], [["a"]]),
        (SHARED, [claim(exactly(n, capacity={"requests": {"mem": "6Gi"}}), name=n) for n in "xy"], None),
        (
            SHARED,
            [claim(exactly(n, capacity={"requests": {"mem": "2Gi"}}), name=n) for n in "xyz"],
            [["a"], ["a"], ["a"]],
        ),
        (SHARED, [claim(exactly("x"), exactly("y", capacity={"requests": {"mem": "1Gi"}}))], [["a", "b"]]),
        (SHARED, [claim(exactly(capacity={"requests": {"cores": "1"}}))], None),
        # administrators
        (AB, [claim(exactly("x", 2), exactly("y", adminAccess=True))], None),
        (AB, [claim(exactly(count=2), name="x"), claim(exactly(adminAccess=True), name="y")], [["a", "b"], ["a"]]),
    ],
)
def test_claims_get_their_devices(slices: list[Object], claims: list[Object], wanted: list[list[str]] | None) -> None:
    assert given(slices, *claims) == wanted


@pytest.mark.parametrize(
    ("slices", "wanted"),
    [
        ([slice_of("s", device("a"), nodeName="n2")], None),
        ([slice_of("s", device("a"), allNodes=True)], [["a"]]),
        ([slice_of("s", device("a"), nodeSelector=zone("a"))], [["a"]]),
        ([slice_of("s", device("a"), nodeSelector=zone("b"))], None),
        ([slice_of("s", device("a", nodeName="n2"), device("b", nodeName="n1"), perDeviceNodeSelection=True)], [["b"]]),
        ([slice_of("s", device("a"), count=2)], None),
        ([slice_of("s", device("a"), count=2), slice_of("t", device("b"), count=2, nodeName="n2")], [["a"]]),
        ([slice_of("old", device("a")), slice_of("new", device("b"), generation=2)], [["b"]]),
        ([slice_of("old", device("a")), slice_of("new", device("b"), generation=2, count=2)], None),
        ([slice_of("t", device("b"), count=2), slice_of("s", device("a"), count=2)], [["a"]]),
        ([slice_of("t", device("a"), pool="q"), slice_of("s", device("b"), pool="p")], [["b"]]),
        (
            [slice_of("s", device("a", bindingConditions=["Ready"]), pool="p"), slice_of("t", device("b"), pool="q")],
            [["b"]],
        ),
    ],
)
def test_devices_of_pools_that_a_node_reaches(slices: list[Object], wanted: list[list[str]] | None) -> None:
    assert given(slices, claim(exactly())) == wanted


@pytest.mark.parametrize(
    ("taken", "request_", "wanted"),
    [
        (results("a"), exactly(), [["b"]]),
        (results("a", "b"), exactly(), None),
        (results("a"), every(), None),
        (results("a"), exactly(adminAccess=True), [["a"]]),
        (results("a", adminAccess=True), exactly(), [["b"]]),
    ],
)
def test_what_others_have(taken: list[Object], request_: Object, wanted: list[list[str]] | None) -> None:
    assert given(AB, claim(request_), taken=taken) == wanted


def test_what_others_have_of_counters_and_capacity() -> None:
    assert given(LIMITED, claim(exactly()), taken=results("half-1")) == [["half-2"]]
    assert given(LIMITED, claim(exactly()), taken=results("half-1", "half-2")) is None
    share = results("a", shareID="s", consumedCapacity={"mem": "5Gi"})
    wanted = exactly(capacity={"requests": {"mem": "5Gi"}})
    assert given(SHARED, claim(wanted), taken=share) == [["a"]]
    assert given(SHARED, claim(wanted), taken=share * 2) is None


@pytest.mark.parametrize(
    ("policy", "asked", "consumed"),
    [
        ({}, None, "8Gi"),
        ({}, "3Gi", "3Gi"),
        ({"default": "1Gi"}, None, "1Gi"),
        ({"default": "2Gi", "validRange": {"min": "2Gi"}}, "1Gi", "2Gi"),
        ({"default": "2Gi", "validRange": {"min": "2Gi", "step": "2Gi"}}, "3Gi", "4Gi"),
        ({"default": "1Gi", "validRange": {"min": "1Gi", "max": "4Gi"}}, "5Gi", None),
        ({"default": "1Gi", "validValues": ["1Gi", "4Gi"]}, "2Gi", "4Gi"),
        ({"default": "1Gi", "validValues": ["1Gi", "4Gi"]}, "5Gi", None),
        ({}, "9Gi", None),
    ],
)
def test_how_much_a_request_uses(policy: Object, asked: str | None, consumed: str | None) -> None:
    amount: Object = {"value": "8Gi", **({"requestPolicy": policy} if policy else {})}
    slices = [slice_of("s", device("a", {"mem": amount}, allowMultipleAllocations=True))]
    wanted = exactly(**({"capacity": {"requests": {"mem": asked}}} if asked else {}))
    allocations = allocate(slices, claim(wanted))
    if consumed is None:
        assert allocations is None
        return
    assert allocations is not None
    [result] = allocations[0]["devices"]["results"]
    assert (result["consumedCapacity"], result["shareID"]) == ({"mem": consumed}, "share")


def test_the_allocation_says_all_that_a_driver_needs() -> None:
    own = {"opaque": {"driver": DRIVER, "parameters": {"color": "red"}}}
    other = {"requests": ["x/small"], "opaque": own["opaque"]}
    wanted = claim(
        first("x", exactly("large", deviceClassName="big", tolerations=[TOLERATED]), exactly("small")),
        exactly("y"),
        config=[own, other, {"requests": ["x"], **own}],
    )
    [allocation] = allocate(SIZED, wanted) or []
    assert allocation == {
        "devices": {
            "results": [
                {"request": "x/large", "driver": DRIVER, "pool": "p", "device": "b", "tolerations": [TOLERATED]},
                {"request": "y", "driver": DRIVER, "pool": "p", "device": "a"},
            ],
            "config": [
                {
                    "source": "FromClass",
                    "requests": ["x/large"],
                    "opaque": {"driver": DRIVER, "parameters": {"speed": 1}},
                },
                {"source": "FromClaim", **own},
                {"source": "FromClaim", "requests": ["x"], **own},
            ],
        },
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
        },
    }


def test_where_else_a_device_can_be_used() -> None:
    zones = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]}
    [allocation] = allocate([slice_of("s", device("a"), nodeSelector=zones)], claim(exactly())) or []
    assert allocation["nodeSelector"] == zones
    [allocation] = allocate([slice_of("s", device("a"), allNodes=True)], claim(exactly())) or []
    assert "nodeSelector" not in allocation
    [allocation] = allocate([slice_of("s", device("a", bindsToNode=True), allNodes=True)], claim(exactly())) or []
    assert allocation["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["n1"]


@pytest.mark.parametrize(
    ("slices", "wanted", "message"),
    [
        (AB, claim(exactly(deviceClassName="none")), "could not retrieve device class none"),
        (AB, claim(exactly(count=33)), "number of requested devices 33 exceeds the claim limit of 32"),
        (AB, claim(exactly(cel="device.size")), "claim default/c: selector #0: CEL compile error"),
        (AB, claim(exactly(cel='device.attributes["d"].x == 1')), "CEL runtime error: no such key: x"),
        (AB, claim(exactly(), constraints=[{}]), "constraint #0: empty constraint"),
        (NUMAS, claim(every(), constraints=[SAME_NUMA]), "because a claim constraint would not be satisfied"),
        ([slice_of("s", device("a"), count=2)], claim(every()), f"resource pool {DRIVER}/p is currently being updated"),
        ([slice_of("s", device("a"), device("a"))], claim(every()), f"resource pool {DRIVER}/p is currently invalid"),
    ],
)  # fmt: skip
def test_what_is_wrong_on_every_node(slices: list[Object], wanted: Object, message: str) -> None:
    with pytest.raises(AllocationError) as caught:
        allocate(slices, wanted)
    assert message in str(caught.value)


def test_an_invalid_pool_is_told_of_if_nothing_else_was_found() -> None:
    twice = slice_of("s", device("a"), device("a"))
    with pytest.raises(NoAllocation):
        allocate([twice], claim(exactly()))
    assert given([twice, slice_of("t", device("b"), pool="q")], claim(exactly())) == [["b"]]


def test_the_search_ends() -> None:
    many = [slice_of("s", *(device(f"d{n}", odd={"bool": n % 2 == 1}) for n in range(40)))]
    distinct = {"distinctAttribute": f"{DRIVER}/odd", "requests": ["last"]}
    hopeless = claim(exactly("some", 12), exactly("last", 3), constraints=[distinct])
    with pytest.raises(OutOfSteps):
        allocate(many, hopeless, steps=2_000)


def test_decisions_count_before_they_are_written_and_once() -> None:
    store = Store()
    stored = claim(exactly(), name="stored") | {"status": {"allocation": {"devices": {"results": results("a")}}}}
    store.put(stored)
    newer = {**stored, "status": {}}
    flying = claim(exactly(), name="flying") | {"status": {"allocation": {"devices": {"results": results("b")}}}}
    [a], [b] = (list(Results(results(name))._taken) for name in "ab")
    assert [Known(store, {}).is_taken(one) for one in (a, b)] == [True, False]
    decided = {"uid-stored": newer, "uid-flying": flying}
    assert [Known(store, decided).is_taken(one) for one in (a, b)] == [False, True]


# Pods against a real API server.


async def offer(cluster: ApiCluster, *slices: Object) -> None:
    described = {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", **CLASSES["gpu"]}
    await cluster.client.create(DEVICE_CLASSES, described)
    for one in slices:
        await cluster.client.create(
            RESOURCE_SLICES, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **one}
        )


async def ask(cluster: ApiCluster, made: Object, *pods: str) -> None:
    described = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", **made}
    described["metadata"].pop("uid")
    await cluster.client.create(RESOURCE_CLAIMS, described)
    for name in pods:
        entry = {"name": "r", "resourceClaimName": made["metadata"]["name"]}
        await cluster.pod(pod(name, resourceClaims=[entry]))


async def claimed(cluster: ApiCluster, name: str) -> Object:
    return await cluster.client.get(RESOURCE_CLAIMS, name, "default")


def test_a_pod_goes_where_its_device_is_and_the_claim_says_so() -> None:
    async def test(cluster: ApiCluster) -> None:
        for name in ("n0", "n1", "n2"):
            await cluster.node(plain_node(name))
        await offer(cluster, slice_of("s", device("a"), device("b")))
        await ask(cluster, claim(exactly(count=1), name="one"), "p", "q")
        assert [await cluster.bound("p"), await cluster.bound("q")] == ["n1", "n1"]  # they share it
        made = await claimed(cluster, "one")
        assert made["status"]["allocation"]["devices"]["results"][0]["device"] == "a"
        assert made["status"]["allocation"]["allocationTimestamp"]
        assert made["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
        assert {user["name"] for user in made["status"]["reservedFor"]} == {"p", "q"}
        await ask(cluster, claim(exactly(count=2), name="two"), "late")
        await cluster.until("late", lambda p: "cannot allocate all claims" in str(p.get("status")))
        await cluster.client.delete(PODS, "p", "default")
        await cluster.client.delete(PODS, "q", "default")
        made["status"] = {}
        await cluster.client.update_status(
            RESOURCE_CLAIMS, made | {"metadata": (await claimed(cluster, "one"))["metadata"]}
        )
        assert await cluster.bound("late") == "n1"

    run(test)


def test_many_pods_at_once_get_one_device_each() -> None:
    async def test(cluster: ApiCluster) -> None:
        names = [f"n{number}" for number in range(4)]
        slices = []
        for name in names:
            await cluster.node(plain_node(name))
            slices.append(slice_of(f"s-{name}", *(device(f"d{n}") for n in range(4)), pool=name, nodeName=name))
        await offer(cluster, *slices)
        for number in range(16):
            await ask(cluster, claim(exactly(count=1), name=f"c{number}"), f"p{number}")
        for number in range(16):
            await cluster.bound(f"p{number}")
        listed = (await cluster.client.list(RESOURCE_CLAIMS, "default"))["items"]
        devices = [r for c in listed for r in c["status"]["allocation"]["devices"]["results"]]
        assert len({(d["pool"], d["device"]) for d in devices}) == 16

    run(test)


def test_a_pod_waits_until_its_device_is_ready() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(plain_node("n1"))
        await offer(
            cluster, slice_of("s", device("a", bindingConditions=["Attached"], bindingFailureConditions=["Lost"]))
        )
        await ask(cluster, claim(exactly(count=1), name="one"), "p")
        async with asyncio.timeout(60):
            while "allocation" not in ((await claimed(cluster, "one")).get("status") or {}):
                await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        assert not (await cluster.get("p"))["spec"].get("nodeName")
        assert any(reason == "BindingConditionsPending" for reason, _ in await cluster.events("p"))
        made = await claimed(cluster, "one")
        now = "2026-01-01T00:00:00Z"
        ready = {"type": "Attached", "status": "True", "reason": "R", "message": "", "lastTransitionTime": now}
        made["status"]["devices"] = [{"driver": DRIVER, "pool": "p", "device": "a", "conditions": [ready]}]
        await cluster.client.update_status(RESOURCE_CLAIMS, made)
        assert await cluster.bound("p") == "n1"

    run(test)


def test_an_unused_allocation_in_the_way_is_let_go() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(plain_node("n2"))
        await offer(cluster, slice_of("s", device("a"), nodeName="n2"))
        made = claim(exactly(count=1), name="one")
        await ask(cluster, made)
        stored = await claimed(cluster, "one")
        selector = {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}]
        }
        allocation = {"devices": {"results": [{"request": "r", **results("z")[0]}]}, "nodeSelector": selector}
        await cluster.client.update_status(RESOURCE_CLAIMS, stored | {"status": {"allocation": allocation}})
        await cluster.pod(pod("p", resourceClaims=[{"name": "r", "resourceClaimName": "one"}]))
        assert await cluster.bound("p") == "n2"

    run(test)

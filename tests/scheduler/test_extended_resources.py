"""Extended resources behind which a DeviceClass stands: upstream's tables, and pods with a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.scheduler.apicluster import ApiCluster, run, scheduled
from tests.scheduler.test_device_allocation import DRIVER, device, slice_of
from tests.scheduler.world import World, node, pod
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Store
from tiphys.client.resources import DEVICE_CLASSES, NODES, RESOURCE_CLAIMS, RESOURCE_SLICES
from tiphys.scheduler.config import PluginSet, ProfileConfig, SchedulerConfig
from tiphys.scheduler.cycle import Failure
from tiphys.scheduler.devices.extended import class_behind, requests_and_mappings
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unschedulable

GPU, IMPLICIT = "example.com/gpu", "deviceclass.resource.kubernetes.io/"

Request = tuple[str, str, int]
Mapped = tuple[str, str, str]


def container(name: str, *, always: bool = False, **amounts: str) -> Object:
    """Amounts by the end of the resource's name; ``_Class`` stands for the implicit name of a class."""
    full = {(IMPLICIT + key[1:] if key[0] == "_" else GPU + key.removeprefix("x")): v for key, v in amounts.items()}
    return {
        "name": name,
        "resources": {"requests": full, "limits": full},
        **({"restartPolicy": "Always"} if always else {}),
    }


def spec(*containers: Object, init: tuple[Object, ...] = ()) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), "initContainers": list(init)}}


ONE = spec(container("con0", x="1", x1="2"))
TWO = spec(container("con0", x="1"), container("con1", x1="2"))
INIT = spec(container("con0", x="1"), init=(container("init-con0", xinit="2"),))
INIT2 = spec(container("con0", x="1"), init=(container("init-con0", xinit="1"), container("init-con1", xinit="2")))
SIDECAR = (
    container("init-con0", xinit="1"),
    container("sidecar-con1", always=True, xinit="1"),
    container("init-con2", xinit="2"),
)
INIT3 = spec(container("con0", x="1"), init=SIDECAR)
BOTH = spec(init=(container("init-con0", xinit="1", _classInit="2"),))
IMPLICIT_INIT = spec(
    container("con0", x="1"), init=(container("init-con0", xinit="1"), container("init-con1", _classInit="2"))
)
CLASS = {GPU: "class"}
CLASSES = {GPU: "class", GPU + "1": "class1"}
WITH_INIT = {GPU: "class", GPU + "init": "classInit", IMPLICIT + "classInit": "classInit"}


def computed(pod: Object, wanted: list[str], classes: Mapping[str, str]) -> tuple[list[Request], list[Mapped]]:
    def class_of(resource: str) -> Object | None:
        return {"metadata": {"name": classes[resource]}} if resource in classes else None

    requests, mappings = requests_and_mappings(pod, wanted, class_of)
    assert all(request["exactly"]["allocationMode"] == "ExactCount" for request in requests)
    return (
        [(r["name"], r["exactly"]["deviceClassName"], r["exactly"]["count"]) for r in requests],
        sorted((m["requestName"], m["containerName"], m["resourceName"]) for m in mappings),
    )


@pytest.mark.parametrize(
    ("pod", "wanted", "classes", "expected"),
    [
        (ONE, [], {}, []),
        (ONE, [GPU], CLASS, [("container-0-request-0", "class", 1)]),
        (ONE, [GPU, GPU + "1"], CLASS, [("container-0-request-0", "class", 1)]),
        (
            ONE,
            [GPU, GPU + "1"],
            CLASSES,
            [("container-0-request-0", "class", 1), ("container-0-request-1", "class1", 2)],
        ),
        (
            TWO,
            [GPU, GPU + "1"],
            CLASSES,
            [("container-0-request-0", "class", 1), ("container-1-request-0", "class1", 2)],
        ),
        (
            INIT,
            [GPU, GPU + "init"],
            WITH_INIT,
            [("container-0-request-0", "classInit", 2), ("container-1-request-0", "class", 1)],
        ),
        (
            INIT2,
            [GPU, GPU + "init"],
            WITH_INIT,
            [("container-1-request-0", "classInit", 2), ("container-2-request-0", "class", 1)],
        ),
        (
            INIT3,
            [GPU, GPU + "init"],
            WITH_INIT,
            [
                ("container-1-request-0", "classInit", 1),
                ("container-2-request-0", "classInit", 2),
                ("container-3-request-0", "class", 1),
            ],
        ),
    ],
)
def test_requests(pod: Object, wanted: list[str], classes: Mapping[str, str], expected: list[Request]) -> None:
    assert computed(pod, wanted, classes)[0] == expected


@pytest.mark.parametrize(
    ("pod", "classes", "expected"),
    [
        (ONE, CLASSES, [("container-0-request-0", "con0", GPU), ("container-0-request-1", "con0", GPU + "1")]),
        (TWO, CLASSES, [("container-0-request-0", "con0", GPU), ("container-1-request-0", "con1", GPU + "1")]),
        (
            INIT,
            WITH_INIT,
            [("container-0-request-0", "init-con0", GPU + "init"), ("container-1-request-0", "con0", GPU)],
        ),
        (
            INIT2,
            WITH_INIT,
            [
                ("container-1-request-0", "init-con0", GPU + "init"),
                ("container-1-request-0", "init-con1", GPU + "init"),
                ("container-2-request-0", "con0", GPU),
            ],
        ),
        (
            INIT3,
            WITH_INIT,
            [
                ("container-1-request-0", "init-con0", GPU + "init"),
                ("container-1-request-0", "sidecar-con1", GPU + "init"),
                ("container-2-request-0", "init-con2", GPU + "init"),
                ("container-3-request-0", "con0", GPU),
            ],
        ),
        (
            BOTH,
            WITH_INIT,
            [
                ("container-0-request-0", "init-con0", IMPLICIT + "classInit"),
                ("container-0-request-1", "init-con0", GPU + "init"),
            ],
        ),
        (
            IMPLICIT_INIT,
            WITH_INIT,
            [
                ("container-0-request-0", "init-con0", GPU + "init"),
                ("container-1-request-0", "init-con1", IMPLICIT + "classInit"),
                ("container-2-request-0", "con0", GPU),
            ],
        ),
    ],
)
def test_which_container_has_which_request(pod: Object, classes: Mapping[str, str], expected: list[Mapped]) -> None:
    assert computed(pod, list(classes), classes)[1] == expected


def device_class(name: str, resource: str = "", made: str = "2026-01-01T00:00:00Z") -> Object:
    more = {"extendedResourceName": resource} if resource else {}
    meta = {"name": name, "creationTimestamp": made}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": meta, "spec": more}


def test_the_class_behind_a_resource() -> None:
    store = Store()
    store.put(device_class("plain"))
    store.put(device_class("b", GPU))
    store.put(device_class("c", GPU))

    def behind(resource: str) -> str | None:
        found = class_behind(store, resource)
        return found["metadata"]["name"] if found else None

    assert behind(GPU) == "b"  # of the same second, the first by name
    store.put(device_class("old", GPU, made="2025-12-31T23:59:59Z"))
    assert behind(GPU) == "b"
    store.put(device_class("z", GPU, made="2026-01-01T00:00:01Z"))
    assert behind(GPU) == "z"
    store.put(device_class("z", "example.com/other"))
    assert (behind(GPU), behind("example.com/other"), behind(IMPLICIT + "z")) == ("b", "z", "z")
    assert (behind(IMPLICIT + "plain"), behind("example.com/none"), behind(IMPLICIT + "none")) == ("plain", None, None)
    store.remove(("", "b"))
    assert behind(GPU) == "c"


# -- a whole scheduler ------------------------------------------------------------------------------------------------


async def offer(cluster: ApiCluster, *slices: Object, resource: str = GPU, name: str = "gpu") -> None:
    described = device_class(name, resource)
    del described["metadata"]["creationTimestamp"]
    await cluster.client.create(DEVICE_CLASSES, described)
    for one in slices:
        await cluster.client.create(
            RESOURCE_SLICES, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **one}
        )


def asking(name: str, amount: str = "1", resource: str = GPU, **more: Any) -> Object:
    described = pod(name, requests={resource: amount, **more.pop("requests", {})}, **more)
    resources = described["spec"]["containers"][0]["resources"]
    resources["limits"] = dict(resources["requests"])
    return described


async def claims(cluster: ApiCluster) -> list[Object]:
    listed = await cluster.client.list(RESOURCE_CLAIMS, "default")
    return list(listed["items"])


def devices_of(claim: Object) -> list[str]:
    return [result["device"] for result in claim["status"]["allocation"]["devices"]["results"]]


@pytest.mark.parametrize("resource", [GPU, IMPLICIT + "gpu"])
def test_a_pod_gets_devices_by_a_claim_of_its_own(resource: str) -> None:
    async def test(cluster: ApiCluster) -> None:
        for name in ("n0", "n1"):
            await cluster.node(node(name))
        await offer(cluster, slice_of("s", device("a"), device("b"), device("c")))
        await cluster.pod(asking("p", "2", resource))
        assert await cluster.bound("p") == "n1"
        [made] = await claims(cluster)
        bound = await cluster.get("p")
        meta = made["metadata"]
        assert meta["name"].startswith("p-extended-resources-")
        assert meta["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
        assert meta["finalizers"] == ["resource.kubernetes.io/delete-protection"]
        [owner] = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Pod", "p", True)
        assert made["spec"]["devices"]["requests"] == [
            {
                "name": "container-0-request-0",
                "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2},
            }
        ]
        assert devices_of(made) == ["a", "b"]
        assert [user["uid"] for user in made["status"]["reservedFor"]] == [bound["metadata"]["uid"]]
        assert bound["status"]["extendedResourceClaimStatus"] == {
            "resourceClaimName": meta["name"],
            "requestMappings": [
                {"containerName": "main", "resourceName": resource, "requestName": "container-0-request-0"}
            ],
        }
        exposed = cluster.scheduler.figures.expose().decode()
        assert 'scheduler_resourceclaim_creates_total{status="success"} 1.0' in exposed

    run(test)


def test_a_node_that_has_a_device_plugin_gives_the_resource_itself() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("plugged", resources={GPU: "1"}))
        await offer(cluster)
        await cluster.pod(asking("p"))
        assert await cluster.bound("p") == "plugged"
        assert await claims(cluster) == []
        assert "extendedResourceClaimStatus" not in (await cluster.get("p"))["status"]
        await cluster.pod(asking("late"))  # the plugin has no second one, and no device is allocated on such a node
        refused = scheduled(await cluster.until("late", scheduled))
        assert refused is not None
        assert f"Insufficient {GPU}" in refused["message"]

    run(test)


def test_one_resource_by_a_plugin_and_one_by_a_class() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1", resources={GPU: "1", "example.com/nic": "0"}))
        await offer(cluster, slice_of("s", device("a")))
        await offer(cluster, resource="example.com/nic", name="nic")
        await cluster.pod(asking("p", requests={"example.com/nic": "1"}))
        assert await cluster.bound("p") == "n1"
        [made] = await claims(cluster)
        [request] = made["spec"]["devices"]["requests"]
        assert (request["name"], request["exactly"]["deviceClassName"]) == ("container-0-request-1", "nic")

    run(test)


def test_it_waits_for_a_class_and_for_devices() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(asking("p"))
        refused = scheduled(await cluster.until("p", scheduled))
        assert refused is not None
        assert f"Insufficient {GPU}" in refused["message"]
        await offer(cluster)
        await cluster.until("p", lambda p: "cannot allocate all claims" in (scheduled(p) or {}).get("message", ""))
        one = slice_of("s", device("a"))
        await cluster.client.create(
            RESOURCE_SLICES, {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **one}
        )
        assert await cluster.bound("p") == "n1"

    run(test)


def test_many_pods_at_once_have_each_their_own() -> None:
    async def test(cluster: ApiCluster) -> None:
        names = [f"n{number}" for number in range(3)]
        slices = [slice_of(f"s-{n}", *(device(f"d{i}") for i in range(4)), pool=n, nodeName=n) for n in names]
        for name in names:
            await cluster.node(node(name))
        await offer(cluster, *slices)
        for number in range(12):
            await cluster.pod(asking(f"p{number}"))
        for number in range(12):
            await cluster.bound(f"p{number}")
        results = [r for c in await claims(cluster) for r in c["status"]["allocation"]["devices"]["results"]]
        assert len({(r["pool"], r["device"]) for r in results}) == len(results) == 12

    run(test)


def test_a_claim_of_an_earlier_attempt_goes_first() -> None:
    async def test(cluster: ApiCluster) -> None:
        await offer(cluster, slice_of("s", device("a")))
        await cluster.pod(asking("p"))  # there is no node yet
        stored = await cluster.get("p")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": stored["metadata"]["uid"], "controller": True}
        exactly = {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}
        earlier: Object = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {
                "name": "earlier",
                "namespace": "default",
                "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
                "ownerReferences": [owner],
                "finalizers": ["resource.kubernetes.io/delete-protection"],
            },
            "spec": {"devices": {"requests": [{"name": "container-0-request-0", "exactly": exactly}]}},
        }
        made = await cluster.client.create(RESOURCE_CLAIMS, earlier)
        result = {"request": "container-0-request-0", "driver": DRIVER, "pool": "p", "device": "a"}
        made["status"] = {"allocation": {"devices": {"results": [result]}}}
        await cluster.client.update_status(RESOURCE_CLAIMS, made)
        await cluster.node(node("n1"))
        assert await cluster.bound("p") == "n1"
        [claim] = await claims(cluster)
        assert claim["metadata"]["name"].startswith("p-extended-resources-")
        with pytest.raises(errors.NotFound):
            await cluster.client.get(RESOURCE_CLAIMS, "earlier", "default")

    run(test)


class Refuses:
    """A plugin that refuses to bind, until it is told otherwise."""

    name = "Refuses"
    refuses = True
    asked = 0

    async def pre_bind(self, state: Any, pod: Any, node: str) -> Status | None:
        self.asked += 1
        return unschedulable("not now") if self.refuses else None

    def events(self) -> Any:
        return ()


def test_a_pod_that_is_not_bound_leaves_no_claim() -> None:
    plugin = Refuses()
    profile = ProfileConfig(plugins={"multiPoint": PluginSet(enabled=(("Refuses", 0),))})

    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await offer(cluster, slice_of("s", device("a")))
        await cluster.pod(asking("p"))
        async with asyncio.timeout(60):
            while not plugin.asked or await claims(cluster):
                await asyncio.sleep(0.05)
        plugin.refuses = False
        await cluster.node(node("n2"))
        changed = await cluster.client.get(NODES, "n1")
        changed["metadata"]["labels"]["again"] = "yes"
        await cluster.client.update(NODES, changed)
        assert await cluster.bound("p", 900) == "n1"
        [claim] = await claims(cluster)
        assert devices_of(claim) == ["a"]

    run(test, config=SchedulerConfig(profiles=(profile,)), plugins={"Refuses": lambda handle, arguments: plugin})


# -- scores -----------------------------------------------------------------------------------------------------------


def weighing(strategy: str) -> ProfileConfig:
    resources = [{"name": GPU, "weight": 1}]
    fit = {"scoringStrategy": {"type": strategy, "resources": resources}}
    return ProfileConfig(arguments={"NodeResourcesFit": fit})


@pytest.mark.parametrize(("strategy", "expected"), [("LeastAllocated", "empty"), ("MostAllocated", "half")])
def test_devices_count_as_what_a_node_has(strategy: str, expected: str) -> None:
    world = World([node("empty"), node("half"), node("none")], profile=weighing(strategy))
    slices = [
        slice_of(f"s-{name}", *(device(f"{name}{n}") for n in range(4)), pool=name, nodeName=name)
        for name in ("empty", "half")
    ]
    world.store("resourceslices", *slices)
    world.store("deviceclasses", device_class("gpu", GPU))
    taken = [{"request": "r", "driver": DRIVER, "pool": "half", "device": f"half{n}"} for n in (0, 1)]
    world.store(
        "resourceclaims",
        {
            "metadata": {"name": "c", "namespace": "default", "uid": "c"},
            "spec": {},
            "status": {"allocation": {"devices": {"results": taken}}},
        },
    )
    asked = asking("p")
    objections = world.objections(asked)
    assert {name for name, status in objections.items() if status is None} == {"empty", "half"}
    assert world.place(asked) == expected
    one_by_one = world.scores(asked)
    state, info = CycleState(), PodInfo(asked)
    world.framework.pre_filter(state, info)
    [fit] = [p for p, _ in world.framework.profile.score if p.name == "NodeResourcesFit"]
    rows = {entry.name: entry.row for entry in world.cache.table}
    import numpy as np

    at_once = fit.score_all(state, info, np.array([rows["empty"], rows["half"]]))  # type: ignore[attr-defined]
    entries = {entry.name: entry for entry in world.cache.table}
    assert list(at_once) == [fit.score(state, info, entries[name]) for name in ("empty", "half")]
    assert list(at_once) == ([75, 25] if strategy == "LeastAllocated" else [25, 75])
    assert max(("empty", "half"), key=lambda name: one_by_one[name]) == expected


def test_without_a_class_a_resource_that_no_node_has_is_missing() -> None:
    world = World([node("n1")])
    world.store("deviceclasses", device_class("other", "example.com/other"))
    assert isinstance(world.schedule(asking("p")), Failure)
    assert world.refusal(asking("p")).startswith(f"0/1 nodes are available: 1 Insufficient {GPU}.")

"""The scheduler against an API server: what it writes, and how it reacts to what changes there."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.scheduler.apicluster import ApiCluster, run, scheduled
from tests.scheduler.world import anti_affinity, node, pod
from tiphys.client.resources import NODES, PODS, SERVICE_ACCOUNTS
from tiphys.controlkit.leaderelection import LeaderElectionConfig
from tiphys.scheduler.config import PluginSet, ProfileConfig, SchedulerConfig
from tiphys.scheduler.framework.status import Code, Status


def test_a_pod_is_bound_and_an_event_says_so() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(pod("p"))
        assert await cluster.bound("p") == "n1"
        condition = scheduled(await cluster.get("p"))
        assert condition is not None
        assert condition["status"] == "True"
        await asyncio.sleep(1)
        assert await cluster.events("p") == [("Scheduled", "Successfully assigned default/p to n1")]

    run(test)


def test_an_unschedulable_pod_says_why_and_goes_when_it_can() -> None:
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: "
        "1 Preemption is not helpful for scheduling."
    )

    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("small", cpu="1"))
        await cluster.pod(pod("p", cpu="2"))
        found = await cluster.until("p", scheduled)
        condition = scheduled(found)
        assert condition is not None
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        assert condition["message"] == message
        await asyncio.sleep(1)
        assert await cluster.events("p") == [("FailedScheduling", message)]
        await cluster.node(node("large"))
        assert await cluster.bound("p") == "large"

    run(test)


def test_without_nodes_it_waits_for_one() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.pod(pod("p"))
        condition = scheduled(await cluster.until("p", scheduled))
        assert condition is not None
        assert condition["message"] == "no nodes available to schedule pods"
        await cluster.node(node("n1"))
        assert await cluster.bound("p") == "n1"

    run(test)


def test_a_pod_that_goes_makes_room() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1", cpu="1"))
        await cluster.pod(pod("first", cpu="1"))
        await cluster.bound("first")
        await cluster.pod(pod("second", cpu="1"))
        await cluster.until("second", scheduled)
        await cluster.client.delete(PODS, "first", "default", grace=0)
        assert await cluster.bound("second") == "n1"

    run(test)


def test_uncordoning_lets_pods_in() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1", unschedulable=True))
        await cluster.pod(pod("p"))
        await cluster.until("p", scheduled)
        await cluster.client.patch(NODES, "n1", {"spec": {"unschedulable": None, "taints": None}})
        assert await cluster.bound("p") == "n1"

    run(test)


def test_gates_hold_a_pod_until_they_are_taken_away() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(pod("p", schedulingGates=[{"name": "example.com/wait"}]))
        await asyncio.sleep(60)
        found = await cluster.get("p")
        assert "nodeName" not in found["spec"]
        await cluster.client.patch(PODS, "p", {"spec": {"schedulingGates": None}}, "default")
        assert await cluster.bound("p") == "n1"

    run(test)


def test_anti_affinity_holds_between_pods_that_are_created_together() -> None:
    async def test(cluster: ApiCluster) -> None:
        for i in range(3):
            await cluster.node(node(f"n{i}"))
        names = [f"p{i}" for i in range(3)]
        pods = [pod(name, labels={"app": "web"}, affinity=anti_affinity("web")) for name in names]
        await cluster.pod(pods[0])
        await asyncio.gather(*map(cluster.pod, pods[1:]))
        assert {await cluster.bound(name) for name in names} == {"n0", "n1", "n2"}

    run(test)


def test_preemption_evicts_and_takes_the_place() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1", cpu="1"))
        low = pod("low", cpu="1", terminationGracePeriodSeconds=0)
        await cluster.pod(low)
        await cluster.bound("low")
        high = pod("high", cpu="1", priorityClassName="system-node-critical", namespace="kube-system")
        high["spec"]["serviceAccountName"] = "none"
        high["metadata"].pop("uid")
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "none"}}
        await cluster.client.create(SERVICE_ACCOUNTS, account, namespace="kube-system")
        await cluster.client.create(PODS, high)
        deadline = cluster.clock.monotonic() + 60
        while True:
            found = await cluster.client.get(PODS, "high", "kube-system")
            if found["spec"].get("nodeName"):
                break
            victim = (await cluster.client.list(PODS, "default"))["items"]
            if victim and "deletionTimestamp" in victim[0]["metadata"]:
                reasons = {c["type"]: c.get("reason") for c in victim[0]["status"]["conditions"]}
                assert reasons["DisruptionTarget"] == "PreemptionByScheduler"
                assert found["status"]["nominatedNodeName"] == "n1"
                await cluster.client.delete(PODS, "low", "default", grace=0)
            assert cluster.clock.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert ("Preempted", f"Preempted by pod {found['metadata']['uid']} on node n1") in await cluster.events("low")

    run(test)


def test_a_pod_of_another_scheduler_is_left_alone() -> None:
    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(pod("theirs", schedulerName="theirs"))
        await cluster.pod(pod("ours"))
        assert await cluster.bound("ours") == "n1"
        assert "nodeName" not in (await cluster.get("theirs"))["spec"]

    run(test)


def test_only_the_holder_of_the_lease_schedules() -> None:
    config = SchedulerConfig(leader_election=LeaderElectionConfig("me", "kube-scheduler"))

    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(pod("p"))
        assert await cluster.bound("p") == "n1"

    run(test, config=config)


class Holder:
    """A permit plugin that holds pods until it is told; the kind that gang scheduling needs."""

    name = "Holder"

    def __init__(self) -> None:
        self.unreserved: list[str] = []

    def permit(self, state: Any, pod: Any, node: str) -> tuple[Status | None, float]:
        return Status(Code.WAIT), 5.0

    def reserve(self, state: Any, pod: Any, node: str) -> Status | None:
        return None

    def unreserve(self, state: Any, pod: Any, node: str) -> None:
        self.unreserved.append(pod.name)


def test_a_permit_plugin_holds_rejects_and_allows() -> None:
    holder = Holder()
    profile = ProfileConfig(plugins={"multiPoint": PluginSet(enabled=(("Holder", 0),))})

    async def test(cluster: ApiCluster) -> None:
        await cluster.node(node("n1"))
        await cluster.pod(pod("p"))
        condition = scheduled(await cluster.until("p", scheduled))
        assert condition is not None
        assert condition["message"] == (
            "0/1 nodes are available: 1 rejected due to timeout after waiting 5s at plugin Holder."
        )
        assert holder.unreserved == ["p"]
        uid = (await cluster.get("p"))["metadata"]["uid"]
        framework = cluster.scheduler._frameworks["default-scheduler"]
        while (waiting := framework.waiting.get(uid)) is None:
            await asyncio.sleep(0.5)
        waiting.allow("Holder")
        assert await cluster.bound("p") == "n1"

    run(test, config=SchedulerConfig(profiles=(profile,)), plugins={"Holder": lambda handle, arguments: holder})

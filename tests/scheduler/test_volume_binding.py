"""Claims that wait for their first consumer, against an API server: what is written, and what a wait holds up."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.scheduler.apicluster import ApiCluster, run, scheduled
from tests.scheduler.world import Object, node, pod
from tiphys.client.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    RESOURCE_CLAIMS,
    STORAGE_CLASSES,
)
from tiphys.scheduler.config import SchedulerConfig

SELECTED = "volume.kubernetes.io/selected-node"


def mounting(name: str, claim: str) -> Object:
    return pod(name, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])


async def storage(cluster: ApiCluster, *claims: str, provisioner: str = "kubernetes.io/no-provisioner") -> None:
    described = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "wait"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await cluster.client.create(STORAGE_CLASSES, described)
    for name in claims:
        await create_claim(cluster, name)


async def create_claim(cluster: ApiCluster, name: str) -> None:
    spec = {
        "storageClassName": "wait",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    meta = {"name": name, "namespace": "default"}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
    await cluster.client.create(PERSISTENT_VOLUME_CLAIMS, claim)


async def create_volume(cluster: ApiCluster, name: str) -> None:
    spec = {
        "storageClassName": "wait",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/x"},
    }
    described = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    made = await cluster.client.create(PERSISTENT_VOLUMES, described)
    await cluster.client.update_status(PERSISTENT_VOLUMES, made | {"status": {"phase": "Available"}})


async def bind(cluster: ApiCluster, claim: str, volume: str) -> None:
    """What the binder of claims does."""
    found = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, claim, "default")
    found["spec"]["volumeName"] = volume
    found["metadata"].setdefault("annotations", {})["pv.kubernetes.io/bind-completed"] = "yes"
    await cluster.client.update(PERSISTENT_VOLUME_CLAIMS, found)


async def until(condition: Any) -> Any:
    for _ in range(600):
        if (value := await condition()) is not None:
            return value
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come true")


def test_a_free_volume_is_promised_and_the_pod_bound_once_the_claim_is() -> None:
    async def test(cluster: ApiCluster) -> None:
        await storage(cluster, "c")
        await create_volume(cluster, "v")
        await cluster.node(node("n1"))
        await cluster.pod(mounting("p", "c"))

        async def promised() -> Object | None:
            volume = await cluster.client.get(PERSISTENT_VOLUMES, "v")
            reference: Object | None = volume["spec"].get("claimRef")
            return reference

        reference = await until(promised)
        assert (reference["namespace"], reference["name"]) == ("default", "c")
        assert not (await cluster.get("p"))["spec"].get("nodeName")
        await bind(cluster, "c", "v")
        assert await cluster.bound("p") == "n1"

    run(test)


def test_provisioning_is_asked_for_and_tried_again_when_it_fails() -> None:
    async def test(cluster: ApiCluster) -> None:
        await storage(cluster, "c", provisioner="csi.example.com")
        await cluster.node(node("n1"))
        await cluster.pod(mounting("p", "c"))

        async def asked() -> Object | None:
            claim = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "c", "default")
            return claim if SELECTED in claim["metadata"].get("annotations", {}) else None

        claim = await until(asked)
        assert claim["metadata"]["annotations"][SELECTED] == "n1"
        del claim["metadata"]["annotations"][SELECTED]  # the provisioner gives up
        await cluster.client.update(PERSISTENT_VOLUME_CLAIMS, claim)
        failed = await cluster.until("p", lambda pod: (scheduled(pod) or {}).get("reason") == "SchedulerError")
        condition = scheduled(failed)
        assert condition is not None
        assert condition["message"] == 'binding volumes: provisioning failed for PVC "c"'
        await until(asked)

    run(test)


def test_pods_that_wait_for_their_volumes_hold_up_no_others() -> None:
    async def test(cluster: ApiCluster) -> None:
        await storage(cluster, *(f"c{i}" for i in range(4)), provisioner="csi.example.com")
        await cluster.node(node("n1"))
        for i in range(4):
            await cluster.pod(mounting(f"waits-{i}", f"c{i}"))
        await cluster.pod(pod("plain"))
        assert await cluster.bound("plain") == "n1"

    run(test, config=SchedulerConfig(concurrent_bindings=2))


def test_a_claim_that_appears_lets_its_pod_go() -> None:
    async def test(cluster: ApiCluster) -> None:
        await storage(cluster)
        await cluster.node(node("n1"))
        await cluster.pod(mounting("p", "c"))
        condition = scheduled(await cluster.until("p", scheduled))
        assert condition is not None
        missing = '0/1 nodes are available: persistentvolumeclaim "c" not found. not found'
        assert (condition["reason"], condition["message"]) == ("Unschedulable", missing)
        await create_volume(cluster, "v")
        await create_claim(cluster, "c")

        async def promised() -> Any:
            return (await cluster.client.get(PERSISTENT_VOLUMES, "v"))["spec"].get("claimRef")

        await until(promised)
        await bind(cluster, "c", "v")
        assert await cluster.bound("p") == "n1"

    run(test)


def test_a_pod_that_is_deleted_while_its_volumes_are_made_frees_its_claim() -> None:
    async def test(cluster: ApiCluster) -> None:
        await storage(cluster, "c", provisioner="csi.example.com")
        await cluster.node(node("n1"))
        await cluster.pod(mounting("p", "c"))

        async def asked() -> Any:
            claim = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "c", "default")
            return claim["metadata"].get("annotations", {}).get(SELECTED)

        await until(asked)
        await cluster.client.delete(PODS, "p", "default", grace=0)

        async def nobody_waits() -> Any:
            return None if cluster.scheduler.handle.watching else True

        await until(nobody_waits)

    run(test)


def test_a_pod_with_an_allocated_resource_claim_is_put_down_as_its_user() -> None:
    async def test(cluster: ApiCluster) -> None:
        requests = [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]
        meta = {"name": "c", "namespace": "default"}
        described = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta}
        await cluster.node(node("n1"))
        await cluster.pod(pod("p", resourceClaims=[{"name": "r", "resourceClaimName": "c"}]))
        made = await cluster.client.create(RESOURCE_CLAIMS, described | {"spec": {"devices": {"requests": requests}}})
        results = [{"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"}]
        made["status"] = {"allocation": {"devices": {"results": results}}}
        await cluster.client.update_status(RESOURCE_CLAIMS, made)
        assert await cluster.bound("p") == "n1"
        users = (await cluster.client.get(RESOURCE_CLAIMS, "c", "default"))["status"]["reservedFor"]
        assert [(user["resource"], user["name"]) for user in users] == [("pods", "p")]

    run(test)
